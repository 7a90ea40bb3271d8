"""``fanout stacks``: show the current stack of every rank. The run is not affected."""

from __future__ import annotations

import json
from typing import Any

from fanout.diagnose import stack_groups
from fanout.diagnose.evidence import StackSnapshot
from fanout.model.errors import UsageError
from fanout.model.exit_status import ExitStatus
from fanout.model.request import Request
from fanout.record.index import read_run_handle
from fanout.record.run_reader import RunReader
from fanout.run.command_context import load_command_context
from fanout.run.connections import open_connections
from fanout.run.live_stacks import STACKS_SECONDS, build_stack_request, read_stack_answers
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import open_recorded_run
from fanout.run.session import Session
from fanout.text.sanitize import sanitize_line

NATIVE_SECONDS = 20.0


def run_stacks(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0 if every host answered, 1 if one did not, 255 if one was unreachable."""
    command = load_command_context(request, process)
    path = command.find_active_run()
    order = read_run_handle(path)
    if RunReader(path).has_outcome:
        raise UsageError(f"run {order.run_id} has ended", hint=f"fanout report {order.run_id}")
    context = open_recorded_run(command, order)
    names = context.host_names
    with open_connections(context) as pool:
        session = Session(pool, names, [])
        session.connect_hosts()
        context.print_notices()
        native = request.given["native"]
        seconds = NATIVE_SECONDS if native else STACKS_SECONDS
        asks = [
            build_stack_request(order.run_id, name, node, native=native, seconds=seconds)
            for node, name in enumerate(names)
        ]
        answers = dict(zip(names, session.ask(asks), strict=True))
        unreached = [host.name for host in session.state.all_hosts if host.phase.has_failed_before_start]
        session.release_hosts()
    stands, untold = read_stack_answers(answers, session.state)
    _print_stacks(request, process, stands, untold)
    return ExitStatus.UNREACHABLE if unreached else ExitStatus.NEGATIVE if untold else ExitStatus.SUCCESS


def _print_stacks(
    request: Request, process: ProcessContext, stands: list[StackSnapshot], untold: dict[str, str]
) -> None:
    if request.given["as_json"]:
        ranks = [_stack_to_dict(stand) for stand in stands]
        process.stdout.write(
            json.dumps(
                {"ranks": ranks, "folded": list(stack_groups.describe_stacks(stands)), "untold": untold}, indent=2
            )
            + "\n"
        )
        return
    for place, group in stack_groups.group_by_location(stands):
        process.stdout.write(
            sanitize_line(
                f"{stack_groups.format_ranks(group)} {stack_groups.conjugate_phrase(str(place), len(group))}",
                colour=False,
            )
            + "\n"
        )
        for text in _format_frames(group[0], request) if request.given["full"] or request.given["native"] else ():
            process.stdout.write(sanitize_line(f"    {text}", colour=False) + "\n")
    for text in stack_groups.describe_readers(stands):
        process.print_message(sanitize_line(text, colour=False))
    for name, why in untold.items():
        process.print_message(f"{name}: {why}")
    if not stands and not untold:
        process.print_message("no rank sent its stack: no Python process runs there, or it ignores PYTHONPATH")


def _format_frames(stand: StackSnapshot, request: Request) -> list[str]:
    """Return the whole stack, outermost frame first. Native frames have no line number."""
    frames = stand.native if request.given["native"] and stand.native else stand.frames
    return [f"{file}:{line} {name}" if line else f"{file} {name}" for file, line, name in reversed(frames)]


def _stack_to_dict(stand: StackSnapshot) -> dict[str, Any]:
    def frames(those: tuple[tuple[str, int, str], ...]) -> list[dict[str, Any]]:
        return [{"file": file, "line": line, "function": name} for file, line, name in those]

    place = stack_groups.locate_snapshot(stand)
    return {"host": stand.host, "rank": stand.rank, "pid": stand.pid, "container": stand.container or None, "state": stand.state, "wchan": stand.wchan,
            "at": str(place), "way": stand.way, "untold": stand.untold, "stack": frames(stand.frames),
            "native": frames(stand.native)}  # fmt: skip
