"""``fanout exec``: run a command on all hosts without the agent, and print equal output once."""

from __future__ import annotations

from fanout.model.hosts import fold_names
from fanout.model.request import Request
from fanout.model.run_info import RunInfo
from fanout.model.subscriber import View
from fanout.run.connections import open_connections, print_notices
from fanout.run.load_settings import read_settings
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import build_selector, read_hosts
from fanout.run.session import Session
from fanout.ui.grouped_output import GroupedOutput


def run_exec(request: Request, process: ProcessContext) -> int:
    """Run the command; return the exit status of the first failing host."""
    settings = read_settings(request, process)
    hosts = read_hosts(request, settings, process)[1]
    command = " ".join(request.task)  # joined as ssh does; the host's shell parses it
    picker = build_selector(settings, process)
    heading = RunInfo(run_id="exec", title=command, hosts=tuple(host.name for host in hosts))
    view: View
    if request.given["live"]:
        from fanout.ui.plain_view import PlainView  # this import takes ten times as long as the other view

        view = PlainView(heading, stdout=process.stdout, stderr=process.stderr)
    else:
        view = GroupedOutput(heading, stdout=process.stdout, stderr=process.stderr)
    with open_connections(hosts, settings, picker, process, command=command) as fan:
        session = Session(fan, heading.hosts, [view])
        outcome = session.watch_commands()
    view.close()
    print_notices(picker, process)
    if session.state.interrupts:
        left = fold_names(
            host.name for host in session.state.all_hosts if host.linked_at is not None and host.exit is None
        )
        process.print_message(
            f"interrupted: the command may still run on {left}" if left else "interrupted: the command has ended"
        )
    return outcome.exit_code
