"""``fanout stacks``: show the current stack of every rank. The run is not affected."""

from __future__ import annotations

import json
from typing import Any

from fanout.arguments import Request
from fanout.checks.asking import Ask
from fanout.diagnose import aftermath
from fanout.diagnose import stacks as folded
from fanout.diagnose.evidence import Stand
from fanout.errors import UsageError
from fanout.launch import Session
from fanout.transports.pick import Picker
from fanout.verbs.common import Edge, fan_of, runs_directory, settings_of, tell_notices
from fanout.verbs.runs import find_live, order_of
from fanout.views.recorded import Recorded
from fanout.views.sanitise import clean

SECONDS, NATIVE_SECONDS = 10.0, 20.0


def stacks(request: Request, edge: Edge) -> int:
    """Run the command; return 0 if every host answered, 1 if one did not, 255 if one was unreachable."""
    path = find_live(request.given["run"], runs_directory(settings_of(request, edge), edge), "stacks")
    order = order_of(path)
    if Recorded(path).ended:
        raise UsageError(f"run {order.run_id} has ended", hint=f"fanout report {order.run_id}")
    picker = Picker(order.settings, user=order.user, agent="SSH_AUTH_SOCK" in edge.environ)
    names = [host.name for host in order.hosts]
    with fan_of(order.hosts, order.settings, picker, edge) as fan:
        session = Session(fan, names, [])
        session.connect()
        tell_notices(picker, edge)
        native = request.given["native"]
        seconds = NATIVE_SECONDS if native else SECONDS
        asks = [
            Ask(host=name, what="stacks", args={"run": order.run_id, "node": node, "native": native}, timeout=seconds)
            for node, name in enumerate(names)
        ]
        answers = dict(zip(names, session.ask(asks), strict=True))
        unreached = [host.name for host in session.state.all if host.phase.failed_before_start]
        session.dismiss()
    stands = [
        stand
        for name, answer in answers.items()
        if isinstance(answer.value, dict)
        for stand in aftermath.stands(name, answer.value.get("ranks"))
    ]
    untold = {name: answer.error for name, answer in answers.items() if answer.error}
    _show(request, edge, stands, untold)
    return 255 if unreached else 1 if untold else 0


def _show(request: Request, edge: Edge, stands: list[Stand], untold: dict[str, str]) -> None:
    if request.given["as_json"]:
        ranks = [_object(stand) for stand in stands]
        edge.stdout.write(
            json.dumps({"ranks": ranks, "folded": list(folded.sentences(stands)), "untold": untold}, indent=2) + "\n"
        )
        return
    for place, group in folded.groups(stands):
        edge.stdout.write(clean(f"{folded.who(group)} {folded.verb(str(place), len(group))}", colour=False) + "\n")
        for text in _frames(group[0], request) if request.given["full"] or request.given["native"] else ():
            edge.stdout.write(clean(f"    {text}", colour=False) + "\n")
    for text in folded.ways(stands):
        edge.say(clean(text, colour=False))
    for name, why in untold.items():
        edge.say(f"{name}: {why}")
    if not stands and not untold:
        edge.say("no rank sent its stack: no Python process runs there, or it ignores PYTHONPATH")


def _frames(stand: Stand, request: Request) -> list[str]:
    """Return the whole stack, outermost frame first. Native frames have no line number."""
    frames = stand.native if request.given["native"] and stand.native else stand.frames
    return [f"{file}:{line} {name}" if line else f"{file} {name}" for file, line, name in reversed(frames)]


def _object(stand: Stand) -> dict[str, Any]:
    def frames(those: tuple[tuple[str, int, str], ...]) -> list[dict[str, Any]]:
        return [{"file": file, "line": line, "function": name} for file, line, name in those]

    place = folded.place_of(stand)
    return {"host": stand.host, "rank": stand.rank, "pid": stand.pid, "state": stand.state, "wchan": stand.wchan,
            "at": str(place), "way": stand.way, "untold": stand.untold, "stack": frames(stand.frames),
            "native": frames(stand.native)}  # fmt: skip
