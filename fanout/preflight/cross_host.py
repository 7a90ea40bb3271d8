"""Later rounds of the check: questions that need the first answers (shared directory, rehearsal, the Python of a run).

Each adds a section to the facts of the hosts, or the reason why it is missing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from fanout.checks.engine.definition import Check, CheckContext, is_check_selected
from fanout.checks.rehearsal.launchers import describe_launchers
from fanout.model.credentials import hide_values
from fanout.model.hosts import Host
from fanout.model.plan import LaunchPlan, NodePlan
from fanout.model.rpc import WAVE, Asker, ProbeAnswer, ProbeRequest
from fanout.model.task_words import get_program
from fanout.remote import protocol

_SHARE_SECONDS = 15.0
_REHEARSAL_SECONDS = 12.0


def is_section_needed(case: CheckContext, checks: Iterable[Check], section: str) -> bool:
    """Return whether any check that will be judged needs this section."""
    return any(
        section in check.needs
        for check in checks
        if is_check_selected(check, case.request) and not check.unless(case.request)
    )


def probe_shared_directory(case: CheckContext, asker: Asker) -> CheckContext:
    """Write a token file into each host's work directory, ask each host which tokens it sees, and delete them."""
    names = [name for name in case.hosts if _is_workdir_writable(case.facts[name])]
    nonce = secrets.token_hex(8)
    asks = []
    for index, name in enumerate(names):
        args = {"workdir": _get_workdir(case, name), "nonce": nonce, "index": index, "count": len(names)}
        seconds = _SHARE_SECONDS * (1 if len(names) <= WAVE else 6)
        asks.append(ProbeRequest(host=name, what="share", args=args, timeout=seconds, holds=True))
    left = asker.ask(asks)
    try:
        seen = asker.ask(
            [
                replace(ask, what="shared", holds=False)
                for ask, answer in zip(asks, left, strict=True)
                if not answer.error
            ]
        )
    finally:
        for name, answer in zip(names, left, strict=True):
            if answer.handle:
                asker.cancel(name, answer.handle)
    answers = dict(zip(names, left, strict=True))
    answers.update(zip((name for name in names if not answers[name].error), seen, strict=True))
    here = {
        name: {
            "hosts": [names[number] for number in answer.value["seen"] if number < len(names)],
            "seconds": answer.value["seconds"],
        }
        for name, answer in answers.items()
        if not answer.error
    }
    why = {
        name: answers[name].error if name in answers else "the work directory cannot be written to"
        for name in case.hosts
    }
    return _add_section(case, "share", here, why)


def _is_workdir_writable(facts: Mapping[str, Any]) -> bool:
    row = facts.get("files", {}).get("workdir", {})
    return row.get("kind") == "directory" and bool(row["writable"] and row["searchable"])


def _get_workdir(case: CheckContext, name: str) -> str:
    return case.get_host(name).workdir or case.request.workdir


def rehearse_script(case: CheckContext, asker: Asker, plan: Callable[[], LaunchPlan | str]) -> CheckContext:
    """Run the script in a sandbox on every host that has it, with the environment and arguments of a run."""
    scripts = {name: row.get("script", {}).get("kind") == "file" for name, row in case.get_section("files").items()}
    names = [name for name in case.hosts if scripts.get(name)]
    why = dict.fromkeys(case.hosts, f"no {case.request.script}")
    made = plan() if names else ""
    if not isinstance(made, str) and case.request.script not in made.nodes[0].needs:
        made = f"the run starts torchrun itself: {case.request.script} is not here"
    if isinstance(made, str):
        return _add_section(case, "rehearsal", {}, {**why, **dict.fromkeys(names, made)})
    nodes = {node.host.name: node for node in made.nodes}
    asks = []
    for name in names:
        node = nodes[name]
        args = {
            "argv": list(node.argv),
            "env": protocol.encode_environment(node),
            "cwd": node.cwd,
            "task": get_program(made.task),
            "launchers": describe_launchers(),
        }
        asks.append(ProbeRequest(host=name, what="rehearse", args=args, timeout=_REHEARSAL_SECONDS))
    answers: dict[str, ProbeAnswer] = dict(zip(names, asker.ask(asks), strict=True))
    given = {name: {**_select_exports(nodes[name]), "task": list(made.task)} for name in names}
    here = {
        name: {**_without_values(answer.value, nodes[name]), "given": given[name]}
        for name, answer in answers.items()
        if not answer.error
    }
    case = _add_section(case, "rehearsal", here, {**why, **{name: answer.error for name, answer in answers.items()}})
    reasons = {name: dict(row) for name, row in case.reasons.items()}
    for name, answer in answers.items():
        reasons.setdefault(name, {})["rehearsal"] = answer.reason
    return replace(case, reasons=reasons)


def _without_values(played: Mapping[str, Any], node: NodePlan) -> dict[str, Any]:
    """Return what was seen with names for the values of the user in what the script printed, as ``set -x`` does."""
    values = {name: value for name, value in node.env if name in node.private and isinstance(value, str)}
    words = hide_values(played["words"], values)
    return {**played, "words": words, "errors": [hide_values(error, values) for error in played.get("errors", ())]}


def recollect_code(case: CheckContext, asker: Asker, questions: Callable[[Host], Mapping[str, Any]]) -> CheckContext:
    """Collect the files themselves on all hosts, if some have a git clone and others a plain copy."""
    trees = case.get_section("tree")
    if len({"head" in tree for tree in trees.values()}) < 2:
        return case
    hosts = [case.get_host(name) for name, tree in trees.items() if "head" in tree]
    asks = [
        ProbeRequest(host=h.name, what="tree", args={**questions(h), "plain": True}, timeout=_SHARE_SECONDS)
        for h in hosts
    ]
    facts = dict(case.facts)
    for ask, answer in zip(asks, asker.ask(asks), strict=True):
        if not answer.error:
            facts[ask.host] = {**facts[ask.host], "tree": answer.value}
    return replace(case, facts=facts)


def examine_rehearsed_python(
    case: CheckContext, asker: Asker, questions: Callable[[Host], Mapping[str, Any]]
) -> CheckContext:
    """Examine the Python that train.sh started in the rehearsal, if it is not that of the login."""
    calls = {name: row["calls"][-1] for name, row in case.get_section("rehearsal").items() if row["calls"]}
    asks, facts = [], dict(case.facts)
    for host in case.request.hosts:
        call = calls.get(host.name)
        if call is None or not call["python"]:
            continue
        software = facts[host.name].get("software")
        roots = [folder for folder in call["env"].get("PYTHONPATH", "").split(":") if folder]
        if software and not roots and _get_directory(software["executable"]) == _get_directory(call["python"]):
            facts[host.name] = {**facts[host.name], "software": {**software, "of_run": True}}
            continue
        args = {**questions(host), "python": call["python"], "roots": [*roots, call["cwd"]]}
        asks.append(ProbeRequest(host=host.name, what="software", args=args, timeout=_REHEARSAL_SECONDS))
    missing = {name: dict(row) for name, row in case.missing.items()}
    for ask, answer in zip(asks, asker.ask(asks) if asks else (), strict=True):
        if answer.error:
            facts[ask.host] = {name: row for name, row in facts[ask.host].items() if name != "software"}
            missing.setdefault(ask.host, {})["software"] = f"the Python that train.sh starts: {answer.error}"
        else:
            facts[ask.host] = {**facts[ask.host], "software": {**answer.value, "of_run": True}}
    return replace(case, facts=facts, missing=missing)


def _get_directory(program: str) -> str:
    return program.rpartition("/")[0]


def _select_exports(node: NodePlan) -> dict[str, str]:
    names = ("NNODES", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "NPROC_PER_NODE")
    return {name: value for name, value in node.env if name in names and isinstance(value, str)}


def _add_section(case: CheckContext, section: str, here: Mapping[str, Any], why: Mapping[str, str]) -> CheckContext:
    """Return ``case`` with one more section, or the reason why it is missing, for each host that answered."""
    facts = {name: {**row, section: here[name]} if name in here else row for name, row in case.facts.items()}
    missing = {name: dict(row) for name, row in case.missing.items()}
    for name in case.hosts:
        if case.facts[name] and name not in here:
            missing.setdefault(name, {})[section] = why[name]
    return replace(case, facts=facts, missing=missing)
