"""Choice of MASTER_PORT: if another run holds the default port, the check tests the next ports and takes a free one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from fanout.checks.engine.definition import CheckContext, PortTest
from fanout.checks.system import live_runs

PORTS_TRIED = 20


def choose_port(case: CheckContext, test: Callable[[CheckContext], PortTest]) -> CheckContext:
    """Return the case with the test of its port, and with another port if a run holds the default one.

    A port that the user gave never changes. If no other port is free, the default port stays, and its check fails.
    """
    default = case.request.master_port
    tested = replace(case, port=test(case))  # the process on the port may belong to a run whose claims are not seen
    holder = live_runs.describe_port_holder(tested, default) if case.request.port_may_change else ""
    if not holder:
        return tested
    for port in range(default + 1, default + 1 + PORTS_TRIED):
        if live_runs.describe_port_holder(case, port):
            continue
        request = replace(case.request, master_port=port, default_port_holder=holder)
        changed = replace(case, request=request)
        found = test(changed)
        if not found.problem:
            return replace(changed, port=found)
    return tested
