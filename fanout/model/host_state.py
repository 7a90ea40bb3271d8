"""State of one host in a run: all facts that its events and the actions of the launcher have established."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from fanout.model.actions import Inspect, Stop
from fanout.model.boots import Restart
from fanout.model.events import BackgroundEnd, BackgroundFound, CleanedUp, Exited, LossReason
from fanout.model.frozen import frozen
from fanout.model.host_phases import Phase
from fanout.model.host_save import HostSave


@frozen
class HostFailure:
    """The reason why a host takes no part: ``kind`` is for programs, message and hint are for people."""

    kind: str
    message: str
    hint: str = ""
    loss: LossReason | None = None  # of a host that was lost


@frozen
class HostState:
    """All facts about one host."""

    name: str
    phase: Phase = Phase.WAITING
    attempt: int = 0  # connection attempts so far, over the whole run
    connecting_at: float | None = None  # when the last attempt began
    took: float = 0.0  # seconds that the last successful attempt took
    connected: bool = False  # whether it is connected now
    connected_at: float | None = None
    disconnected_at: float | None = None
    disconnect_reason: str = ""
    no_message_since: float | None = None  # when the connection broke, if the agent has sent only its hello since
    hello: Mapping[str, Any] = field(default_factory=dict)
    restarted: Restart | None = None  # it reconnected with another boot id, so no earlier process exists
    login_output: bytes = b""
    trouble: HostFailure | None = None
    pid: int | None = None
    started_at: float | None = None
    waiting_at: float | None = None  # when its torchrun was seen
    joined_at: float | None = None  # when it was seen on MASTER_PORT
    unresolved_at: float | None = None  # since when MASTER_ADDR does not resolve there
    streams: Mapping[int, str] = field(default_factory=dict)  # names of the streams beyond the main one
    ranks_seen: tuple[int, ...] = ()  # the ranks whose processes its keeper has seen
    received: Mapping[int, int] = field(default_factory=dict)  # bytes of each stream that have arrived
    first_output_at: float | None = None
    last_output_at: float | None = None
    usual_pause: float = 0.0  # the longest recent time between two outputs; earlier ones fade
    last_message_at: float | None = None  # when the agent last sent anything
    lost_at: float | None = None  # earliest time at which the host may have been lost; None after a new message
    progress_at: float | None = None  # when the run last progressed there: a new phase, or new bytes of its log
    load: Mapping[str, Any] = field(default_factory=dict)
    saving: HostSave = field(default_factory=HostSave)  # its part in a planned stop
    exit: Exited | None = None
    background: Mapping[BackgroundEnd, BackgroundFound] = field(default_factory=dict)
    container_left: str = ""  # the container that the launcher created there, if it could not verify its removal
    outside_calls: str = ""  # calls of train.sh that start processes elsewhere: not verified
    cleaned_up: CleanedUp | None = None
    prepare_at: float | None = None
    go_at: float | None = None
    stop: Stop | None = None
    stop_at: float | None = None
    kill_at: float | None = None
    release_at: float | None = None
    examined: tuple[tuple[Inspect, float], ...] = ()  # the questions about the run, each with its time

    @property
    def received_bytes(self) -> int:
        return sum(self.received.values())

    @property
    def may_have_started(self) -> bool:
        """Return whether train.sh may have started. A launcher that only observes the run did not send Go itself."""
        return self.go_at is not None or self.started_at is not None or self.exit is not None

    @property
    def has_empty_container(self) -> bool:
        """Return whether the host's container has ended, and with it every process of it."""
        return self.trouble is not None and self.trouble.loss == "container-ended"

    @property
    def has_succeeded(self) -> bool:
        """Return whether train.sh exited 0 by itself. A script that its host stopped may exit 0 on SIGTERM."""
        return self.exit is not None and self.exit.code == 0 and not self.exit.why

    @property
    def has_failed(self) -> bool:
        """Return whether the host ended without success, or can never succeed."""
        return (self.exit is not None and not self.has_succeeded) or self.phase in (
            Phase.CONNECT_FAILED,
            Phase.REFUSED,
            Phase.LOST,
        )
