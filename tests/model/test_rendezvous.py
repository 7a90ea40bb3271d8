"""The policy for hosts that never reach the rendezvous: which host is named, when, and when none may be."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.model.actions import Action, Stop
from fanout.model.policy import Policy, decide_actions
from fanout.model.state import HostState, Phase, RunState

POLICY = Policy(start_timeout=120.0)


def explain_stop(*facts: dict[str, Any], now: float = 200.0) -> str:
    """Return why running hosts a, b, c … with these facts are stopped; "" if they are not."""
    usual: dict[str, Any] = {"phase": Phase.RUNNING, "connected": True, "prepare_at": 0.0, "go_at": 0.0}
    hosts = {name: HostState(name=name, **{**usual, **fact}) for name, fact in zip("abcd", facts, strict=False)}
    wishes: tuple[Action, ...] = decide_actions(
        POLICY, RunState(order=tuple(hosts), hosts=hosts, began_at=0.0, now=now)
    )
    stops = [wish for wish in wishes if isinstance(wish, Stop)]
    return stops[0].why if stops else ""


JOINED, WAITING = {"joined_at": 10.0, "waiting_at": 5.0}, {"waiting_at": 10.0}


@pytest.mark.parametrize(
    ("hosts", "named"),
    [
        ((JOINED, {}), "b did not join the rendezvous on MASTER_PORT within 120 s of the others"),
        ((JOINED, WAITING), "b did not join the rendezvous on MASTER_PORT within 120 s of the others although"),
        (({}, WAITING, WAITING), "a: no torchrun started within 120 s of the others"),
        ((JOINED, {}, {}), "b,c did not join"),
    ],
)
def test_host_missing_from_the_rendezvous_is_named(hosts: tuple[dict[str, Any], ...], named: str) -> None:
    assert explain_stop(*hosts).startswith(named)


@pytest.mark.parametrize(
    "hosts",
    [
        ({}, {}),  # no host uses the rendezvous: a long preparation, or no torchrun at all
        (WAITING, WAITING),  # torchrun everywhere, with a rendezvous of its own
        (JOINED, JOINED),
        (JOINED, {"connected": False}),  # it may have come: we would not know
        (JOINED, {"phase": Phase.EXITED}),
    ],
)
def test_no_host_is_blamed_without_proof(hosts: tuple[dict[str, Any], ...]) -> None:
    assert explain_stop(*hosts) == ""


def test_no_host_is_blamed_before_the_time() -> None:
    assert explain_stop(JOINED, {}, now=129.0) == ""
