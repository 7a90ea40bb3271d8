"""A host whose container ended or was removed: the host itself works, so its container is the cause."""

from __future__ import annotations

import pytest

from fanout.model.events import Disconnected, HostLost, LossReason
from tests.diagnose.kit import Run, verdict

GONE = "container work: it is not running"


@pytest.mark.parametrize("reason", ["container-ended", "container-missing"])
def test_host_without_its_container_is_named_with_the_commands_that_show_why(reason: LossReason) -> None:
    run = Run(hosts=3, each=1)
    run.add_events(Disconnected(at=run.at, host="gpu02", why="the connection was closed")).pass_time(1.0)
    run.add_events(HostLost(at=run.at, host="gpu02", why=GONE, reason=reason)).pass_time(1.0)
    run.stop_hosts("gpu02 failed", "gpu01", "gpu03").end_hosts("gpu01", "gpu03", code=None, signal=15)
    found = verdict(run, each=1)
    assert found.cause is not None
    assert (found.cause.signature, found.cause.host, found.confidence) == ("container-ended", "gpu02", "medium")
    assert found.sentence == f"gpu02 lost its container during the run ({GONE})"
    assert "docker events" in found.advice[0]


def test_host_without_a_connection_is_still_called_lost() -> None:
    run = Run(hosts=3, each=1)
    run.add_events(HostLost(at=run.at, host="gpu02", why="no connection for 60 s", reason="abandoned")).pass_time(1.0)
    found = verdict(run.stop_hosts("gpu02 failed", "gpu01", "gpu03"), each=1)
    assert found.cause is not None
    assert found.cause.signature == "lost"
