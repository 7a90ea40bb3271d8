"""Check of the evidence that each host would leave after a failure: stacks, logs, core dumps. Pure."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from fanout.checks.engine.comparison import find_nccl_version, format_have, group_hosts_by_value, parse_version
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, info, ok
from fanout.checks.engine.machine_facts import get_machine_section

_RAS_FROM = (2, 24)  # the first NCCL with the RAS service on localhost:28028
_RECORDS_BY_ITSELF = (2, 13)  # since this torch the flight recorder keeps 2000 entries and writes them at a timeout
_RECORDS_FROM = (2, 4)

_SPY, _LOG, _CORES, _RAS, _FLIGHT = "py-spy", "kernel log", "core dumps", "NCCL's RAS", "torch's flight recorder"
_CURES = {
    _SPY: "pip install py-spy  into its environment, and  sudo sysctl kernel.yama.ptrace_scope=0",
    _LOG: "run  sudo sysctl kernel.dmesg_restrict=0  on it, or add the user to the group adm or systemd-journal",
    _CORES: "add  ulimit -c unlimited  to train.sh",
}


def _judge_evidence(case: CheckContext) -> Iterator[CheckResult]:
    """Yield a note for each host that would leave less evidence than another; equal hosts are ok.

    Other checks judge versions of torch and NCCL that differ.
    """
    gathered = {name: _find_missing_evidence(case, name) for name in case.hosts}
    lesser: set[str] = set()
    for kind, cure in _CURES.items():
        had = tuple(name for name, kinds in gathered.items() if kinds.get(kind) == "")
        reasons = {name: kinds[kind] for name, kinds in gathered.items() if kinds.get(kind)}
        for reason, hosts in group_hosts_by_value(reasons) if had else ():
            lesser |= set(hosts)
            yield info(
                hosts,
                f"no {kind} after a failure ({reason}); {format_have(had)} it",
                _choose_cure(case, hosts[0], kind, cure),
            )
    for name, kinds in gathered.items():
        if name not in lesser:
            yield ok(name, _summarize_evidence(kinds))


def _choose_cure(case: CheckContext, name: str, kind: str, cure: str) -> str:
    is_barred = kind == _SPY and case.facts[name]["programs"]["found"].get("py-spy")
    return case.choose_cure(name, "--cap-add SYS_PTRACE", cure) if is_barred else cure


def _summarize_evidence(kinds: Mapping[str, str]) -> str:
    had = ["ranks' stacks", *(kind for kind, reason in kinds.items() if not reason)]
    lacking = [f"{kind} ({reason})" for kind, reason in kinds.items() if reason]
    return f"after a failure: {', '.join(had)}" + (f"; not: {', '.join(lacking)}" if lacking else "")


def _find_missing_evidence(case: CheckContext, name: str) -> dict[str, str]:
    """Return kind of evidence -> why this host would not have it ("" if it would). Kinds that do not apply are absent."""
    facts = case.facts[name]
    kernel, packages, torch = facts["kernel"], facts["software"]["packages"], facts["software"]["torch"]
    environment = {**facts["environment"], **case.request.env}
    log = get_machine_section(case, "kernel").get(name, kernel)  # a failed run reads it there
    kinds = {
        _SPY: _explain_missing_py_spy(facts),
        _LOG: log["log_barred"],
        _CORES: _explain_missing_core_dump(kernel["core_pattern"], facts["limits"]["core"]),
    }
    version = find_nccl_version(packages)
    if version and torch.get("cuda"):
        kinds[_RAS] = _explain_missing_ras(version, environment)
        kinds[_FLIGHT] = _explain_missing_flight_recorder(parse_version(torch.get("version")), environment)
    return kinds


def _explain_missing_py_spy(facts: Mapping[str, Any]) -> str:
    if not facts["programs"]["found"].get("py-spy"):
        return "not installed"
    scope = facts["kernel"]["ptrace_scope"]  # "" where the kernel has no Yama; only 3 binds CAP_SYS_PTRACE
    may_trace = facts["user"].get("may_trace", not facts["user"]["uid"])
    return f"kernel.yama.ptrace_scope={scope}" if scope > ("2" if may_trace else "0") else ""


def _explain_missing_core_dump(pattern: str, limit: int) -> str:
    """Return why there would be no core dump. A program in core_pattern ignores the limit; a file is limited by it."""
    if pattern.startswith("|"):
        program = pattern[1:].split()[:1]
        return f"core_pattern is {pattern}" if os.path.basename("".join(program)) in ("", "false", "true") else ""
    return "" if limit else "ulimit -c 0"


def _explain_missing_ras(version: str, environment: Mapping[str, str]) -> str:
    if environment.get("NCCL_RAS_ENABLE") == "0":
        return "NCCL_RAS_ENABLE=0"
    return "" if parse_version(version) >= _RAS_FROM else f"NCCL {version}; from 2.24 on"


def _explain_missing_flight_recorder(torch: tuple[int, ...], environment: Mapping[str, str]) -> str:
    sizes = [environment.get(name) for name in ("TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE")]
    given = next((size for size in sizes if size is not None), None)
    if given is not None:
        return "" if given.isdigit() and int(given) else "its buffer's size is exported as 0"
    if torch >= _RECORDS_BY_ITSELF:
        return ""
    if torch < _RECORDS_FROM:
        return "torch 2.4 and later"
    return f"off by default in torch {torch[0]}.{torch[1]}"


CHECKS = (
    Check(
        name="evidence", group="system", worst="info",
        needs=("kernel", "limits", "user", "environment", "programs", "software"), outside=("kernel",),
        verifies="A failure would leave the same evidence on every host: stacks by py-spy, the kernel log, core dumps, NCCL's "
        "RAS service (2.24 or later) and torch's flight recorder. The report lists what would be missing on all hosts.",
        why="A hang or crash after two days can be explained only by data that was collected in its last seconds.",
        fix="py-spy: pip install py-spy, and sysctl kernel.yama.ptrace_scope=0. Kernel log: sysctl kernel.dmesg_restrict=0, or "
        "the group adm or systemd-journal. Core dumps: ulimit -c unlimited in train.sh. Flight recorder: --env "
        "TORCH_NCCL_TRACE_BUFFER_SIZE=2000 --env TORCH_NCCL_DUMP_ON_TIMEOUT=1.",
        judge=_judge_evidence,
    ),
)  # fmt: skip
