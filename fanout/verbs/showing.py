"""How a run is shown to whoever typed the command: the choice, and the view that it comes to."""

from __future__ import annotations

from fanout.settings import Settings
from fanout.verbs.common import Edge
from fanout.views.base import Heading, Look, View, choose


def look_of(settings: Settings, edge: Edge, output: str = "") -> Look:
    """What this stdout, this environment and these flags come to; ``output`` in place of the setting."""
    return choose(
        edge.environ,
        isatty=edge.stdout.isatty(),
        encoding=getattr(edge.stdout, "encoding", None),
        output=output or settings.output,
        color=settings.color,
    )


def view_of(heading: Heading, look: Look, edge: Edge, *, timestamps: bool = False) -> View:
    """The view that was chosen; rich is imported for the live one alone."""
    if look.mode == "live":
        from fanout.views.live import Live

        return Live(heading, stdout=edge.stdout, colour=look.colour, unicode=look.unicode)
    if look.mode == "json":
        from fanout.views.jsonl import JsonLines

        return JsonLines(heading, stdout=edge.stdout)
    from fanout.views.plain import Plain

    return Plain(heading, stdout=edge.stdout, stderr=edge.stderr, timestamps=timestamps, colour=look.colour)
