"""Checks of the software that a run needs: bash, torchrun, and the same Python and torch on all hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from shlex import quote
from typing import Any

from fanout.checks.compare import differing, nccl, numbers, outliers
from fanout.checks.model import Case, Check, Verdict, fail, info, ok, skip, warn
from fanout.hosts import fold

_LAUNCHERS = {"torchrun", "torch.distributed", "accelerate launch", "deepspeed"}
_STEERING = ("PET_", "TORCHELASTIC_")
_LOADED = {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "HF_HOME", "HF_HUB_OFFLINE"}
_TUNED = ("TORCH_", "CUDA_", "GLOO_", "OMP_", "MKL_")
_RANKS = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK"}


def _bash(case: Case) -> Iterator[Verdict]:
    for name, programs in case.of("programs").items():
        if programs["found"]["bash"]:
            yield ok(name, programs["found"]["bash"])
        else:
            yield fail(
                name,
                "no bash on PATH",
                f"train.sh runs under bash -o pipefail; install it:  {case.on(name, 'sudo apt install bash')}",
            )


def _venv(case: Case) -> Iterator[Verdict]:
    for name, programs in case.of("programs").items():
        if not programs["venv"]["exists"] and not case.request.venv_sure:
            yield info(name, f"{programs['venv']['dir']} does not exist: fanout uses the programs on the login's PATH")
        elif not programs["venv"]["exists"]:
            where = programs["elsewhere"]
            there = f"there is one at {_root(where[0])}" if where else "create it there, or omit --venv"
            yield fail(name, f"no virtual environment at {programs['venv']['dir']}", there)


def _torchrun(case: Case) -> Iterator[Verdict]:
    """Yield verdicts by the rehearsal; without one, by the PATH of the login and the changes of train.sh to it."""
    for name, programs in case.of("programs").items():
        calls = case.facts[name].get("rehearsal", {}).get("calls", ())
        yield _started(case, name, calls[-1]) if calls else _on_path(case, name, programs)


def _started(case: Case, name: str, call: Mapping[str, Any]) -> Verdict:
    """Return the verdict on the program that train.sh started in the rehearsal."""
    script, program = case.request.script, call["program"]
    if program == "task":
        return skip(name, f"{script} starts the task without torchrun")
    if not call["real"]:
        places = case.facts[name]["programs"]["elsewhere"] if program == "torchrun" else []
        return fail(name, f"{script} calls {program}, which is not on its PATH", _where(places))
    software = case.facts[name].get("software", {})
    module = call["python"] == call["real"] and software.get("of_run") and not software["torch"]
    if program == "torchrun" and module:
        return fail(
            name,
            f"{script} starts torch.distributed.run with {call['python']}, which has no torch",
            _where(case.facts[name]["programs"]["elsewhere"]),
        )
    return ok(name, call["real"])


def _on_path(case: Case, name: str, programs: Mapping[str, Any]) -> Verdict:
    """Return the verdict on torchrun on the login's PATH, if train.sh was not rehearsed."""
    script = case.facts[name].get("files", {}).get("script", {})
    mentions = set(script.get("mentions", ()))
    is_script = script.get("kind") == "file"
    if programs["found"]["torchrun"]:
        return ok(name, programs["found"]["torchrun"])
    if case.request.setup:
        return skip(name, "--setup changes PATH")
    if is_script and not mentions & _LAUNCHERS:
        return skip(name, f"{case.request.script} does not call torchrun itself")
    if is_script and script.get("activates"):
        why = "" if case.request.task else ": give a TASK to rehearse it"
        return skip(name, f"torchrun is not on the login's PATH; {case.request.script} may change PATH{why}")
    return fail(name, "torchrun is not on the PATH of a non-interactive login", _where(programs["elsewhere"]))


def _where(places: list[str]) -> str:
    if not places:
        return "it is in none of the usual directories: install torch there, or name its environment with  --venv DIR"
    more = f"   (also in {', '.join(map(_root, places[1:3]))})" if len(places) > 1 else ""
    return f"try  --venv {_root(places[0])}{more}"


def _root(program: str) -> str:
    """Return the environment of a program: ``/home/ann/venv/bin/torchrun`` -> ``/home/ann/venv``."""
    return program.rpartition("/bin/")[0] or "/"


def _interpreter(case: Case) -> Iterator[Verdict]:
    software = case.of("software")
    versions = {name: tuple(row["version"]) for name, row in software.items()}
    minors = {name: version[:2] for name, version in versions.items()}
    for odd in outliers(minors):
        where = {odd.value: software[odd.hosts[0]]["executable"], odd.usual: software[odd.others[0]]["executable"]}
        yield fail(
            odd.hosts,
            f"Python {odd.against(partial(_found, where))}",
            "use the same environment on all hosts:  --venv DIR",
        )
    if len(set(minors.values())) == 1:
        for patch in outliers(versions):
            yield info(patch.hosts, f"Python {patch.against(_dots)}")
    for name in (name for name in versions if _same(versions, name)):
        yield ok(name, f"{_dots(versions[name])}  {software[name]['executable']}")


def _found(where: Mapping[tuple[int, ...], str], version: tuple[int, ...]) -> str:
    return f"{_dots(version)} ({where[version]})"


def _same(values: Mapping[str, Any], name: str) -> bool:
    return all(value == values[name] for value in values.values())


def _dots(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _torch(case: Case) -> Iterator[Verdict]:
    found = {name: row["torch"] for name, row in case.of("software").items()}
    if not any(found.values()):
        yield skip(found, "no torch in the Python that was examined")
        return
    for name in (name for name, torch in found.items() if not torch):
        yield fail(
            name, f"no torch in {case.facts[name]['software']['executable']}",
            "the other hosts have it: use the same environment on all hosts with  --venv DIR",
        )  # fmt: skip
    versions = {name: str(torch["version"]) for name, torch in found.items() if torch}
    for odd in outliers(versions):
        first = odd.hosts[0]
        yield fail(
            odd.hosts, f"torch {odd.against()}",
            f"install the same version on all hosts:  {case.on(first, _pip_torch(case, first, odd.usual))}",
        )  # fmt: skip
    for name in (name for name in versions if _same(versions, name)):
        yield ok(name, versions[name])


def _pip_torch(case: Case, name: str, version: str) -> str:
    python = quote(case.facts[name]["software"]["executable"])
    return f"{python} -m pip install torch=={version.partition('+')[0]}"


def _nccl(case: Case) -> Iterator[Verdict]:
    if not case.of("gpu"):
        yield skip(case.hosts, "no GPU")
        return
    found = {name: nccl(row["packages"]) for name, row in case.of("software").items()}
    versions = {name: version for name, version in found.items() if version}
    for odd in outliers(versions):
        yield fail(
            odd.hosts, f"NCCL {odd.against()}", "NCCL refuses to mix versions: install the same torch on all hosts"
        )
    lacking = tuple(name for name in case.hosts if name not in versions)
    if lacking:
        yield skip(lacking, "no NCCL package beside torch")


def _known_bugs(case: Case) -> Iterator[Verdict]:
    """Yield findings for versions of torch and NCCL with known bugs."""
    for name, row in case.of("software").items():
        version = str(row["torch"].get("version") or "") if row["torch"] else ""
        if version.partition("+")[0] == "2.7.0":
            yield warn(
                name, f"torch {version} may hang in init_process_group(device_id=…)",
                "fixed in 2.7.1 (https://github.com/pytorch/pytorch/issues/153960): upgrade torch, or omit device_id",
            )  # fmt: skip
    found = {name: nccl(row["packages"]) for name, row in case.of("software").items() if "gpu" in case.facts[name]}
    alike = set(found.values()).pop() if len(set(found.values())) == 1 else ""  # ``_nccl`` reports mixed versions
    if () < numbers(alike, 3) < (2, 27, 3):
        yield info(
            tuple(found), f"NCCL {alike} ends if another program connects to its ports (for instance a port scanner)",
            "fixed in 2.27.3 (https://github.com/NVIDIA/nccl/issues/1612): upgrade torch, or exclude these hosts from port scans",
        )  # fmt: skip


def _packages(case: Case) -> Iterator[Verdict]:
    sets = {name: row["packages"] for name, row in case.of("software").items()}
    for odd in outliers(sets):
        lines = [
            f"{name} {odd.value.get(name, 'missing')} / {odd.usual.get(name, 'missing')}"
            for name in sorted(differing(odd.value, odd.usual))
        ]
        more = f", … {len(lines)} in all" if len(lines) > 4 else ""
        yield info(odd.hosts, f"packages differ from {fold(odd.others)} (here / there): {', '.join(lines[:4])}{more}")


def _environment(case: Case) -> Iterator[Verdict]:
    environments = case.of("environment")
    for name, environment in environments.items():
        steering = [key for key in environment if key.startswith(_STEERING)]
        if steering:
            yield warn(
                name, f"the login sets {' '.join(f'{key}={environment[key]}' for key in steering[:3])}, which torchrun uses",
                f"remove it from the login's files there:  {case.on(name, f'grep -rn {steering[0]} .bashrc .profile .ssh/environment /etc/environment')}",
            )  # fmt: skip
        ranks = sorted(_RANKS & set(environment))
        if ranks:
            yield warn(
                name, f"the login sets {' '.join(ranks)}: left over from another launcher",
                f"remove it from the login's files there:  {case.on(name, f'grep -n {ranks[0]} .bashrc .profile /etc/environment')}",
            )  # fmt: skip
    shared = {
        name: {
            k: v
            for k, v in environment.items()
            if k.startswith("NCCL_") and not k.endswith(("_IFNAME", "_HCA", "_HOSTID"))
        }
        for name, environment in environments.items()
    }
    for odd in outliers(shared):
        keys = sorted(differing(odd.value, odd.usual))
        yield warn(
            odd.hosts, odd.against(partial(_settings, keys)),
            f"NCCL needs the same value on all hosts: set it for all with  --env {keys[0]}=VALUE",
        )  # fmt: skip
    for odd in outliers({name: _of_libraries(environment) for name, environment in environments.items()}):
        keys = sorted(differing(odd.value, odd.usual))
        yield info(
            odd.hosts, f"the login sets {odd.against(partial(_settings, keys))}",
            f"set it for all with  --env {keys[0]}=VALUE   or for none",
        )  # fmt: skip


def _of_libraries(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that select and tune libraries, without those that other checks judge."""
    return {
        key: value
        for key, value in environment.items()
        if key in _LOADED or (key.startswith(_TUNED) and not key.endswith(("_VISIBLE_DEVICES", "_IFNAME")))
    }


def _settings(keys: list[str], environment: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={environment[key]}" if key in environment else f"{key} unset" for key in keys[:3])


CHECKS = (
    Check(
        name="bash", group="software", worst="fail", needs=("programs",),
        verifies="bash is on the PATH of the login.",
        why="train.sh runs under bash -o pipefail, so that `torchrun … | tee log.txt` cannot hide a failure.",
        fix="Install bash on the host.",
        judge=_bash,
    ),
    Check(
        name="venv", group="software", worst="fail", needs=("programs",),
        unless=lambda request: "" if request.venv else "no environment given",
        verifies="The directory of --venv is a virtual environment on every host.",
        why="Its bin/ comes first on the PATH of train.sh. Without it, train.sh finds another Python or none.",
        fix="Create the environment at the same path on every host, or omit --venv.",
        judge=_venv,
    ),
    Check(
        name="torchrun", group="software", worst="fail", needs=("programs",),
        verifies="train.sh finds torchrun: in the rehearsal, or else on the PATH of a non-interactive login with --venv.",
        why="“torchrun: not found” is the most common failure. Often ~/.bashrc returns early for a login without a "
        "terminal, so a script does not have the environment of your shell.",
        fix="Put an environment on PATH with --venv DIR, or activate it in train.sh.",
        judge=_torchrun,
    ),
    Check(
        name="interpreter", group="software", worst="fail", needs=("software",),
        verifies="The task's Python has the same minor version on every host.",
        why="Pickled objects and compiled extensions do not work across minor versions.",
        fix="Use the same environment on all hosts.",
        judge=_interpreter,
    ),
    Check(
        name="torch", group="software", worst="fail", needs=("software",),
        verifies="torch is installed in the task's Python, in the same version on every host (looked up, not imported).",
        why="Different versions use different protocols: hangs and “Mismatched NCCL version”.",
        fix="Install the same version with pip on all hosts.",
        judge=_torch,
    ),
    Check(
        name="nccl", group="software", worst="fail", needs=("software",),
        verifies="The NCCL package beside torch has the same version on every host.",
        why="NCCL refuses to start a group with mixed versions.",
        fix="Install the same torch on all hosts; it installs its NCCL.",
        judge=_nccl,
    ),
    Check(
        name="known-bugs", group="software", worst="warn", needs=("software",),
        verifies="torch is not a version that is known to hang when a process group is formed (2.7.0 with device_id). NCCL is not a "
        "version that ends when another program connects to its ports (before 2.27.3).",
        why="All ranks wait for the timeout, or a port scan ends the run, although nothing on the hosts is wrong.",
        fix="Upgrade torch.",
        judge=_known_bugs,
    ),
    Check(
        name="packages", group="software", worst="info", needs=("software",),
        verifies="All installed packages are the same on every host.",
        why="“It works on that host” is often one library of another version.",
        fix="Run pip freeze on one host, and pip install -r on the others.",
        judge=_packages,
    ),
    Check(
        name="environment", group="software", worst="warn", needs=("environment",),
        verifies="The login sets no option of torchrun and no rank, and NCCL settings are equal on all hosts. Different library paths and tuning variables are reported as notes.",
        why="PET_* are options of torchrun: one line in a host's profile changes how the run starts on that host only.",
        fix="Remove them from the host's profile. Set variables for all hosts with --env.",
        judge=_environment,
    ),
)  # fmt: skip
