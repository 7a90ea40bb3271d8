"""Judging: run each check's judge over all hosts, and handle missing facts and exceptions of a judge. Pure.

If a host's facts make a judge raise, the result for that host is unknown, which is a failure and never a pass.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterable
from dataclasses import replace

from fanout.checks.engine.definition import (
    Check,
    CheckContext,
    CheckFinding,
    CheckResult,
    SkipReason,
    fail,
    is_check_selected,
    ok,
    skip,
)
from fanout.checks.engine.machine_facts import look_from_machine
from fanout.model.answers import INVALID_PREFIX
from fanout.model.process_names import name_process

_PID = re.compile(r"\bpid (\d+)\b")
ON_MACHINE = "(on the machine)"  # follows a finding that is not about the container of the host
ADVICE = "run the check again; if it fails again, report it with the output of fanout check --json"


def judge_check(check: Check, case: CheckContext) -> tuple[CheckFinding, ...]:
    """Return the findings of one check: those of its judge, a skip for missing facts, ok for the other hosts."""
    unless = check.unless(case.request)
    if unless:
        return (_build_finding(check, skip(case.hosts, unless), case),) if case.hosts else ()
    case = look_from_machine(check, case)
    lacking = _find_missing_facts(check, case)
    allowed = {name: facts for name, facts in case.facts.items() if name not in lacking}
    verdicts = _run_judge(check, replace(case, facts=allowed)) if allowed or check.group == "ssh" else []
    reported = {name for verdict in verdicts for name in verdict.hosts} | set(lacking)
    quiet = tuple(name for name in case.hosts if name not in reported)
    by_reason: dict[tuple[str, SkipReason], list[str]] = {}
    for name, why in lacking.items():
        without_sandbox = "no-sandbox" in (case.reasons.get(name, {}).get(section) for section in check.needs)
        by_reason.setdefault((why, "no-sandbox" if without_sandbox else ""), []).append(name)
    verdicts += [skip(names, why, reason) for (why, reason), names in by_reason.items()]
    if quiet:
        verdicts.append(ok(quiet, ""))
    return tuple(_build_finding(check, verdict, case) for verdict in verdicts if verdict.hosts)


def _find_missing_facts(check: Check, case: CheckContext) -> dict[str, str]:
    """Return host -> why the facts that this check needs are missing."""
    lacking = {}
    for name in case.hosts:
        if not case.facts[name] and check.group != "ssh":
            lacking[name] = case.missing.get(name, {}).get("", "the host did not answer")
            continue
        for section in check.needs:
            if section not in case.facts[name]:
                lacking[name] = case.missing.get(name, {}).get(section, f"the host did not return its {section}")
                break
    return lacking


def _build_finding(check: Check, verdict: CheckResult, case: CheckContext) -> CheckFinding:
    is_inside = any(name in case.machines for name in verdict.hosts)
    return CheckFinding(
        check=check.name,
        group=check.group,
        level=verdict.level,
        hosts=verdict.hosts,
        saw=_name_place(check, verdict, case) if is_inside else verdict.saw,
        advice=verdict.advice,
        reason=verdict.reason,
        place=check.place if is_inside else "",
    )


def _name_place(check: Check, verdict: CheckResult, case: CheckContext) -> str:
    """Return what a judge saw, with its place: the machine, or the container to which the pids belong."""
    if verdict.level not in ("fail", "warn", "info"):
        return verdict.saw
    if check.place == "machine":
        return f"{verdict.saw} {ON_MACHINE}"
    container = case.get_host(verdict.hosts[0]).container or ""
    return _PID.sub(lambda found: name_process(found[1], container), verdict.saw)


def judge_all_checks(checks: Iterable[Check], case: CheckContext) -> tuple[CheckFinding, ...]:
    """Return the findings of all selected checks in order, and of the ``always`` checks if a host could not be judged."""
    lacking = bool(case.invalid or case.request.unreached)
    chosen = [check for check in checks if is_check_selected(check, case.request) or (check.always and lacking)]
    return tuple(finding for check in chosen for finding in judge_check(check, case))


def _run_judge(check: Check, case: CheckContext) -> list[CheckResult]:
    """Return the judge's verdicts. A host whose facts make it raise fails as unknown; the others are judged without it."""
    try:
        return list(check.judge(case))
    except Exception as error:  # noqa: BLE001 - the facts come from a host: any exception counts for that host
        why = _format_judge_error(check, error)
    guilty = {name: _find_judge_error(check, _restrict_to_hosts(case, [name])) for name in case.facts}
    culprits = [name for name, is_guilty in guilty.items() if is_guilty]
    others = [name for name in case.facts if name not in culprits]
    verdicts: list[CheckResult] = []
    try:
        verdicts = list(check.judge(_restrict_to_hosts(case, others))) if others and culprits else []
    except Exception:  # noqa: BLE001 - as above
        culprits = []
    return verdicts + [
        fail(name, f"unknown: {INVALID_PREFIX} ({guilty[name] or why})", ADVICE) for name in culprits or case.facts
    ]


def _restrict_to_hosts(case: CheckContext, names: Iterable[str]) -> CheckContext:
    return replace(case, facts={name: case.facts[name] for name in names})


def _find_judge_error(check: Check, case: CheckContext) -> str:
    """Return the exception that the judge raises on this case, as text; "" if it raises none."""
    try:
        list(check.judge(case))
        return ""
    except Exception as error:  # noqa: BLE001 - as above
        return _format_judge_error(check, error)


def _format_judge_error(check: Check, error: Exception) -> str:
    sections = ", ".join(check.needs) or "its facts"
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{sections}: {type(error).__name__}: {str(error)[:120]}, {where}"
