"""Network retest: what a test right after a failure adds to a verdict that blames the network."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from fanout.checks.engine.definition import MeshTest
from fanout.diagnose.verdict import Cause, Verdict
from fanout.run.network_retest import add_retest, is_network_suspected

HOSTS = ("gpu01", "gpu02", "gpu03")
NETWORK = Verdict(
    cause=Cause(signature="network", says="stopped carrying data", host=None, hosts=HOSTS),
    confidence="low",
    rule="network",
)


def build_ways(*broken: tuple[str, str], hosts: tuple[str, ...] = HOSTS) -> MeshTest:
    dials: dict[tuple[str, str], dict[str, Any]] = {
        pair: {"outcome": "dropped" if pair in broken else "ok", "seconds": 3.0} for pair in permutations(hosts, 2)
    }
    return MeshTest(addresses={name: f"10.0.0.{name[-1]}" for name in hosts}, dials=dials)


def test_a_network_that_works_now_is_reported_as_working() -> None:
    found = add_retest(NETWORK, build_ways(), [])
    assert found.cause == NETWORK.cause
    assert "all 6 paths between the hosts carry data now" in found.evidence[-1]


def test_the_one_host_that_is_cut_off_is_named() -> None:
    broken = [pair for pair in permutations(HOSTS, 2) if "gpu02" in pair]
    found = add_retest(NETWORK, build_ways(*broken), [])
    assert found.cause is not None
    assert (found.cause.host, found.confidence) == ("gpu02", "medium")
    assert "4 of 6 paths between the hosts fail" in " ".join(found.evidence)


def test_a_failure_between_two_hosts_blames_neither() -> None:
    pair = HOSTS[:2]
    found = add_retest(NETWORK, build_ways(*permutations(pair, 2), hosts=pair), [])
    assert found.cause is not None
    assert (found.cause.host, found.confidence) == (None, "medium")


def test_a_host_that_no_longer_answers_is_reported() -> None:
    found = add_retest(NETWORK, MeshTest(), ["gpu03"])
    assert found.evidence == ("network retest: no answer from gpu03",)


def test_only_a_suspicion_of_the_network_is_worth_a_test() -> None:
    assert is_network_suspected(NETWORK)
    sure = Cause(signature="python-exception", says="ended with ValueError", host="gpu01")
    assert not is_network_suspected(Verdict(cause=sure, confidence="high"))
    assert not is_network_suspected(Verdict(cause=None, confidence="undetermined"))
