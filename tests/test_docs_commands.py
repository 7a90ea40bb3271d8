"""Commands of README and docs/: each one is valid, and those that need no training are run and their output compared."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.cli.command_table import COMMANDS
from fanout.cli.parser import HelpRequested, parse_arguments
from fanout.demo import embedded_lab
from fanout.model.errors import UsageError
from tests.sources import ROOT
from tests.test_docs import DOCUMENTS
from tests.ui.terminals import PATIENCE

_SPAN = re.compile(r"`fanout ([^`\n]*(?:\n[^`\n]+)?)`")
_BLOCK = re.compile(r"(?ms)^( *)```\w*\n(.*?)^ *```")
_PROMPT = re.compile(r"^\$ (?:.*\| )?fanout ", re.MULTILINE)
#: Forms of a command line, not commands: placeholders that no option takes.
FORMS = ("COMMAND", "TOPIC", "…", "...", "[")
#: Errors of a command line that the text shortens: the name of a command, or only its flags.
INCOMPLETE = re.compile(r"is missing|no command given|no log file given|arguments are required|expected one argument")
#: Commands that are run here, with the blocks that show them.
RUN = {
    "run --dry-run hosts.txt tasks/train_llada2_bd.py configs/sft/llada2_mini_bd_sft.yaml",
    "exec gpu[01-04] -- uptime",
    "exec gpu[01-04] -- uname -sr",
    "completion bash > ~/.local/share/bash-completion/completions/fanout",
    "completion zsh > ~/.zfunc/_fanout",
    "completion fish > ~/.config/fish/completions/fanout.fish",
    "export slurm hosts.txt train.py cfg.yaml > job.sh",
}
#: The others with the reason; the words are the beginning of the command.
NOT_RUN = {
    "check": "its table has figures of the machine; tests/lab/test_lab_check.py compares reports",
    "run": "it trains for minutes, or waits for a failure; the lab tests have these runs",
    "sync": "it needs hosts without a shared directory; tests/run/test_sync_command.py compares the output",
    "ps": "it lists the runs of the example before it; tests/lab/test_detach.py compares lists",
    "stop": "it ends the run of the example before it; tests/lab/test_detach.py does so",
    "clean": "it asks about files of a killed run; tests/lab/test_other_users.py has them",
    "stacks": "it needs ranks that hang; tests/diagnose/test_hang.py has them",
    "logs": "it prints the run of the example before it; tests/commands/test_logs.py compares lines",
    "report": "it prints a run with restarts; tests/commands/test_attempts_of_a_run.py does so",
    "rerun": "it repeats a run with restarts; tests/commands/test_rerun.py does so",
    "why": "it reads logs that only the example has; tests/diagnose/ compares verdicts",
    "notify": "it sends a message to a service; tests/notify/test_chat_services.py sends it to a local server",
}


def list_spans() -> list[tuple[str, str]]:
    """Return (page, words) of every fanout command line in running text."""
    found = []
    for page in DOCUMENTS:
        if page.name == "CHANGELOG.md":
            continue  # it names commands of earlier versions
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        found += [(page.name, " ".join(words.partition("|")[0].split())) for words in _SPAN.findall(text)]
    return found


def list_blocks() -> Iterator[tuple[str, str, str]]:
    """Yield (page, command, output that the page shows) of every command with a prompt."""
    for page in DOCUMENTS:
        for indent, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
            lines = [line.removeprefix(indent) for line in body.splitlines()]
            starts = [number for number, line in enumerate(lines) if line.startswith("$ ")] + [len(lines)]
            for first, following in itertools.pairwise(starts):
                if _PROMPT.match(lines[first]):
                    command = _PROMPT.sub("", lines[first])
                    yield page.name, command, "\n".join(lines[first + 1 : following]).strip("\n")


def test_every_command_in_running_text_is_valid() -> None:
    wrong = []
    for page, words in list_spans():
        if any(form in words for form in FORMS) or words.split()[0] in ("help", "--version"):
            continue
        try:
            parse_arguments(shlex.split(words))
        except HelpRequested:
            continue
        except UsageError as error:
            if not INCOMPLETE.search(str(error)):
                wrong.append(f"{page}: fanout {words}: {error}")
    assert not wrong
    assert len(list_spans()) > 100


def test_every_command_with_a_prompt_is_run_or_has_a_reason() -> None:
    commands = {command.split("#")[0].strip() for _, command, _ in list_blocks()}
    assert commands >= RUN
    assert {command.split()[0] for command in commands - RUN} == set(NOT_RUN)
    assert set(NOT_RUN) <= set(COMMANDS)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a project whose ssh configuration leads gpu01 to gpu04 to embedded hosts."""
    root = tmp_path_factory.mktemp("project")
    with embedded_lab.open_lab(root / ".demo", hosts=4) as lab:
        own = lab.ssh_config.read_text()
        for number, host in enumerate(lab.hosts, 1):  # the same hosts under the names of the pages
            own = own.replace(f"Host {host.name}\n", f"Host {host.name} gpu0{number}\n")
        own = own.replace("Host 127.0.0.* ", "Host 127.0.0.* gpu0? ").replace(
            "Host 127.0.0.*\n", "Host 127.0.0.* gpu0?\n"
        )
        (root / "ssh_config").write_text(own)
        (root / "fanout.toml").write_text('ssh-config = "ssh_config"\n')
        (root / "hosts.txt").write_text("192.168.1.1 slots=8\n192.168.1.2 slots=8\n")
        for name in (
            "tasks/train_llada2_bd.py",
            "configs/sft/llada2_mini_bd_sft.yaml",
            "train.sh",
            "train.py",
            "cfg.yaml",
        ):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("")
        yield root


def run_command(project: Path, command: str) -> str:
    """Run a command of a page in the project; return its output with the paths of the pages."""
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "HOME": str(project),
        "VIRTUAL_ENV": "/home/ann/venv",
        "LANG": "C.UTF-8",
    }
    program = f'fanout() {{ {shlex.quote(sys.executable)} -m fanout "$@"; }}; '
    quoted = command.replace("gpu[01-04]", "'gpu[01-04]'")
    for folder in (".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"):
        (project / folder).mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["bash", "-c", f"{program}fanout {quoted}"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode in (0, 127), done.stderr
    return done.stdout.replace(str(project), "/home/ann/dFactory")


def mask_figures(text: str) -> list[str]:
    """Return the lines without their numbers and times."""
    return [re.sub(r"\d[\d.:]*(?:-[a-z][\w.-]*)?", "N", line).rstrip() for line in text.splitlines()]


@pytest.mark.process
@pytest.mark.parametrize("command", sorted(RUN))
def test_output_of_a_command_is_that_of_the_page(project: Path, command: str) -> None:
    shown = [text for _, each, text in list_blocks() if each.split("#")[0].strip() == command]
    assert shown
    if ">" in command:
        assert run_command(project, command) == ""
        target = project / command.rpartition("> ")[2].replace("~/", "")
        assert "fanout" in target.read_text()
        return
    if command.endswith("uptime"):  # the page shows a host without the program
        command = "exec gpu[01-04] -- 'echo \" 12:01:03 up 3 days\"'"
        assert mask_figures(run_command(project, command))[0] == "gpu[N-N] (N)   N up N days"
        return
    real = mask_figures(run_command(project, command))
    for text in shown:
        lines = mask_figures(text)
        whole = lines[: lines.index("…")] if "…" in lines else lines
        assert real[: len(whole)] == whole
