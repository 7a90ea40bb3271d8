"""Machine facts: for hosts in containers, what the host's own agent answers instead of the agent in the container. Pure.

A check of the place "machine" is judged with these facts. Other sections stay those of the container. If the own agent
did not answer, these sections are missing, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from fanout.checks.engine.definition import (
    Check,
    CheckContext,
    CheckRequest,
    CheckResult,
    MachineAnswer,
    is_check_selected,
    skip,
)
from fanout.model.hosts import Host
from fanout.model.suggested_commands import CommandBuilder


def list_machine_sections(checks: Iterable[Check], request: CheckRequest) -> list[str]:
    """Return the sections that the selected checks need from the own agents of hosts in containers."""
    names: dict[str, None] = {}
    for check in checks:
        if is_check_selected(check, request) and not check.unless(request):
            names |= dict.fromkeys(check.needs if check.place == "machine" else check.outside)
    return list(names)


def list_container_hosts(hosts: Iterable[Host]) -> list[Host]:
    """Return the hosts whose run is in a container."""
    return [host for host in hosts if host.container or host.image]


def explain_missing(answer: MachineAnswer, section: str) -> str:
    """Return why the machine's agent did not return a section."""
    if answer.error:
        return f"not verified on the machine: {answer.error}"
    return answer.missing.get(section, f"the machine's agent did not return its {section}")


def get_machine_section(case: CheckContext, section: str) -> dict[str, Any]:
    """Return one section of what the machines of hosts in containers answered, by host."""
    answers = {name: case.machines[name] for name in case.hosts if name in case.machines}
    return {name: answer.facts[section] for name, answer in answers.items() if section in answer.facts}


def skip_without_machine(case: CheckContext, section: str) -> Iterator[CheckResult]:
    """Yield a skip for each host whose machine did not return a section, and for the hosts without a container."""
    yield skip([name for name in case.hosts if name not in case.machines], "")
    for name, answer in case.machines.items():
        if name in case.hosts and section not in answer.facts:
            yield skip(name, explain_missing(answer, section))


def look_from_machine(check: Check, case: CheckContext) -> CheckContext:
    """Return the case with the facts that a check needs from the machines; its commands run outside of containers."""
    if check.place != "machine" or not case.machines:
        return case
    facts = {name: dict(row) for name, row in case.facts.items()}
    missing = {name: dict(row) for name, row in case.missing.items()}
    for name, answer in case.machines.items():
        for section in check.needs if facts.get(name) else ():
            if section in answer.facts:
                facts[name][section] = answer.facts[section]
                continue
            facts[name].pop(section, None)
            missing.setdefault(name, {})[section] = explain_missing(answer, section)
    request = replace(case.request, commands=leave_containers(case.request.commands))
    return replace(case, request=request, facts=facts, missing=missing)


def leave_containers(commands: CommandBuilder) -> CommandBuilder:
    """Return the builder whose commands run on the machines, and never in a container."""
    return replace(commands, containers={})
