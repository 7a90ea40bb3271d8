"""What is fed with changed values: a whole check, a whole run with its views, and the record of a run.

Each target takes a generator of chance, changes something, and plays it to the end. A target returns normally or raises:
every exception but those that the launcher turns into a sentence is a fault.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fanout.agent import frames
from fanout.checks.engine import check_json as check_record
from fanout.checks.engine import check_report
from fanout.checks.engine.definition import CheckRequest
from fanout.diagnose.collector import EvidenceCollector
from fanout.diagnose.first_cause import diagnose_evidence
from fanout.model import outcome
from fanout.model.actions import Go, Inspect, Prepare
from fanout.model.events import ActionSent, Answered, Connected, Connecting, Event, Tick
from fanout.model.hosts import Host, Origin
from fanout.model.policy import Policy, decide_actions
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.run_info import RunInfo
from fanout.model.state import InvalidTransition, RunState, apply_event
from fanout.preflight import run_checks
from fanout.record.run_writer import RunWriter
from fanout.remote import protocol
from fanout.ui.json_lines import JsonLines
from fanout.ui.plain_view import PlainView
from fanout.ui.report_rows import ReportFacts
from fanout.ui.run_report import build_report
from tests.fuzz.mutate import Path as Place
from tests.fuzz.mutate import list_paths, mutate_value

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("recorded.json").read_text())
HOSTS = tuple(Host(name=name, origin=Origin(file="hosts.txt", line=line), slots=1) for line, name in enumerate("ab", 1))
NAMES = tuple(host.name for host in HOSTS)


def _list_places(value: Any) -> list[Place]:
    return list(list_paths(value))


class Changing:
    """Recorded answers, one of them changed, through the launcher's own decoder."""

    def __init__(self, chance: random.Random, *, change: bool = True) -> None:
        self._chance = chance
        kept = [what for what, _ in RECORDED["answers"] if what not in ("stacks", "aftermath", "runs")]
        self._left = {what: [value for name, value in RECORDED["answers"] if name == what] for what in kept}
        self._countdown = chance.randrange(len(kept)) if change else -1
        self._asked = 0

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        return [self._change_answer(ask) for ask in asks]

    def _change_answer(self, ask: ProbeRequest) -> ProbeAnswer:
        recorded = self._left.get(ask.what)
        if not recorded:
            return ProbeAnswer(error="no such question")
        value = recorded.pop(0) if len(recorded) > 1 else recorded[0]
        if self._countdown == 0:
            value = mutate_value(value, self._chance, _list_places(value))
        self._countdown -= 1
        self._asked += 1
        decoder = open_decoder(ask.host)
        decoder.expect_answer(self._asked, ask.what)
        try:
            data = frames.pack_control({"t": "answer", "id": self._asked, "value": value, "error": ""})
            (event,) = decoder.feed_bytes(data)
        except protocol.ProtocolError:
            return ProbeAnswer(error="the connection broke")
        assert isinstance(event, Answered)
        return ProbeAnswer(value=event.value, error=event.error, handle=self._asked, sent=1.0, received=2.0)

    def is_still_open(self, host: str, handle: int) -> bool:
        return True

    def cancel(self, host: str, handle: int) -> None: ...


def open_decoder(host: str) -> protocol.FrameDecoder:
    """Return a decoder whose host has sent READY."""
    decoder = protocol.FrameDecoder(host, "abc", lambda: 7.0)
    decoder.feed_bytes(b"@abc READY 3.11\n")
    return decoder


def play_check(chance: random.Random, folder: Path) -> None:
    """Run a check of two hosts with one changed answer, reported as text and as JSON."""
    request = CheckRequest(
        hosts=HOSTS,
        workdir="/home/ann/project",
        task="task.py",
        imports=("json",),
        connected_addresses={"a": "10.0.0.1", "b": "10.0.0.2"},
    )
    result = run_checks.run(request, Changing(chance), clock=lambda: 0.0)
    check_report.render_check_report("fanout check", result.case, result.findings, 1.0, check_report.ReportStyle())
    json.dumps(check_record.build_check_record(result.case, result.findings, 1.0), default=str)


def _build_messages(chance: random.Random) -> list[bytes]:
    """Return the frames of a run: some changed, repeated, left out, cut short or out of order."""
    out = []
    chosen = chance.randrange(len(RECORDED["messages"]))
    for number, message in enumerate(RECORDED["messages"]):
        value = mutate_value(message, chance, _list_places(message)) if number == chosen else message
        out.append(pack_messages(value))
    kind, at = chance.randrange(8), chance.randrange(len(out))
    if kind == 0:
        out.insert(at, out[chance.randrange(len(out))])
    elif kind == 1:
        del out[at]
    elif kind == 2:
        other = chance.randrange(len(out))
        out[at], out[other] = out[other], out[at]
    elif kind == 3:
        out[at] = out[at][: chance.randrange(len(out[at]) + 1)]
    elif kind == 4:
        out[at] *= 50
    return out


def pack_messages(value: Any) -> bytes:
    data = value.get("data") if isinstance(value, dict) else None
    if isinstance(data, list) and len(data) == 3 and isinstance(data[2], str):
        stream, offset, text = data
        if isinstance(stream, int) and 0 <= stream < 1 << 16 and isinstance(offset, int) and 0 <= offset < 1 << 64:
            return frames.pack_data(stream, offset, text.encode("latin-1", "replace"))
    body = json.dumps(value).encode()
    return len(body).to_bytes(4, "big") + b"\x01" + body


def play_run(chance: random.Random, folder: Path) -> None:
    """Run two hosts, one of which sends changed frames: state, policy, views, record, diagnosis and report."""
    place = folder / "run"
    shutil.rmtree(place, ignore_errors=True)
    heading = RunInfo(run_id="r1", title="task.py", hosts=NAMES, ranks={"a": (0, 1), "b": (1, 1)})
    record, collector = RunWriter(str(place), heading), EvidenceCollector(NAMES, ranks=heading.ranks)
    views: list[Any] = [
        record,
        collector,
        PlainView(heading, stdout=io.StringIO(), stderr=io.StringIO()),
        JsonLines(heading, stdout=io.StringIO()),
    ]
    state = RunState.initial(NAMES, at=0.0)
    policy = Policy(hang_timeout="5", last_words=0.0)
    for event in decode_events(_build_messages(chance), chance):
        try:
            state = apply_event(state, event)
        except InvalidTransition:
            continue
        for view in views:
            view(event, state)
        for action in decide_actions(policy, state):
            state = apply_event(state, ActionSent(at=state.now, action=action))
    came = outcome.outcome_of(state)
    verdict = diagnose_evidence(collector.build_evidence())
    record.finish(came, build_report(ReportFacts(heading=heading, state=state, outcome=came)))
    record.close()
    assert 0 <= came.exit_code <= 255
    assert verdict is not None


def decode_events(messages: Iterable[bytes], chance: random.Random | None = None) -> list[Event]:
    """Yield the events of host a's frames, with a question to it after each; ``chance`` changes some of the answers."""
    decoder = open_decoder("a")
    recorded: Mapping[str, Any] = dict(RECORDED["answers"])
    found: list[Event] = [Connecting(at=0.0, host=name, attempt=1) for name in NAMES]
    found += [Connected(at=0.0, host=name, attempt=1, took=0.1, hello={}) for name in NAMES]
    found += [ActionSent(at=0.0, action=Prepare(host="a")), ActionSent(at=0.0, action=Go(host="a"))]
    for number, data in enumerate(messages):
        what = ("stacks", "aftermath")[number % 2]
        value = recorded[what]
        if chance is not None and chance.random() < 0.3:
            value = mutate_value(value, chance, _list_places(value))
        decoder.expect_answer(number, what)
        asked = ActionSent(at=0.0, action=Inspect(host="a", ask=number, what=what))
        try:
            found += decoder.feed_bytes(data)
            answer = frames.pack_control({"t": "answer", "id": number, "value": value, "error": ""})
            found += [asked, *decoder.feed_bytes(answer), Tick(at=0.0)]
        except protocol.ProtocolError:
            break
    return [replace(event, at=float(number)) for number, event in enumerate(found)]
