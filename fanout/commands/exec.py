"""``fanout exec``: run a command on all hosts without the agent, and print equal output once."""

from __future__ import annotations

from collections.abc import Sequence

from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.model.run_info import RunInfo
from fanout.model.state import HostState
from fanout.model.subscriber import View
from fanout.run.connections import open_connections
from fanout.run.image_containers import open_images
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.run.session import Session
from fanout.ui.display_mode import choose_text_style
from fanout.ui.grouped_output import GroupedOutput
from fanout.ui.waiting_line import WaitingLine


def run_exec(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status of the first failing host."""
    context = load_run_context(request, process)
    command = " ".join(request.task)  # joined as ssh does; the host's shell parses it
    heading = RunInfo(run_id="exec", title=command, hosts=context.host_names)
    colour = choose_text_style(process.environ, process.stdout, context.settings).colour
    view: View
    if request.given["live"]:
        from fanout.ui.plain_view import PlainView  # this import takes ten times as long as the other view

        view = PlainView(heading, stdout=process.stdout, stderr=process.stderr, colour=colour)
    else:
        view = GroupedOutput(heading, stdout=process.stdout, stderr=process.stderr, colour=colour)
    waiting = WaitingLine(process.stderr, process.columns, shown=not request.given["live"])
    with open_images(context, "exec") as own, open_connections(own, command) as pool:
        session = Session(pool, heading.hosts, [waiting, view])
        outcome = session.watch_commands()
    waiting.clear()
    view.close()
    context.print_notices()
    if session.state.interrupts:
        for line in describe_interrupt(session.state.all_hosts):
            process.print_message(f"interrupted: {line}")
    return outcome.exit_code


def describe_interrupt(hosts: Sequence[HostState]) -> list[str]:
    """Return on which hosts the command has ended, on which it may still run, and on which it was not started."""
    started = [host for host in hosts if host.connected_at is not None]
    ended = [host.name for host in started if host.exit is not None and host.exit.reason == "ended"]
    unknown = [host.name for host in started if host.name not in ended]
    others = [host.name for host in hosts if host not in started]
    lines = [f"the command has ended on {fold_names(ended)}"] if ended else []
    if unknown:
        lines.append(f"the command may still run on {fold_names(unknown)}: its end is not verified")
    if others:
        lines.append(f"the command was not started on {fold_names(others)}")
    return lines
