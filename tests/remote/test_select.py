"""Which addresses are this machine's own."""

from __future__ import annotations

from fanout.remote.transports.select import is_own_address


def test_loopback_is_ours_and_no_other_networks_address_is() -> None:
    assert is_own_address("127.0.0.1", lambda name: [name])
    assert not is_own_address("192.0.2.1", lambda name: [name])
    assert not is_own_address("a name without an address", lambda name: [])
