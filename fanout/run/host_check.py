"""Check of all hosts over connections of its own, for ``fanout check`` and the Python API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from fanout.checks.engine import explanations
from fanout.checks.engine.catalogue import CATALOGUE
from fanout.model.frozen import frozen
from fanout.model.subscriber import Subscriber
from fanout.preflight import run_checks
from fanout.preflight.run_checks import Preflight
from fanout.run.check_request import build_check_request
from fanout.run.connections import open_connections
from fanout.run.deep_request import build_torch_test
from fanout.run.image_containers import open_images
from fanout.run.machine_agents import open_machine_agents
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.task_files import TaskFiles, build_planner


@frozen
class CheckSelection:
    """Names of checks or groups that the user chose. ``deep``: also test torch."""

    only: frozenset[str] = frozenset()
    skip: frozenset[str] = frozenset()
    deep: bool = False


def select_checks(only: str, skip: str, *, deep: bool) -> CheckSelection:
    """Return the selection from names with commas. Raises UsageError for an unknown name."""
    chosen, left_out = (
        explanations.validate_check_names(CATALOGUE, [name.strip() for name in text.split(",") if name.strip()])
        for text in (only, skip)
    )
    is_deep = deep or any(name.split("-")[0] == "deep" for name in chosen)
    return CheckSelection(only=chosen, skip=left_out, deep=is_deep)


def run_host_check(
    context: RunContext,
    files: TaskFiles,
    selection: CheckSelection,
    *,
    subscribers: Sequence[Subscriber] = (),
    show_step: Callable[[str], None] = lambda text: None,
) -> Preflight | int:
    """Return the result, or the number of the signal that ended the check. Raises UsageError, LauncherError."""
    began = time.monotonic()
    with open_images(context, "check", files.directory) as own, open_connections(own) as pool:
        context, planner = own, build_planner(own, files, "check")
        session = Session(pool, context.host_names, subscribers)
        session.connect_hosts()
        context.print_notices()
        result = None
        if not session.state.interrupts:
            only, skip, deep = selection.only, selection.skip, selection.deep
            asked = build_check_request(context, files, session, only=only, skip=skip, deep=deep)
            test = build_torch_test(session, planner, show_step) if deep else None
            with open_machine_agents(context, session) as machines:
                result = run_checks.run(asked, session, planner=planner, deep=test, machines=machines, began=began)
        session.release_hosts()
    if session.state.interrupts or result is None:
        return session.state.interrupts[0]
    return result
