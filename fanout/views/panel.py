"""Block under the log: build its rows of styled text for any width and height. Pure, without rich.

The block has a title row, one row per host, a progress bar, a row with step, loss and time left, and the keys. If there
are too many hosts, a grid shows all hosts, and rows show only the outliers. Symbols carry the meaning; colour repeats it.
"""

from __future__ import annotations

from fanout.state import Phase, RunState
from fanout.views.base import Heading
from fanout.views.fleet import odd_hosts
from fanout.views.rows import Frame, Glance, Row, grid, host_rows
from fanout.views.sanitise import sentence
from fanout.views.table import cut
from fanout.views.units import clock, seconds, short

GRID_FROM = 25
_ALARMS = ("FAILING", "STOPPING", "HUNG")
KEYS_FROM = 5  # rows; a smaller block does not show the keys


def panel(
    heading: Heading, state: RunState, glance: Glance, *, width: int, height: int, unicode: bool = True
) -> list[Row]:
    """Return the rows of the block: at most a third of ``height``, and at least 2. The caller crops them to ``width``."""
    room = max(2, height // 3)
    goes_on = not headline(state, glance).startswith(_ALARMS)  # otherwise no time left is shown
    course = _course(glance, width, goes_on=goes_on, unicode=unicode)
    odd = odd_hosts(state, glance.loads, glance.readings, glance.slow, glance.hung)
    frame = Frame(
        heading=heading, state=state, glance=glance, width=width, unicode=unicode, odd={each.host: each for each in odd}
    )
    below: list[Row] = [course] if course else []
    if glance.keys and room >= KEYS_FROM:
        below.append([(f" {glance.keys}", "dim")])
    left = room - 1 - len(below)
    hosts = state.all
    if glance.bars and len(hosts) < min(GRID_FROM, left):  # one row is free
        below.insert(0, _bar(glance))
        left -= 1
    if len(hosts) < GRID_FROM and len(hosts) <= left:
        rows = host_rows(frame, hosts)
    else:
        worst = [state.hosts[each.host] for each in odd]
        rows = grid(frame, max(1, left - min(len(worst), 3)))
        rows += host_rows(frame, worst[: max(0, left - len(rows))], why=True)
    word = f"REPLAY {headline(state, glance)}" if glance.replay else headline(state, glance)
    return [_title(heading, state, word, width, unicode=unicode), *rows, *below][:room]


def headline(state: RunState, glance: Glance) -> str:
    """Return the state of the run in one word; for a hang, also the time since the last log line of any host."""
    if state.over:
        return "OVER"
    if state.interrupts or state.first_stop is not None:
        return "STOPPING"
    if state.failures:
        return "FAILING"
    phases = {host.phase for host in state.hosts.values()}
    if phases <= {Phase.WAITING, Phase.DIALLING}:
        return "CONNECTING"
    if phases & {Phase.EXITED, Phase.GONE, Phase.FORGOTTEN}:
        return "ENDING"
    if glance.hung is not None:
        return f"HUNG {seconds(state.now - (state.said_at or state.began_at))}"
    return "RUNNING" if phases == {Phase.RUNNING} else "STARTING"


def _title(heading: Heading, state: RunState, word: str, width: int, *, unicode: bool) -> Row:
    number, task = len(heading.hosts), sentence(heading.title)
    since = f"  {clock(state.now - state.began_at)}  "
    hosts = f"  {number} host{'s' if number != 1 else ''}"
    head, tail, room = "", "", 0
    for head, tail in (
        (f" fanout  run {heading.run_id}  ", hosts + since),
        (f" fanout  run {heading.run_id}  ", since),
        (f" {heading.run_id}", since),
        ("", since),
    ):  # on a narrow terminal, the state of the run is dropped last
        room = width - len(head) - len(tail) - len(word) - 1
        if room >= 0:
            break
    task = cut(task, max(0, room), ellipsis="…" if unicode else "~")
    style = "bold red" if word.startswith(_ALARMS) else "bold green" if word == "RUNNING" else "bold"
    return [(head, "bold"), (task, ""), (tail, "dim"), (word, style)]


def _bar(glance: Glance) -> Row:
    """Return the progress bar of the first host that has one; it stands for those of the other hosts."""
    host, text = next(iter(glance.bars.items()))
    return [(f" {host} ~ ", "dim"), (text.replace("\t", " "), "")]


def _course(glance: Glance, width: int, *, goes_on: bool, unicode: bool) -> Row | None:
    progress = glance.progress
    row: Row = []
    if progress.loss is not None:
        curve = progress.curve(max(8, min(32, width // 5)), unicode=unicode)
        row += [(f" loss {progress.loss:.4f} ", "bold"), (curve, "cyan")]
    if progress.step is not None:
        of = f"/{progress.total}" if progress.total else ""
        row.append((f"  step {progress.step}{of}", ""))
        if progress.total:
            row.append((f" {100 * progress.step // progress.total}%", ""))
    if progress.speed is not None:
        row.append((f"  {short(progress.speed)} tok/s", ""))
    row += [(f"  {name} {value:.4g}", "") for name, value in progress.others.items()]
    left = progress.seconds_left
    if goes_on and left is not None and left > 0:
        row.append((f"  {seconds(left)} left", "dim"))
    return row or None
