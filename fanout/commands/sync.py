"""``fanout sync``: copy the project from this machine to all hosts, and verify that the code is equal."""

from __future__ import annotations

from fanout.model.request import Request
from fanout.run.process_context import ProcessContext
from fanout.run.project_sync import SyncRequest, sync_project
from fanout.run.run_context import load_run_context


def run_sync(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 if all hosts have the code, 1 if one refused, 255 if one was not reached."""
    given = request.given
    wanted = SyncRequest(
        source=given["source"] or "",
        add=tuple(given["add"] or ()),
        big=given["big"],
        delete=given["delete"],
        yes=given["yes"],
        dry_run=given["dry_run"],
    )
    return sync_project(load_run_context(request, process), wanted).status
