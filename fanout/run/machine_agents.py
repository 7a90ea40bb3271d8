"""Own agents of hosts whose run is in containers: connections that log in to the machine itself, for some questions.

Such a login is a second one to the same host. It is made only for a question, and it fails alone: a run needs only the
connections to the containers. The events of both kinds of connections are processed in one thread. ``MachineAgents`` is a
subscriber of the command's session, so each event of that session also processes what the machines have sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fanout.model.errors import LauncherError
from fanout.model.events import Event, Tick
from fanout.model.hosts import Host
from fanout.model.pending_question import PendingQuestion
from fanout.model.rpc import ProbeAnswer, ProbeRequest
from fanout.model.state import RunState
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.run_context import RunContext
from fanout.run.session import Session

_MOST_EVENTS = 64  # in a row, so that the machines cannot delay the session


class MachineAgents:
    """The questions to the own agents of some hosts. It connects to them with the first question."""

    broken = False

    def __init__(self, context: RunContext, session: Session) -> None:
        """Process the events of the machines together with those of ``session``."""
        self._context, self._session = context, session
        self._pool: ConnectionPool | None = None
        self._machines: Session | None = None
        self._questions: list[PendingQuestion] = []
        self._refused = ""
        session.add_subscriber(self)

    def __call__(self, event: Event, state: RunState) -> None:
        """Process what the machines have sent, and send the questions of those that are connected now."""
        machines = self._machines
        if machines is None:
            return
        for _ in range(_MOST_EVENTS):
            if isinstance(machines.run_step(0.0), Tick):
                break
        machines.send_due_questions(self._questions)

    def post(self, asks: Sequence[ProbeRequest]) -> None:
        """Log in to the machines, and send each its question as soon as it is connected."""
        names = {ask.host for ask in asks}
        hosts = [leave_container(host) for host in self._context.hosts if host.name in names]
        settings, selector = self._context.settings, self._context.selector
        try:
            raise_file_limit(len(self._context.hosts) + len(hosts), selector.open_files)
        except LauncherError as error:
            self._refused = str(error)
        options = ConnectionOptions(
            dials=settings.fanout, connect_timeout=settings.connect_timeout, by=self._context.process.login
        )
        self._pool = ConnectionPool([] if self._refused else hosts, selector, options, Clock())
        self._machines = Session(self._pool, [host.name for host in hosts], [])
        self._pool.start()
        self._questions = self._machines.post_questions(asks)

    def take_answers(self) -> list[ProbeAnswer]:
        """Wait for the answers, which have a deadline each; return them in the order of the questions."""
        machines = self._machines
        assert machines is not None
        while not (self._refused or self._session.state.interrupts or self._are_settled(machines)):
            self._session.run_step()
        found = [self._explain_answer(machines.state, question) for question in self._questions]
        self.close()
        return found

    def _are_settled(self, machines: Session) -> bool:
        return all(question.is_settled(machines.state) for question in self._questions)

    def _explain_answer(self, state: RunState, question: PendingQuestion) -> ProbeAnswer:
        """Return the answer; a login that failed is the reason why there is none."""
        trouble = state.hosts[question.ask.host].trouble
        if self._refused or question.answer is None:
            return ProbeAnswer(error=self._refused or "interrupted", reason="interrupted")
        if question.answer.error and trouble is not None:
            return ProbeAnswer(error=f"the login to the machine failed: {trouble.message}", reason="connection-lost")
        return question.answer

    def close(self) -> None:
        """Close the connections. An agent of a machine ends with its connection."""
        pool, self._pool, self._machines = self._pool, None, None
        if pool is not None:
            pool.close()


def leave_container(host: Host) -> Host:
    """Return the host itself, without its container. The Python that the hostfile names is that of the container."""
    return replace(host, container=None, image=None, engine=None, python=None)


@contextmanager
def open_machine_agents(context: RunContext, session: Session) -> Iterator[MachineAgents]:
    """Yield the own agents of the hosts in containers; close their connections at the end."""
    agents = MachineAgents(context, session)
    try:
        yield agents
    finally:
        agents.close()
