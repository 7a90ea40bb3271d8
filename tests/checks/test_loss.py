"""Lost packets: the direction that loses is named, its partners are not, and a crowd is nobody's fault."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fanout.checks.network.mesh import choose_pairs
from fanout.checks.network.packet_loss import attribute_loss


def counted(hosts: int, resent: dict[tuple[str, str], int], sent: int = 200) -> dict[tuple[str, str], dict[str, Any]]:
    names = [f"h{number}" for number in range(1, hosts + 1)]
    return {pair: {"sent": sent, "resent": resent.get(pair, 0)} for pair in choose_pairs(names)}


def test_what_a_host_sends_is_blamed_on_it_not_on_those_who_get_it() -> None:
    found = list(attribute_loss(counted(4, {("h2", other): 20 for other in ("h1", "h3", "h4")})))
    assert [(host, inward, others) for host, inward, others, _ in found] == [("h2", False, ("h1", "h3", "h4"))]


def test_of_two_hosts_the_one_that_it_was_sent_to_is_named_with_the_other() -> None:
    assert [each[:3] for each in attribute_loss(counted(2, {("h1", "h2"): 14}))] == [("h2", True, ("h1",))]


def test_a_few_segments_sent_again_are_nobodys_fault() -> None:
    assert not list(attribute_loss(counted(4, {("h1", "h2"): 5, ("h3", "h4"): 5})))


def test_a_few_lost_of_very_few_do_not_hide_many_of_many() -> None:
    """A connection that hardly sent anything has the largest share, and says the least."""
    dials = counted(4, {("h1", "h4"): 16, ("h2", "h4"): 16, ("h3", "h4"): 16})
    dials["h2", "h3"] = {"sent": 4, "resent": 2}
    dials = {pair: dial for pair, dial in dials.items() if pair[1] != "h3" or pair == ("h2", "h3")}
    assert [each[:3] for each in attribute_loss(dials)] == [("h4", True, ("h1", "h2", "h3"))]


@given(st.integers(3, 8), st.data())
def test_one_bad_direction_explains_all_that_is_lost_in_it(hosts: int, data: st.DataObject) -> None:
    """Whatever the host, the side and how unevenly it is spread, nobody else is named for it."""
    names = [f"h{number}" for number in range(1, hosts + 1)]
    bad, side = data.draw(st.sampled_from(names)), data.draw(st.integers(0, 1))
    lost = {pair: data.draw(st.integers(8, 40)) for pair in choose_pairs(names) if pair[side] == bad}
    assert {(host, inward) for host, inward, _, _ in attribute_loss(counted(hosts, lost))} == {(bad, side == 1)}
