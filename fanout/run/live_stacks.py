"""Stacks of all ranks for the key ``s`` of the live view. The question changes nothing in the run.

It is not the question of the hang detection: an answer to that one could count as a hang and stop the run.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Sequence

from fanout.diagnose import failure_facts, stack_groups
from fanout.diagnose.evidence import StackSnapshot
from fanout.model.events import Event
from fanout.model.hosts import fold_names
from fanout.model.pending_question import PendingQuestion
from fanout.model.process_names import get_container
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.state import Phase, RunState
from fanout.run.session import Session

STACKS_SECONDS = 10.0
KILL_SECONDS = 2.0
_PIECE = 1 << 16


def build_stack_request(run: str, host: str, node: int, *, native: bool = False, seconds: float) -> ProbeRequest:
    """Return the question for the stacks of all ranks of a run on one host."""
    return ProbeRequest(host=host, what="stacks", args={"run": run, "node": node, "native": native}, timeout=seconds)


def read_stack_answers(answers: dict[str, ProbeAnswer], state: RunState) -> tuple[list[StackSnapshot], dict[str, str]]:
    """Return the stacks in the answers, and the error of each host without an answer."""
    containers = {host.name: get_container(host.hello) for host in state.all_hosts}
    found = [
        stack
        for name, answer in answers.items()
        if isinstance(answer.value, dict)
        for stack in failure_facts.parse_stacks(name, answer.value.get("ranks"), container=containers[name])
    ]
    return found, {name: answer.error for name, answer in answers.items() if answer.error}


class SessionStacks:
    """Stacks over the connections of a session. It is a subscriber of the session."""

    broken = False

    def __init__(self) -> None:
        self.lines: Sequence[str] | None = None
        self._session: Session | None = None
        self._run, self._nodes = "", dict[str, int]()
        self._is_requested = False
        self._questions: list[PendingQuestion] = []

    def use_session(self, session: Session, run: str, nodes: dict[str, int]) -> None:
        """Ask over this session from now on, for the run (or attempt) with this id. ``nodes`` maps host -> node rank."""
        self._session, self._run, self._nodes = session, run, nodes
        self._questions = []

    def request_stacks(self) -> None:
        """Ask all hosts, after the event that is handled now."""
        self.lines, self._is_requested = None, True

    def __call__(self, event: Event, state: RunState) -> None:
        if self._session is None:
            return
        if self._is_requested:
            self._is_requested = False
            self._send_questions(self._session, state)
        elif self._questions and all(question.is_settled(state) for question in self._questions):
            questions, self._questions = self._questions, []
            names = [question.ask.host for question in questions]
            answers = dict(zip(names, self._session.take_answers(questions), strict=True))
            self.lines = _describe_answers(answers, state)

    def _send_questions(self, session: Session, state: RunState) -> None:
        hosts = [host.name for host in state.all_hosts if host.phase is Phase.RUNNING and host.connected]
        if not hosts:
            self.lines = ("no rank runs on a connected host",)
            return
        asks = [build_stack_request(self._run, name, self._nodes[name], seconds=STACKS_SECONDS) for name in hosts]
        self._questions = session.post_questions(asks)


def _describe_answers(answers: dict[str, ProbeAnswer], state: RunState) -> Sequence[str]:
    stands, errors = read_stack_answers(answers, state)
    lines = [*stack_groups.describe_stacks(stands), *stack_groups.describe_readers(stands)]
    lines += [f"{name}: {error}" for name, error in errors.items()]
    silent = [name for name in answers if name not in errors and not any(each.host == name for each in stands)]
    if silent:
        lines.append(f"{fold_names(silent)}: no rank sent its stack: no Python process, or it ignores PYTHONPATH")
    return lines


class CommandStacks:
    """Stacks from ``fanout stacks RUN`` in a child process, for a view that has no connection to the hosts."""

    def __init__(self, run: str, cwd: str) -> None:
        self._run, self._cwd = run, cwd
        self._child: subprocess.Popen[bytes] | None = None
        self._output = b""
        self._lines: Sequence[str] | None = None

    def request_stacks(self) -> None:
        """Start the command, unless it still runs."""
        self._lines = None
        if self._child is None:
            self._output = b""
            self._child = subprocess.Popen(
                [sys.executable, "-m", "fanout", "stacks", self._run],
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def lines(self) -> Sequence[str] | None:
        """Return the output of the command once it has ended. Reading never waits."""
        if self._child is not None and self._has_ended(self._child):
            self._child = None
            self._lines = self._output.decode("utf-8", "replace").splitlines() or ("no stack arrived",)
        return self._lines

    def _has_ended(self, child: subprocess.Popen[bytes]) -> bool:
        """Read what has arrived; return whether the output has ended and the command has exited."""
        assert child.stdout is not None
        while not child.stdout.closed and select.select([child.stdout], [], [], 0)[0]:
            data = os.read(child.stdout.fileno(), _PIECE)
            if not data:
                child.stdout.close()
            self._output += data
        return child.stdout.closed and child.poll() is not None

    def close(self) -> None:
        """End the command, if it still runs."""
        if self._child is not None:
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(KILL_SECONDS)
