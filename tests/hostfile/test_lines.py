"""Plain lines: every way to write a host that the plain grammar accepts, and its one result."""

from __future__ import annotations

import pytest

from fanout.hostfile import parse_hostfile
from tests.hostfile.reading import read_lines

READINGS = {
    "h1": ["h1"],
    "h1 slots=4": ["h1 slots=4"],
    "h1\tslots = 4  ": ["h1 slots=4"],
    "h1 SLOTS=4": ["h1 slots=4"],
    "h1 nproc=4": ["h1 slots=4"],
    "h1 gpus=4": ["h1 slots=4"],
    "h1 gpus=2,3": ["h1 gpus=[2,3]"],
    "h1 slots=2,3": ["h1 gpus=[2,3]"],
    "h1 gpus=[2]": ["h1 gpus=[2]"],
    "h1 gpus=0-3": ["h1 gpus=[0,1,2,3]"],
    "h1 slots=1 gpus=0,1": ["h1 slots=1 gpus=[0,1]"],
    "h1 gpus=GPU-8f2a,MIG-1": ["h1 gpus=[GPU-8f2a,MIG-1]"],
    "h1 slots=4 max-slots=8": ["h1 slots=4 max_slots=8"],
    "h1 4": ["h1 slots=4"],
    "docker slots=4": ["docker slots=4"],
    "docker": ["docker"],
    "source spare": ["source spare"],
    "h1:8": ["h1 slots=8"],
    "h1:64": ["h1 slots=64"],
    "h1:22": ["h1 port=22"],
    "h1:2222": ["h1 port=2222"],
    "h1:1024": ["h1 port=1024"],
    "h1:128 slots=8": ["h1 port=128 slots=8"],
    "h1:128 port=22": ["h1 port=22 slots=128"],
    "h1:8 port=2222": ["h1 port=2222 slots=8"],
    "alice@h1:2222 slots=2": ["alice@h1 port=2222 slots=2"],
    "h1 user=alice": ["alice@h1"],
    "h1 username=alice port=2222": ["alice@h1 port=2222"],
    "h1 addr=10.0.0.1 iface=ib0": ["h1 addr=10.0.0.1 iface=ib0"],
    "h1 addr=[fe80::1]": ["h1 addr=fe80::1"],
    "h1 env.A=b env.B='two words'": ['h1 env.A=b env.B="two words"'],
    'h1 env.A="x # y" # z': ['h1 env.A="x # y"'],
    "h1 env.A=http://x/y": ['h1 env.A="http://x/y"'],
    "h1 env.A=": ['h1 env.A=""'],
    "h1 python=/opt/py/bin/python workdir=/data": ["h1 python=/opt/py/bin/python workdir=/data"],
    "h1 type=a100": ["h1 type=a100"],
    "h1 spare": ["h1 spare"],
    "h1 spare=yes tag=a,b": ["h1 spare tag=a,b"],
    "h1 spare=no": ["h1"],
    "h1 boards=2": ["h1 boards=2"],
    "h1 hostname=10.0.0.9": ["h1 hostname=10.0.0.9"],
    "h1 # comment": ["h1"],
    "h1#comment": ["h1"],
    "h1 // comment": ["h1"],
    "h1 /* comment */ slots=2": ["h1 slots=2"],
    "; comment\nh1": ["h1"],
    "h1.": ["h1"],
    "H1": ["H1"],
    "127.0.0.1": ["127.0.0.1"],
    "::1": ["::1"],
    "0:0:0:0:0:0:0:1": ["::1"],
    "fe80::1%eth0 slots=4": ["fe80::1%eth0 slots=4"],
    "[2001:db8::1]": ["2001:db8::1"],
    "[::1]:22": ["::1 port=22"],
    "alice@[::1]:2222": ["alice@::1 port=2222"],
    "bücher.lab": ["xn--bcher-kva.lab"],
    "gpu[01-03]": ["gpu01", "gpu02", "gpu03"],
    "gpu[8-11]": ["gpu8", "gpu9", "gpu10", "gpu11"],
    "gpu[1,3,7-9]": ["gpu1", "gpu3", "gpu7", "gpu8", "gpu9"],
    "gpu[3,1]": ["gpu3", "gpu1"],
    "gpu[0-8/4]": ["gpu0", "gpu4", "gpu8"],
    "gpu[1:3]": ["gpu1", "gpu2", "gpu3"],
    "n[a:c]": ["na", "nb", "nc"],
    "r[1-2]n[01-02].lab": ["r1n01.lab", "r1n02.lab", "r2n01.lab", "r2n02.lab"],
    "alice@gpu[1-2]:2222 slots=2": ["alice@gpu1 port=2222 slots=2", "alice@gpu2 port=2222 slots=2"],
    "gpu[1-2] addr=10.0.0.[7-8]": ["gpu1 addr=10.0.0.7", "gpu2 addr=10.0.0.8"],
    "h1,h2:4,bob@h3 slots=4": ["h1 slots=4", "h2 slots=4", "bob@h3 slots=4"],
    "h1, h2": ["h1", "h2"],
    "h1\n^h2\nh2": ["h1"],
    "gpu[1-4]\n^gpu[2-3]": ["gpu1", "gpu4"],
    "[a]\nh1\nh2 slots=2\n@a slots=8": ["h1 slots=8 tag=a", "h2 slots=2 tag=a"],
    "@a slots=8\n[a]\nh1": ["h1 slots=8 tag=a"],
    "[a]\nh1\n[b]\nh2\n[c]\n@a": ["h1 tag=a,c", "h2 tag=b"],
    "[a]\nh1\n[b]\n@a slots=3\nh2": ["h1 slots=3 tag=a", "h2 tag=b"],
    "[a]\nh1\nh2\n[b]\nh1": ["h1 tag=a,b", "h2 tag=a"],
    "[a]\nh1 x=1\n[a:vars]\nansible_user=bob\ny=a b": ['bob@h1 x=1 y="a b" tag=a'],
    "[a]\nh1:2222 ansible_host=10.0.0.1 env=prod": ["h1 port=2222 hostname=10.0.0.1 tag=a env=prod"],
    "[a]\nh1\n[all:vars]\nslots=4\n[b:children]\na": ["h1 slots=4 tag=a,b"],
}


@pytest.mark.parametrize("text", READINGS, ids=repr)
def test_reading(text: str) -> None:
    """The line gives the same host as its plainest spelling."""
    assert sorted(word for line in read_lines(text) for word in line.split()) == sorted(
        word for line in READINGS[text] for word in line.split()
    )
    assert [line.split()[0] for line in read_lines(text)] == [line.split()[0] for line in READINGS[text]]


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfh1 slots=4\nh2\n",
        b"h1 slots=4\r\nh2\r\n",
        b"h1 slots=4\rh2",
        b"h1 slots=4\t \nh2  ",
        b"\n\n  h1 slots=4\n\n# x\n\th2",
    ],
    ids=["BOM", "CRLF", "CR", "trailing space", "blank lines"],
)
def test_traces_of_editors_in_a_file_change_nothing(data: bytes) -> None:
    """A byte order mark, any line ends and stray spaces give the same hosts."""
    hosts = parse_hostfile(data, file="hosts.txt").hosts
    assert [(host.name, host.slots) for host in hosts] == [("h1", 4), ("h2", None)]


def test_origin_is_the_line_of_the_entry() -> None:
    """Every host has its file and line."""
    hosts = parse_hostfile(b"# x\nh1\n\nh[2-3]\n", file="lab.txt").hosts
    assert [str(host.origin) for host in hosts] == ["lab.txt:2", "lab.txt:4", "lab.txt:4"]


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("h1:8\nh2:8", "hosts.txt:1: h1:8 is read as 8 slots; an ssh port is written port=8 (and 1 more)"),
        ("h1 slot=8", "hosts.txt:1: unknown attribute 'slot' is kept but not used; did you mean 'slots'?"),
        ("h1 gpus=2", "hosts.txt:1: gpus=2 is read as a count; for the single GPU with id 2 write gpus=[2]"),
        ("bücher", "hosts.txt:1: bücher: fanout connects to xn--bcher-kva"),
        (
            "h1 ansible_password=x",
            "hosts.txt:1: ansible_password is ignored: fanout logs in with a key or an ssh agent",
        ),
        ("h1\n#include more.txt", "hosts.txt:2: '#include' is a comment here; to read that file write @include FILE"),
    ],
)
def test_an_ambiguous_line_has_a_note(text: str, note: str) -> None:
    """The note is printed once, for a line with a second meaning or with an unused part."""
    (found,) = parse_hostfile(text.encode(), file="hosts.txt").notes
    assert found.startswith(note)


def test_passwords_of_an_inventory_are_not_kept() -> None:
    """A secret that should not be in the file is dropped."""
    (host,) = parse_hostfile(b"h1 ansible_password=hunter2 ansible_become_pass=x", file="i.ini").hosts
    assert "hunter2" not in repr(host)


def test_includes_are_parsed_in_place() -> None:
    """@include inserts the hosts of the other file at its place, in its section."""
    files = {"d/b.txt": b"h2\n@include c.txt", "d/c.txt": b"h3"}
    found = parse_hostfile(b"h1\n[lab]\n@include b.txt\n", file="d/a.txt", load=files.__getitem__)
    assert [(host.name, host.tags, str(host.origin)) for host in found.hosts] == [
        ("h1", (), "d/a.txt:1"),
        ("h2", ("lab",), "d/b.txt:1"),
        ("h3", ("lab",), "d/c.txt:1"),
    ]
