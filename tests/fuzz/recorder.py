"""Records the answers of a real check and the messages of a real run, for the fuzzer: ``python -m tests.fuzz.recorder``.

Both hosts are this machine, through the real agent. Names and paths of this machine are replaced before anything is kept.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fanout.agent.probes import registry
from fanout.checks.engine.definition import CheckRequest
from fanout.model import answers
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host, Origin
from fanout.model.planner import Planner
from fanout.model.policy import Policy, decide_actions
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.settings import Settings
from fanout.preflight import run_checks
from fanout.remote import protocol
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.local import LocalTransport
from fanout.run.session import Session

RECORDED = Path(__file__).with_name("recorded.json")
HOSTS = ("a", "b")
SCRIPT = 'export RANK=0 LOCAL_RANK=0\necho "step 1/3 loss 2.5"\npython3 -c "import time; time.sleep(4)"\necho "Traceback (most recent call last):"\nexit 3\n'


class Recorder:
    """Passes questions on and keeps what came back."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.kept: list[tuple[str, Any]] = []

    def ask(self, asks: Sequence[ProbeRequest]) -> list[ProbeAnswer]:
        came = self._session.ask(asks)
        self.kept += [(ask.what, answer.value) for ask, answer in zip(asks, came, strict=True) if not answer.error]
        return came

    def is_still_open(self, host: str, handle: int) -> bool:
        return self._session.is_still_open(host, handle)

    def cancel(self, host: str, handle: int) -> None:
        self._session.cancel(host, handle)


def main() -> None:
    """Check, run, and write what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder, "project")
        project.mkdir()
        (project / "train.sh").write_text(SCRIPT)
        (project / "task.py").write_text("import json\n")
        os.environ["FANOUT_STATE"] = folder
        answers, messages = _replace_names(str(project))
        kept = {"answers": answers, "messages": messages}
        text = _neutralize_text(json.dumps(kept, indent=1), folder)
    RECORDED.write_text(text + "\n")
    print(f"{len(answers)} answers, {len(messages)} messages, {len(text)} bytes")


def _replace_names(project: str) -> tuple[list[tuple[str, Any]], list[Any]]:
    hosts = [Host(name=name, origin=Origin(file="hosts.txt", line=1), slots=1) for name in HOSTS]
    messages: list[Any] = []
    kept = protocol.FrameDecoder._decode_message

    def record_message(decoder: protocol.FrameDecoder, message: Any) -> Any:
        if decoder._host == "a" and isinstance(message, tuple):
            messages.append({"data": [message[0], message[1], message[2].decode("latin-1")]})
        elif decoder._host == "a" and message.get("t") != "answer":
            messages.append(message)
        return kept(decoder, message)

    protocol.FrameDecoder._decode_message = record_message  # type: ignore[method-assign, assignment]
    pool = ConnectionPool(hosts, lambda host: LocalTransport(), ConnectionOptions(by="ann@pc"), Clock())
    pool.start()
    session = Session(pool, HOSTS, [])
    session.connect_hosts()
    recorder = Recorder(session)
    asked = CheckRequest(hosts=tuple(hosts), workdir=project, task="task.py", script="train.sh", imports=("json",))

    settings = Settings(master_addr="10.0.0.1")
    planner = Planner(
        hosts=hosts, task=("task.py",), settings=settings, run_id="check", directory=project, has_script=True
    )
    run_checks.run(asked, recorder, planner=planner)
    recorder.ask([ProbeRequest(host="a", what="runs")])
    pool.close()
    recorder.kept += _record_answers(hosts[:1], project)
    return _shorten_tables(recorder.kept), messages


def _record_answers(hosts: list[Host], project: str) -> list[tuple[str, Any]]:
    """Return the answers of a failed host to the questions about its run."""
    pool = ConnectionPool(hosts, lambda host: LocalTransport(), ConnectionOptions(by="ann@pc"), Clock())
    pool.start()
    session = Session(pool, HOSTS[:1], [])
    session.connect_hosts()
    planner = Planner(
        hosts=hosts, task=("task.py",), settings=Settings(), run_id="r1", directory=project, has_script=True
    )
    made = planner.make_plan(HostFacts())
    recorded: list[tuple[str, Any]] = []
    policy = Policy(last_words=1.0, grace=5.0, hang_timeout="0.2")
    while not session.state.is_over:
        for action in decide_actions(policy, session.state):
            session._carry_out(action, made)
        session.run_step()
    for host in session.state.all_hosts:
        for question, _ in host.examined:
            answer = session.state.answers.get((host.name, question.ask))
            recorded += [(question.what, answer.value)] if answer is not None and not answer.error else []
    pool.close()
    return recorded


def _shorten_tables(kept: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Shorten long tables of one kind: the mutations concern the shape."""

    def shorten_value(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: shorten_value(item) for key, item in list(value.items())[:40]}
        return [shorten_value(item) for item in value[:3]] if isinstance(value, list) else value

    return [(what, shorten_value(value)) for what, value in kept]


def _neutralize_text(text: str, folder: str) -> str:
    """Replace this machine's names and paths."""
    known = {
        folder: "/home/ann",
        sys.prefix: "/home/ann/venv",
        sys.base_prefix: "/usr",
        os.getcwd(): "/home/ann/fanout",
    }
    for path in sorted(known, key=len, reverse=True):
        text = text.replace(path, known[path])
    text = re.sub(rf'"{re.escape(socket.gethostname())}"', '"gpu01"', text)
    return re.sub(r"(?:/root|/work|/opt|/home/(?!ann))[^\":,\\\\]*", "/home/ann/other", text)


if __name__ == "__main__":
    assert set(answers.ANSWERS) | {"facts", "aftermath"} >= set(registry._REGISTRY)
    main()
