"""The launcher does not wait for a guardian that is stopped."""

from __future__ import annotations

import signal

import pytest

from fanout.run import guardian
from tests.processes import end_process

pytestmark = pytest.mark.process


def test_a_stopped_guardian_delays_the_end_of_a_run_only_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardian, "END_SECONDS", 0.2)
    guard = guardian.Guardian()
    guard._child.send_signal(signal.SIGSTOP)
    try:
        guard.end_watch()
        guard._child.send_signal(signal.SIGCONT)
        assert guard._child.wait(60) == 0  # it reads ``bye``
    finally:
        end_process(guard._child, kill=True)
