"""The policy for a single host: its rendezvous has a timeout too."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.policy import decide_actions
from tests.model.test_policy import POLICY, build_running_host, build_state, build_stop


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        ({"unresolved_at": 10.0}, "MASTER_ADDR did not resolve on a for 20 s"),
        ({"waiting_at": 10.0}, "torchrun on a started no rank for 20 s: it waits for hosts that are not in this run"),
    ],
)
def test_the_rendezvous_of_a_single_host_has_the_start_timeout_too(seen: dict[str, float], why: str) -> None:
    policy = replace(POLICY, start_timeout=20.0)
    assert decide_actions(policy, build_state(build_running_host(**seen), now=29.0)) == ()
    assert decide_actions(policy, build_state(build_running_host(**seen), now=31.0)) == (
        build_stop("a", "rendezvous", why),
    )
    assert decide_actions(policy, build_state(build_running_host(waiting_at=10.0, joined_at=11.0), now=1e6)) == ()
    first_up = build_running_host(
        waiting_at=10.0, unresolved_at=15.0
    )  # a cause that is known counts, not the one before it
    assert decide_actions(policy, build_state(first_up, now=31.0)) == ()
    assert decide_actions(policy, build_state(first_up, now=36.0)) == (
        build_stop("a", "rendezvous", "MASTER_ADDR did not resolve on a for 20 s"),
    )
