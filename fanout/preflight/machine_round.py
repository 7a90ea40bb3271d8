"""Machine round: the questions to the own agents of hosts in containers, beside the first round of the check.

They are sent before the questions to the containers, and their answers are read after all other rounds. So the logins to
the machines delay the check only where one is slow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanout.checks.engine.definition import Check, CheckContext, CheckRequest, MachineAnswer
from fanout.checks.engine.machine_facts import list_container_hosts, list_machine_sections
from fanout.model.containers import get_engines
from fanout.model.hosts import Host
from fanout.model.rpc import MachineAsker, ProbeAnswer, ProbeRequest

_SECONDS, _WITHIN = 8.0, 5.0  # the connection's own time is added to the second


def post_machine_questions(
    request: CheckRequest, checks: Sequence[Check], machines: MachineAsker | None
) -> tuple[str, ...]:
    """Send the questions that the selected checks need; return the hosts that were asked."""
    hosts = list_container_hosts(request.reached_hosts) if machines is not None else []
    sections = list_machine_sections(checks, request) if hosts else []
    if machines is None or not sections:
        return ()
    machines.post([_build_question(request, host, sections) for host in hosts])
    return tuple(host.name for host in hosts)


def _build_question(request: CheckRequest, host: Host, sections: Sequence[str]) -> ProbeRequest:
    args = {
        "sections": list(sections),
        "container": host.container,
        "engines": list(get_engines(host)),
        "workdir": host.workdir or request.workdir,
        "paths": {"workdir": "."},
        "guard": _SECONDS - 1.0,
    }
    return ProbeRequest(host=host.name, what="facts", args=args, timeout=_SECONDS, within=_WITHIN)


def add_machine_answers(case: CheckContext, names: Sequence[str], machines: MachineAsker | None) -> CheckContext:
    """Return the case with what the machines of these hosts answered, or why they did not."""
    if machines is None or not names:
        return case
    found = zip(names, machines.take_answers(), strict=True)
    return replace(case, machines={name: _read_answer(answer) for name, answer in found})


def _read_answer(answer: ProbeAnswer) -> MachineAnswer:
    if answer.error or not isinstance(answer.value, Mapping):
        return MachineAnswer(error=answer.error or "its answer is malformed")
    return MachineAnswer(facts=answer.value, missing=answer.value.get("missing", {}))
