"""Cause folding: replace findings that follow from another finding on the same host by a reference to it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from fanout.checks.engine.definition import CheckFinding, Level

_FILES = frozenset({"script", "task", "config", "writable", "code", "shared", "imports", "syntax", "batch", "mount"})
_BAD: tuple[Level, ...] = ("fail", "warn")

#: cause -> the checks that fail as a consequence, if the cause fails or warns on the same host
_FOLLOWS: Mapping[str, frozenset[str]] = {
    "workdir": _FILES | {"script-starts", "torchrun"},
    "file-server": _FILES | {"workdir", "data", "output", "stuck"},
    "clock": frozenset({"file-times"}),
    "torchrun": frozenset({"script-starts", "torch", "interpreter", "imports"}),
    "task": frozenset({"syntax", "imports"}),
    "script": frozenset({"script-starts", "script-python", "passes-on", "exit-status", "torchrun"}),
    "script-starts": frozenset({"torchrun"}),
    "same-machine": frozenset({"shared", "master-port", "hostname", "gpu-once"}),
}


def fold_consequences(findings: Sequence[CheckFinding]) -> tuple[CheckFinding, ...]:
    """Return the findings without consequences of another one; their hosts are reported as skipped."""
    causes: dict[str, dict[str, str]] = {}
    for finding in findings:
        if finding.level in _BAD and finding.check in _FOLLOWS:
            for host in finding.hosts:
                for name in _FOLLOWS[finding.check]:
                    causes.setdefault(host, {}).setdefault(name, finding.check)
    result: list[CheckFinding] = []
    for finding in findings:
        result += _drop_consequences(finding, causes)
    return tuple(result)


def _drop_consequences(finding: CheckFinding, causes: Mapping[str, Mapping[str, str]]) -> Iterator[CheckFinding]:
    """Yield the finding for the hosts where no other finding explains it, and a skip for each cause."""
    explained = {host: causes.get(host, {}).get(finding.check, "") for host in finding.hosts}
    if finding.level not in (*_BAD, "info") or not any(explained.values()):
        yield finding
        return
    own = tuple(host for host, cause in explained.items() if not cause)
    if own:
        yield replace(finding, hosts=own)
    for cause in dict.fromkeys(filter(None, explained.values())):
        hosts = tuple(host for host, found in explained.items() if found == cause)
        yield replace(finding, level="skip", hosts=hosts, saw=f"see {cause}", advice="")
