"""``fanout exec``: run a command on all hosts without the agent, and print equal output once."""

from __future__ import annotations

from fanout.arguments import Request
from fanout.hosts import fold
from fanout.launch import Session
from fanout.verbs.common import Edge, fan_of, hosts_of, picker_of, settings_of, tell_notices
from fanout.views.base import Heading, View
from fanout.views.folded import Folded


def execute(request: Request, edge: Edge) -> int:
    """Run the command; return the exit status of the first failing host."""
    settings = settings_of(request, edge)
    hosts = hosts_of(request, settings, edge)[1]
    command = " ".join(request.task)  # joined as ssh does; the host's shell parses it
    picker = picker_of(settings, edge)
    heading = Heading(run_id="exec", title=command, hosts=tuple(host.name for host in hosts))
    view: View
    if request.given["live"]:
        from fanout.views.plain import Plain  # this import takes ten times as long as the other view

        view = Plain(heading, stdout=edge.stdout, stderr=edge.stderr)
    else:
        view = Folded(heading, stdout=edge.stdout, stderr=edge.stderr)
    with fan_of(hosts, settings, picker, edge, command=command) as fan:
        session = Session(fan, heading.hosts, [view])
        outcome = session.watch()
    view.close()
    tell_notices(picker, edge)
    if session.state.interrupts:
        left = fold(host.name for host in session.state.all if host.linked_at is not None and host.exit is None)
        edge.say(f"interrupted: the command may still run on {left}" if left else "interrupted: the command has ended")
    return outcome.exit_code
