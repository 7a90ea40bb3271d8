"""Commands in the findings: each works as it is printed, with the login that fanout used."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from fanout.checks.engine.catalogue import CATALOGUE
from fanout.checks.engine.definition import CheckFinding
from fanout.checks.engine.evaluation import judge_all_checks
from fanout.cli import parser
from fanout.model.suggested_commands import CommandBuilder
from tests.checks.changes import Fault
from tests.checks.faults import FAULTS
from tests.checks.kit import build_healthy_case

LOGINS = {f"gpu{number:02}": f"ssh -F /home/ann/cfg -p 22{number:02} ann@gpu{number:02}" for number in range(1, 5)}
COMMANDS = CommandBuilder(logins=LOGINS, ssh_config="/home/ann/cfg", source="hosts.txt")
_PROGRAM = re.compile(r"\(?(ssh|sudo|fanout(?= (?:stop|clean|check|run|ps|logs))|tar|scp|git|python3?|nc)\s")


def collect_findings(fault: Fault) -> list[CheckFinding]:
    case = fault.change(build_healthy_case())
    case = replace(case, request=replace(case.request, commands=COMMANDS))
    return [finding for finding in judge_all_checks(CATALOGUE, case) if finding.level in ("fail", "warn", "info")]


def find_commands(advice: str) -> Iterator[str]:
    """Yield the commands in an advice: two or more spaces surround each."""
    for unit in re.split(r" {2,}", advice):
        if _PROGRAM.match(unit):
            yield unit.strip("().")


def split_pipe(command: str) -> list[list[str]]:
    """Return the arguments of each program of a pipe; quoted text is one argument."""
    parts: list[list[str]] = [[]]
    for word in shlex.split(command):
        if word == "|":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts


def find_flags(advice: str) -> Iterator[str]:
    """Yield the flags of `fanout run` that the advice names. Those for a new container are flags of its engine."""
    own = re.sub(r"create (?:the )?container.* with  .*", "", advice)
    for unit in re.split(r" {2,}", own):
        if (
            re.match(r"--?[a-z]", unit)
            and "DIR" not in unit
            and "VALUE" not in unit
            and "$" not in unit
            and "NAME" not in unit
        ):
            yield unit.rstrip(",.;:")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)
def test_a_command_for_a_host_is_the_login_that_fanout_used(fault: Fault) -> None:
    """The command is never ssh with a bare name: another port, user or ssh_config would make it fail."""
    for finding in collect_findings(fault):
        for command in find_commands(finding.advice):
            for words in split_pipe(command):
                if words[0] == "ssh":
                    plain = [word for word in words if word != "-v"]
                    assert any(plain[:6] == shlex.split(login) for login in LOGINS.values()), command
                    assert len(plain) > 6, command
            assert "IFACE" not in command


@pytest.mark.process
def test_every_command_is_one_that_a_shell_can_read() -> None:
    """bash parses each command, and also the part that the host's shell receives."""
    commands = [
        command for fault in FAULTS for finding in collect_findings(fault) for command in find_commands(finding.advice)
    ]
    assert len(commands) > 100
    remote = [" ".join(words[6:]) for command in commands for words in split_pipe(command) if words[0] == "ssh"]
    for script in (*commands, *remote):
        done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), script


def test_every_fanout_command_and_flag_is_known() -> None:
    """The real parser of the command line accepts them."""
    seen = 0
    for fault in FAULTS:
        for finding in collect_findings(fault):
            for command in find_commands(finding.advice):
                if command.startswith("fanout "):
                    parser.parse_arguments(shlex.split(command)[1:])
                    seen += 1
            for flag in find_flags(finding.advice):
                parser.parse_arguments(["run", *shlex.split(flag), "hosts.txt", "task.py"])
                seen += 1
    assert seen > 10


def test_this_machine_needs_no_ssh() -> None:
    """The launcher's machine is one of the hosts."""
    here = replace(COMMANDS, here=frozenset({"gpu01"}))
    assert here.build_remote_command("gpu01", "ss -ltnp") == "ss -ltnp"
    assert here.copy_file("/p/a b.py", "gpu01", "gpu02") == (
        f"tar -C /p -c 'a b.py' | {LOGINS['gpu02']} 'mkdir -p /p && tar -C /p -x'"
    )


def test_arguments_for_a_remote_shell_are_quoted() -> None:
    """The host's shell interprets the pattern, the pipe and the variable."""
    assert COMMANDS.build_remote_command("gpu01", "du -s /x/* | sort") == f"{LOGINS['gpu01']} 'du -s /x/* | sort'"
    assert CommandBuilder().build_remote_command("gpu09", "uptime") == "ssh gpu09 uptime"
    assert COMMANDS.build_fanout_command("clean", hosts=True) == "fanout clean -F /home/ann/cfg hosts.txt"


@pytest.mark.parametrize(("verb", "words"), [("clean", ()), ("ps", ()), ("attach", ("20261129-120000-abcd",))])
def test_a_fanout_command_for_the_same_hosts_is_read_back_with_its_configuration(
    verb: str, words: tuple[str, ...]
) -> None:
    """The typed command reaches the hosts in the same way, also if HOSTS contains a space."""
    made = replace(COMMANDS, ssh_option=("Port=2222",), source="my hosts.txt").build_fanout_command(
        verb, *words, hosts=True
    )
    read = parser.parse_arguments(shlex.split(made)[1:])
    assert (read.verb, read.hosts) == (verb, "my hosts.txt")
    assert read.flags["ssh_config"] == "/home/ann/cfg"
    assert list(read.flags["ssh_option"]) == ["Port=2222"]
