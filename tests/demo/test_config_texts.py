"""The texts that the embedded lab hands out (pure)."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from fanout.demo import config_texts
from fanout.demo.channel_command import format_signal_name

_OWN = tuple(
    config_texts.DemoHost(
        name=f"127.0.0.{n}", address=f"127.0.0.{n}", port=40000 + n, public_key=f"ssh-ed25519 K{n}", state=Path("/s")
    )
    for n in (2, 3)
)
_SHARED = tuple(
    config_texts.DemoHost(
        name=f"demo{n}", address="127.0.0.1", port=40000 + n, public_key=f"ssh-ed25519 K{n}", state=Path("/s")
    )
    for n in (1, 2)
)


def test_the_hostfile_has_one_line_a_host_in_rank_order_and_comments_else() -> None:
    lines = config_texts.render_hostfile(_OWN).splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        "127.0.0.2 port=40002 addr=127.0.0.2 slots=1",
        "127.0.0.3 port=40003 addr=127.0.0.3 slots=1",
    ]


def test_hosts_that_share_an_address_go_by_names_of_their_own() -> None:
    assert "demo2 port=40002 addr=127.0.0.1 slots=1" in config_texts.render_hostfile(_SHARED)


def test_known_hosts_names_address_and_port() -> None:
    assert (
        config_texts.render_known_hosts(_SHARED)
        == "[127.0.0.1]:40001 ssh-ed25519 K1\n[127.0.0.1]:40002 ssh-ed25519 K2\n"
    )


@pytest.mark.parametrize(("hosts", "pattern"), [(_OWN, "127.0.0.*"), (_SHARED, "127.0.0.* demo1 demo2")])
def test_the_ssh_config_gives_every_host_one_key_and_strict_checking(
    hosts: tuple[config_texts.DemoHost, ...], pattern: str
) -> None:
    text = config_texts.render_ssh_config(hosts, user="ada", identity=Path("/a b/key"), known_hosts=Path("/a b/known"))
    block = text.split(f"Host {pattern}\n")[1]
    assert "  User ada\n" in block
    assert '  IdentityFile "/a b/key"\n' in block
    assert '  UserKnownHostsFile "/a b/known"\n' in block
    assert "  StrictHostKeyChecking yes\n" in block


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "KILL"), (signal.SIGBUS, "BUS@openssh.com"), (200, "200@openssh.com")]
)
def test_signals_that_the_protocol_does_not_list_carry_a_domain(number: int, name: str) -> None:
    assert format_signal_name(number) == name
