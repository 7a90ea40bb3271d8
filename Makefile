# Two commands: `make demo` shows it, `make test` proves it. Both set up what they need in .venv first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint pure process browser lab projects bench options docs diagnosis restart-table restarts endurance faults-check cuts crashes races guards faults floods fuzz soak docker-faults instance-faults verdicts corpus metrics clean

demo:  # uses a torch that PYTHON, python3 or python already has; make demo FLAGS=--hello
	@./demo.sh "$(PYTHON)" "$(VENV)" $(FLAGS)

test: $(STAMP)-dev
	tests/run_tiers $(BIN)

lint: $(STAMP)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

pure process browser lab projects: $(STAMP)-dev
	tests/run_tiers $(BIN) $@

faults-check: $(STAMP)-dev  # every check's fault on real hosts, and healthy labs of every shape (root, some minutes)
	$(BIN)/python -m pytest -q -m lab tests/lab/test_lab_faults_of_check.py tests/lab/test_lab_check.py tests/lab/test_check_certain.py

verdicts: $(STAMP)-dev
	$(BIN)/python -m tests.lab.verdicts

corpus: $(STAMP)-dev  # the verdicts on the corpus of logs that are not right; make corpus ID=name prints one case
	$(BIN)/python -m tests.diagnose.corpus $(ID)

metrics: $(STAMP)-dev  # precision and recall of the metrics that fanout reads in lines of public libraries
	$(BIN)/python -m tests.logs.metric_corpus

bench: $(STAMP)-dev
	$(BIN)/python -m bench

options: $(STAMP)-dev  # write docs/options.md and the pages in man/ from the option table
	$(BIN)/python -m tests.cli.option_reference
	$(BIN)/python -m tests.cli.manual_page

docs: $(STAMP)-docs  # build the site of the documentation in site/; a dead link or a page without an entry is an error
	$(BIN)/mkdocs build --strict

diagnosis: $(STAMP)-dev  # write the tables of docs/diagnosis.md: levels, rules, doubts, sets of signatures
	$(BIN)/python -m tests.diagnose.evidence_reference

restart-table: $(STAMP)-dev  # write the tables of docs/restarts.md from fanout/recovery/failure_classes.py
	$(BIN)/python -m tests.recovery.class_reference

# The campaigns behind docs/reliability.md; faults, floods, guards and soak need root, as the lab does.

cuts: $(STAMP)-dev  # about 8 minutes
	FANOUT_SWEEP=1 $(BIN)/python -m pytest -q -s tests/sweeps/test_cuts.py tests/sweeps/test_attempt_cuts.py tests/sweeps/test_restart_cuts.py tests/sweeps/test_ssh_cuts.py

crashes: $(STAMP)-dev  # about 5 minutes
	FANOUT_SWEEP=1 $(BIN)/python -m pytest -q -s tests/sweeps/test_crashes.py

races: $(STAMP)-dev  # 200 seeded races of waiting runs; as root also between users
	$(BIN)/python -m tests.sharing.races

guards: $(STAMP)-dev  # about 5 minutes
	$(BIN)/python -m tests.guards

restarts: $(STAMP)-dev  # about 22 minutes
	$(BIN)/python -m tests.lab.restarts

endurance: $(STAMP)-dev  # about 12 minutes for a seed; make endurance SEED='7 8'
	$(BIN)/python -m tests.lab.endurance --seed $(or $(SEED),1)

faults: $(STAMP)-dev  # about 7 minutes, three labs side by side; make faults TRANSPORT=openssh
	$(BIN)/python -m tests.lab.campaign --labs 3 --transport $(or $(TRANSPORT),ssh)

floods: $(STAMP)-dev  # some minutes, and 6 GB below /var/tmp
	$(BIN)/python -m tests.lab.floods

fuzz: $(STAMP)-dev  # make fuzz SEED=7; 100,000 changed answers, frames and records: about 15 minutes
	$(BIN)/python -m tests.fuzz --mutations $(or $(MUTATIONS),100000) --seed $(or $(SEED),1)

soak: $(STAMP)-dev  # make soak SEED=7 MINUTES=30; FLAGS=--containers: each run in containers of podman
	$(BIN)/python -m tests.lab.soak --seed $(or $(SEED),1) --minutes $(or $(MINUTES),5) $(FLAGS)

docker-faults: $(STAMP)-dev  # about 6 minutes, needs dockerd; DOCKER_PROGRAMS=/unpacked/usr takes those of a package
	$(BIN)/python -m pytest -q -m campaign tests/lab/test_docker.py

instance-faults: $(STAMP)-dev  # about a minute: what no launcher can end ends by itself, with a stand-in for apptainer
	$(BIN)/python -m pytest -q -m campaign tests/lab/test_instances.py

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fanout needs Python 3.10 or later: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(STAMP)-train: pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train]'
	@touch $@

$(STAMP)-dev: pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	@touch $@ $(STAMP)-train

$(STAMP)-docs: pyproject.toml constraints.txt $(VENV)/bin/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .venv-demo .venv-projects build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
