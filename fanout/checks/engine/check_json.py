"""Check record: the check as data, which ``--json`` prints and a run stores beside its logs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fanout.checks.deep import torch_table
from fanout.checks.engine.definition import CheckContext, CheckFinding
from fanout.checks.engine.host_table import build_rows

VERSION = 1


def build_check_record(case: CheckContext, findings: Sequence[CheckFinding], seconds: float) -> dict[str, Any]:
    """Return one object per host, all findings (also ``ok`` and ``skip``), and the tests between hosts.

    Later versions may add keys, but do not remove or change them.
    """
    request, port, mesh = case.request, case.port, case.mesh
    return {
        "v": VERSION,
        "seconds": round(seconds, 3),
        "hosts": [
            {
                "host": row.hosts[0],
                "level": row.level,
                "problems": list(row.problems),
                "shown": {name: cell.text for name, cell in row.cells.items()},
                "facts": {
                    name: value
                    for name, value in case.facts.get(row.hosts[0], {}).items()
                    if name not in ("missing", "reasons")
                },
                "missing": dict(case.missing.get(row.hosts[0], {})),
                "machine": asdict(case.machines[row.hosts[0]]) if row.hosts[0] in case.machines else None,
            }
            for row in build_rows(case, findings)
        ],
        "unreached": {name: asdict(trouble) for name, trouble in request.unreached.items()},
        "findings": [{**asdict(finding), "hosts": list(finding.hosts)} for finding in findings],
        "master": None
        if port is None
        else {
            "port": port.port,
            "chosen": port.chosen,
            "candidates": list(port.candidates),
            "problem": dict(port.problem),
            "dials": [{"from": name, "to": address, **dial} for (name, address), dial in port.dials.items()],
        },
        "mesh": None
        if mesh is None
        else {
            "addresses": dict(mesh.addresses),
            "whole": mesh.whole,
            "dials": [{"from": start, "to": end, **dial} for (start, end), dial in mesh.dials.items()],
        },
        "deep": torch_table.build_deep_record(case.deep),
    }
