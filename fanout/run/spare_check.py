"""Check of the spares at the start of a run: a spare that cannot take part is a warning now, and no surprise at night."""

from __future__ import annotations

from dataclasses import replace

from fanout.model.hosts import fold_names
from fanout.run import check_request
from fanout.run.check_refusal import RECHECKS
from fanout.run.connections import open_connections
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.task_files import TaskFiles

#: Beside the checks of a restart: what differs between machines. The spares are not reserved.
CHECKS = RECHECKS | frozenset("venv python torch torchrun driver writable".split())


def check_spares(context: RunContext, files: TaskFiles) -> list[str]:
    """Connect to the spares and check each by itself; return one warning for each problem. Nothing is started."""
    from fanout.preflight import run_checks

    warnings: list[str] = []
    for host in context.spares:
        alone = replace(context, hosts=(host,), spares=())
        with open_connections(alone) as pool:
            session = Session(pool, alone.host_names, [])
            session.connect_hosts()
            state = session.state.hosts[host.name]
            if state.trouble is not None:
                warnings.append(f"spare {host.name}: {state.trouble.message}")
            elif not session.state.interrupts:
                asked = check_request.build_check_request(alone, files, session, only=CHECKS)
                found = run_checks.run(asked, session).failures
                warnings += [f"spare {fold_names(each.hosts)}: {each.check}: {each.saw}" for each in found]
            session.release_hosts()
    return warnings
