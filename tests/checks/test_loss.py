"""Packet loss: the finding names the direction that loses packets, not its partners, and never a crowd."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fanout.checks.network.mesh import choose_pairs
from fanout.checks.network.packet_loss import attribute_loss


def count_segments(
    hosts: int, resent: dict[tuple[str, str], int], sent: int = 200
) -> dict[tuple[str, str], dict[str, Any]]:
    names = [f"h{number}" for number in range(1, hosts + 1)]
    return {pair: {"sent": sent, "resent": resent.get(pair, 0)} for pair in choose_pairs(names)}


def test_loss_is_blamed_on_the_sender_and_not_on_the_receivers() -> None:
    found = list(attribute_loss(count_segments(4, {("h2", other): 20 for other in ("h1", "h3", "h4")})))
    assert [(host, inward, others) for host, inward, others, _ in found] == [("h2", False, ("h1", "h3", "h4"))]


def test_packet_loss_of_two_hosts_names_receiver_and_sender() -> None:
    assert [each[:3] for each in attribute_loss(count_segments(2, {("h1", "h2"): 14}))] == [("h2", True, ("h1",))]


def test_a_few_retransmitted_segments_are_not_blamed_on_any_host() -> None:
    assert not list(attribute_loss(count_segments(4, {("h1", "h2"): 5, ("h3", "h4"): 5})))


def test_a_few_lost_of_very_few_do_not_hide_many_lost_of_many() -> None:
    """A connection that hardly sent anything has the largest share of loss, but the weakest evidence."""
    dials = count_segments(4, {("h1", "h4"): 16, ("h2", "h4"): 16, ("h3", "h4"): 16})
    dials["h2", "h3"] = {"sent": 4, "resent": 2}
    dials = {pair: dial for pair, dial in dials.items() if pair[1] != "h3" or pair == ("h2", "h3")}
    assert [each[:3] for each in attribute_loss(dials)] == [("h4", True, ("h1", "h2", "h3"))]


@given(st.integers(3, 8), st.data())
def test_one_bad_direction_explains_all_loss_in_it(hosts: int, data: st.DataObject) -> None:
    """The finding names only the faulty host, for any host, either side, and any distribution of the loss."""
    names = [f"h{number}" for number in range(1, hosts + 1)]
    bad, side = data.draw(st.sampled_from(names)), data.draw(st.integers(0, 1))
    lost = {pair: data.draw(st.integers(8, 40)) for pair in choose_pairs(names) if pair[side] == bad}
    assert {(host, inward) for host, inward, _, _ in attribute_loss(count_segments(hosts, lost))} == {(bad, side == 1)}
