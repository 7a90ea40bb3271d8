"""``fanout exec``: run a command on all hosts without the agent, and print equal output once."""

from __future__ import annotations

from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View
from fanout.run.connections import open_connections
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import load_run_context
from fanout.run.session import Session
from fanout.ui.display_mode import choose_text_style
from fanout.ui.grouped_output import GroupedOutput


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
    with open_connections(context, command) as pool:
        session = Session(pool, heading.hosts, [view])
        outcome = session.watch_commands()
    view.close()
    context.print_notices()
    if session.state.interrupts:
        left = fold_names(
            host.name for host in session.state.all_hosts if host.connected_at is not None and host.exit is None
        )
        process.print_message(
            f"interrupted: the command may still run on {left}" if left else "interrupted: the command has ended"
        )
    return outcome.exit_code
