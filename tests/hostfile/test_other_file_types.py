"""File types of other tools: logins of a directory service, rank tables, `ip:` in YAML."""

from __future__ import annotations

import json

import pytest

from fanout.hostfile import parse_hostfile
from fanout.model.errors import HostfileError


@pytest.mark.parametrize(
    ("line", "user"),
    [
        ("alice@corp.local@gpu01", "alice@corp.local"),
        ("gpu01 user=alice@corp.local", "alice@corp.local"),
        (r"CORP\alice@gpu01", r"CORP\alice"),
        (r"gpu01 user=CORP\alice", r"CORP\alice"),
        (r"gpu01 user='CORP\alice'", r"CORP\alice"),
        (r'gpu01 user="CORP\alice"', r"CORP\alice"),
        (r'gpu01 user="CORP\\alice"', r"CORP\alice"),
    ],
)
def test_logins_of_a_directory_service(line: str, user: str) -> None:
    (host,) = parse_hostfile(line.encode(), file="hosts.txt").hosts
    assert (host.name, host.user) == ("gpu01", user)


def rank_table(key: str, *servers: tuple[str, int]) -> str:
    tables = [{"server_id": name, key: [{"device_id": str(at)} for at in range(count)]} for name, count in servers]
    listed = {"server_list": tables} if key == "device" else {"group_list": [{"instance_list": tables}]}
    return json.dumps({"version": "1.0", "status": "completed", **listed})


@pytest.mark.parametrize("key", ["device", "devices"])
def test_a_rank_table_gives_its_servers_with_their_devices(key: str) -> None:
    read = parse_hostfile(rank_table(key, ("10.0.0.1", 8), ("10.0.0.2", 4)).encode(), file="hccl_2s_16p.json")
    assert [(host.name, host.slots) for host in read.hosts] == [("10.0.0.1", 8), ("10.0.0.2", 4)]
    assert any("rank table" in note for note in read.notes)


@pytest.mark.parametrize("key", ["ip", "address", "node_ip"])
def test_an_address_names_a_host_without_a_name(key: str) -> None:
    text = f"workers:\n  - {key}: 10.0.0.2\n    gpus: 8\n  - {key}: 10.0.0.3\n    gpus: 8\n"
    assert [(host.name, host.slots) for host in parse_hostfile(text.encode(), file="h.yaml").hosts] == [
        ("10.0.0.2", 8),
        ("10.0.0.3", 8),
    ]


@pytest.mark.parametrize("line", ["ssh slots=8", "docker slots=8", "gpu-1-4 slots=8", "node01-04"])
def test_odd_names_stay_names(line: str) -> None:
    (host,) = parse_hostfile(line.encode(), file="hosts.txt").hosts
    assert host.name == line.split()[0]


def test_a_name_and_its_address_are_one_host() -> None:
    (host,) = parse_hostfile(b"- name: gpu01\n  ip: 10.0.0.2\n", file="h.yaml").hosts
    assert host.name == "gpu01"


def test_containers_behind_one_address_are_separate_hosts() -> None:
    """Cloud consoles show one name and one port for each; ssh_config is queried for the name in each case."""
    text = "root@connect.example.com:40123\nroot@connect.example.com:40124 slots=2\nconnect.example.com\n"
    read = parse_hostfile(text.encode(), file="hosts.txt")
    assert [(host.name, host.port, host.ssh_name) for host in read.hosts] == [
        ("connect.example.com", 40123, "connect.example.com"),
        ("connect.example.com:40124", 40124, "connect.example.com"),
        ("connect.example.com:22", 22, "connect.example.com"),
    ]
    assert any("with several ports" in note for note in read.notes)


@pytest.mark.parametrize("text", ["h1:2222\nh1:2222\n", "h1\nh1:22 slots=1\n", "h1:2222\nh1:2223\nh1 port=2223\n"])
def test_one_address_with_one_port_is_one_host(text: str) -> None:
    with pytest.raises(HostfileError, match="already on line"):
        parse_hostfile(text.encode(), file="hosts.txt")
