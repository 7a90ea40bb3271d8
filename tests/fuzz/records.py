"""Damaged or hostile records of a run, read by every command that reads one."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from fanout.cli.main import call_command
from fanout.cli.parser import parse_arguments
from fanout.model.actions import Inspect
from fanout.model.errors import FanoutError
from fanout.model.events import ActionSent, Answered, StreamOpened
from fanout.model.hosts import Host, Origin
from fanout.model.outcome import outcome_of
from fanout.model.run_info import RunInfo
from fanout.model.settings import Settings
from fanout.record import follow, writer_lock
from fanout.record.index import read_run_handle
from fanout.record.run_handle import RunHandle
from fanout.record.run_writer import RunWriter
from tests.fuzz.mutate import list_paths, mutate_bytes, mutate_value
from tests.fuzz.targets import RECORDED
from tests.histories import TRACEBACK, History
from tests.process_contexts import build_process

FILES = (
    "events.jsonl",
    "events.jsonl",
    "events.jsonl",
    "result.json",
    "order.json",
    "plan.json",
    "retest.json",
    "launcher.json",
)
VERBS = (
    ("report",), ("report", "--json"), ("report", "--html", "page.html"), ("logs",), ("logs", "-f"), ("replay",), ("ps", "--all"),
    ("ps", "--json"), ("attach",), ("stop",),
)  # fmt: skip


def make_record(path: Path) -> None:
    """Write the whole record of a run that failed."""
    run = History("a", "b").connect_hosts().start_hosts()
    run.add_events(StreamOpened(at=run.at, host="a", stream=1, name="rank 0"))
    run.add_output("a", b"step 1/3 loss 2.5\n", stream=1).add_output("b", b"hello\n").pass_time(1.0)
    for number, (what, value) in enumerate(pair for pair in RECORDED["answers"] if pair[0] in ("stacks", "aftermath")):
        run.add_events(ActionSent(at=run.at, action=Inspect(host="a", ask=number, what=what)))
        run.add_events(Answered(at=run.at, host="a", ask=number, value=value, error=""))
    run.add_output("a", TRACEBACK, stream=1).end_hosts("a", code=1).stop_hosts("a failed", "b").end_hosts(
        "b", code=None, signal=15
    ).release_hosts("a", "b")
    heading = RunInfo(run_id="r1", title="task.py", hosts=run.hosts, ranks={"a": (0, 1), "b": (1, 1)})
    record = RunWriter(str(path), heading)
    record.begin(run.began_at)
    state = run.play_events(record)
    hosts = tuple(Host(name=name, origin=Origin(file="hosts.txt", line=1), slots=1) for name in run.hosts)
    record.write_file(
        "order.json",
        RunHandle(run_id="r1", hosts=hosts, settings=Settings(), directory=str(path), user="ann").to_json(),
    )
    record.write_file(
        "plan.json",
        json.dumps({"nodes": [{"host": name, "rank": rank, "nproc": 1, "gpus": []} for rank, name in enumerate("ab")]}),
    )
    record.write_file(
        "retest.json",
        json.dumps({"v": 1, "addresses": {"a": "10.0.0.1"}, "ways": [["a", "b", {"outcome": "ok"}]], "unreached": []}),
    )
    outcome = outcome_of(state)
    record.finish(outcome, "report\n")
    record.close()
    (path / "launcher.json").write_text(json.dumps({"pid": 1, "user": "ann", "machine": "pc", "since": 1.0}))


def play_damage(chance: random.Random, folder: Path) -> None:
    """Damage one file of a record and read it by one command, which reports one error or continues without that part."""
    whole = folder / "whole" / "r1"
    if not whole.exists():
        make_record(whole)
    place = folder / "runs"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(folder / "whole", place)
    file = place / "r1" / chance.choice(FILES)
    file.write_bytes(_damage_file(file, chance))
    words = chance.choice(VERBS)
    try:
        if words[0] == "stop":  # as far as it goes without a connection
            read_run_handle(str(place / "r1"))
            writer_lock._parse_owner(os.open(place / "r1" / writer_lock.FILE, os.O_RDONLY))
        else:
            read_by(words, place)
    except FanoutError:
        return  # one sentence


def _damage_file(file: Path, chance: random.Random) -> bytes:
    """Damage any bytes of the file, or one value of its JSON."""
    data = file.read_bytes()
    if chance.random() < 0.3:
        return mutate_bytes(data, chance)
    lines = data.splitlines() if file.suffix == ".jsonl" else [data]
    at = chance.randrange(len(lines))
    value = json.loads(lines[at])
    lines[at] = json.dumps(mutate_value(value, chance, list(list_paths(value)))).encode()
    return b"\n".join(lines) + b"\n"


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Read a record that does not grow any more without waiting."""
    kept = follow.GUARDIAN_SECONDS, follow.PAUSE_SECONDS
    follow.GUARDIAN_SECONDS = follow.PAUSE_SECONDS = 0.0
    try:
        yield
    finally:
        follow.GUARDIAN_SECONDS, follow.PAUSE_SECONDS = kept


def read_by(words: tuple[str, ...], runs: Path) -> str:
    """Return what a command prints about the recorded run r1."""
    folder = runs.parent
    argv = [*words, "--log-dir", str(runs), *([] if words[0] == "ps" else ["r1"])]
    out, err = io.StringIO(), io.StringIO()
    process = build_process(folder, out, stderr=err, environ={"HOME": str(folder)})
    with redirect_stdout(out), redirect_stderr(err), _without_waiting():
        call_command(parse_arguments(argv, columns=100), process)
    return out.getvalue() + err.getvalue()
