"""Refusals: the message has the place, the cause and what to write instead."""

from __future__ import annotations

import pytest

from fanout.hostfile import parse_hostfile
from fanout.hostfile.problems import MOST_SHOWN
from fanout.model.errors import HostfileError
from tests.hostfile.reading import read_refusal

REFUSED = {
    "h1:128": ["h1:128 may mean 128 slots or port 128", "h1 slots=128", "h1 port=128"],
    "h1:0": ["not a number of processes"],
    "h1:70000": ["'70000' is not a port"],
    "user@h1:abc": ["'abc' after ':' is not a number"],
    "h1 slots=0": ["slots=0: not a number of processes"],
    "h1 slots=-1": ["slots=-1"],
    "h1 slots=8.0": ["slots=8.0"],
    "h1 slots=1e3": ["slots=1e3"],
    "h1 slots=": ["slots= has no value"],
    "h1 slots=99999999999": ["slots=99999999999"],
    "h1 slots=8 slots=4": ["slots= is given twice"],
    "h1 slots=8 nproc=4": ["nproc= and slots= disagree"],
    "h1 slots=9 max_slots=8": ["more than max_slots=8"],
    "h1 slots=4 gpus=2,3": ["4 processes for 2 GPUs"],
    "h1:8 gpus=2,3": ["8 processes for 2 GPUs"],
    "h1 gpus=2,2": ["names a GPU twice"],
    "h1 gpus=2, 3": ["a space inside gpus=", "gpus=2,3"],
    "h1 container=a;b": ["'a;b' is not the name of a container", "docker ps"],
    "h1 container=-it": ["is not the name of a container"],
    "h1 image=-v": ["'-v' is not the name of an image"],
    "h1 container=work engine=lxc": ["'lxc' is not a container engine", "docker or podman"],
    "h1 port=0": ["'0' is not a port"],
    "h1:22 port=23": ["disagree"],
    "a@h1 user=b": ["disagree"],
    "a@@c": ["'a@' is not a user name"],
    "a;b@c@h1": ["is not a user name"],
    "h1 user=a@": ["is not a user name"],
    "ssh -p 40123 root@connect.example.com": ["an ssh command", "write: root@connect.example.com:40123"],
    "ssh -i ~/k -p 2201 root@1.2.3.4 nvidia-smi": ["root@1.2.3.4:2201", "IdentityFile ~/k"],
    "ssh -l bob h1": ["write: bob@h1"],
    "ssh -p 622 h1": ["write: h1 port=622"],
    "/usr/bin/ssh -oPort=2202 h1": ["write: h1:2202"],
    "ssh -o 'Port 2202' h1": ["write: h1:2202"],
    "ssh root@h1 -p2203 -L 8080:localhost:8080": ["write: root@h1:2203"],
    "sshpass -p pw ssh -p 2222 root@h1": ["write: root@h1:2222"],
    "ssh ssh://me@h1:2206": ["write: me@h1:2206"],
    "ssh -J bastion h1": ["write: h1", "ProxyJump bastion"],
    "gpu{01,02} slots=8": ["braces are shell syntax", "write gpu[01,02]"],
    "gpu{01..16}": ["braces are shell syntax", "write gpu[01-16]"],
    "root@gpu{a,b}.lab": ["write root@gpua.lab,root@gpub.lab"],
    "10.0.0.1-4": ["looks like a range of addresses", "write 10.0.0.[1-4]"],
    "10.0.0.1-10.0.0.4 slots=8": ["write 10.0.0.[1-4]"],
    "gpu01 slots=8\u00a0": ["U+00A0 is a no-break space"],
    "gpu01\u3000slots=8": ["U+3000 is an ideographic space"],
    "cn1\ncn1\ncn2\ncn2\n": ["PBS or LSF node file", "cn1 slots=2, cn2 slots=2"],
    "Host a b\n  HostName 10.0.0.1\nHost *\n  User me\n": [
        "an ssh_config, not a hostfile",
        "the hosts in it are a and b",
        "--ssh-config (-F) hosts.txt",
    ],
    "import torch\nfrom x import y\n": ["Python, not a hostfile", "HOSTS comes first"],
    "#!/bin/bash\ntorchrun x.py\n": ["a shell script, not a hostfile", "HOSTS comes first"],
    "h1 python=/bin/x;id": ["'/bin/x;id' is not a path"],
    "h1 python='/opt/my py/bin/python'": ["is not a path"],
    "h1 python=$(id)": ["is not a path"],
    "@h1": ["no group 'h1'"],
    "-oProxyCommand=touch": ["may not begin with '-'"],
    "-F/x": ["may not begin with '-'"],
    "--": ["may not begin with '-'"],
    "-l@h1": ["a user name may not begin with '-'"],
    "h1 addr=-x": ["may not begin with '-'"],
    "h1 ansible_host=-oProxyCommand=x": ["may not begin with '-'"],
    "h1 user=-x": ["'-x' is not a user name"],
    "x;touch": ["';' is not allowed in a host name"],
    "$(touch": ["'$' is not allowed in a host name"],
    "`id`": ["'`' is not allowed in a host name"],
    "%h": ["'%' is not allowed in a host name"],
    "h1 %h": ["'%h' is not an attribute"],
    "a slots 8": ["'slots' has no value", "slots=8"],
    "a user bob": ["'user' has no value", "user=VALUE"],
    "a b c": ["may be a second host, a user or a note", "a,b for two hosts", "user=b"],
    "gpu[3-1]": ["runs backwards", "[1-3]"],
    "gpu[1-3": ["'[' is not closed"],
    "gpu1]": ["']' without '['"],
    "gpu[]": ["an empty range"],
    "gpu[1-3/0]": ["a step of 0"],
    "gpu[8-012]": ["padded to different widths"],
    "gpu[1-999999999]": ["more than 100,000 hosts"],
    "gpu[01–16]": ["is not a range"],
    "gpu–1": ["U+2013 is a typographic dash; type -"],
    "h1\u00a0slots=4": ["U+00A0 is a no-break space"],
    "h\u200b1": ["U+200B"],
    "h\u202e1": ["control character (U+202E)"],
    "h1 \x1b]52;c;x": ["control character (U+001B)"],
    "gрu1": ["mixes CYRILLIC and LATIN"],
    "💻": ["'💻' is not allowed in a host name"],
    "h1,,h2": ["a host name is missing"],
    "h1\nh1": ["h1 is already on line 1"],
    "h1\nh1.": ["h1 is already on line 1"],
    "h1\nH1": ["H1 is already on line 1 as h1"],
    "[a]\nh1\nh1": ["h1 is already on line 2"],
    "0.0.0.0 ads.example.com": ["ad-block list"],
    "127.0.0.1 localhost": ["/etc/hosts"],
    "192.168.1.5 gpu05 gpu05.lab": ["as in /etc/hosts", "gpu05 addr=192.168.1.5"],
    "0.0.0.0": ["not the address of a machine"],
    "::": ["not the address of a machine"],
    "10.0.0": ["neither a host name nor an IPv4 address"],
    "10.0.0.256": ["neither a host name nor an IPv4 address"],
    "010.0.0.1": ["neither a host name nor an IPv4 address"],
    "fe80:::1": ["not an IPv6 address"],
    "[::1": ["'[' is not closed"],
    "[::1]x": ["after the IPv6 address"],
    "mpirun -np 4 ./a.out": ["a command, not a host"],
    "export A=b": ["a command, not a host"],
    "ssh alice@gpu01 -p 2222": ["an ssh command", "alice@gpu01:2222"],
    "ssh://alice@gpu01:22": ["a URL", "alice@gpu01:22"],
    "A=b": ["a setting without a host"],
    "rank 0=h1 slot=0": ["rankfile"],
    "+n0": ["relative host"],
    "<html>": ["markup"],
    "Host gpu01": ["ssh_config"],
    "": ["no host found"],
    "# nothing\n": ["no host found"],
    "h1\n^h1": ["every host is left out"],
    "gpu01\n^gpu1": ["gpu1 is excluded with ^ but is not in the file", "'gpu01'"],
    "[a]\nh1\n[b:children]\naa": ["no group 'aa'", "'a'"],
    "[a] slots=8\nh1": ["there is text after the section name", "@a slots=8"],
    "@include x.txt": ["@include cannot be used here"],
    "gpu[1-3] addr=10.0.0.1": ["1 address for 3 hosts"],
    "gpu[1-3] addr=10.0.0.[1-2]": ["2 addresses for 3 hosts"],
    "h1 env.1X=2": ["'1X' is not the name of an environment variable"],
    'h1 env.A="x': ['" is not closed'],
    "h1 tag=a;b": ["is not a tag"],
    "gpu*": ["'*' is not allowed in a host name"],
}


@pytest.mark.parametrize("text", REFUSED, ids=repr)
def test_refusal(text: str) -> None:
    """The message contains the place and every phrase that the user needs."""
    message = read_refusal(text)
    assert message.startswith("hosts.txt:")
    for phrase in REFUSED[text]:
        assert phrase in message
    assert message.isprintable() or "\n" in message


@pytest.mark.parametrize(
    ("data", "phrase"),
    [
        ("h1\n".encode("utf-16"), "hosts.txt:1: UTF-16, not UTF-8 text"),
        (b"h1\nh\x00\n", "hosts.txt:2: not UTF-8 text (a NUL byte)"),
        (b"h1\n# caf\xe9\n", "hosts.txt:2: not UTF-8 text (byte 0xe9)"),
        (b"h" * 70_000, "hosts.txt:1: a line of 70,000 characters"),
        (b"h\n" * 5_000_000, "larger than 8 MiB"),
    ],
    ids=["UTF-16", "NUL", "Latin-1", "long line", "large file"],
)
def test_input_that_is_no_text_is_refused(data: bytes, phrase: str) -> None:
    """Other encodings, binaries and huge files are recognised as such."""
    assert phrase in read_refusal(data)


def test_all_problems_come_in_one_message_in_the_order_of_the_file() -> None:
    """Three mistakes on three lines are reported together, each with its line, a caret and a fix."""
    message = read_refusal("h1 slots=0\ngood slots=8\ngpu[3-1]\n  h3:128 # x\n")
    assert message.splitlines() == [
        "hosts.txt: 3 problems",
        "hosts.txt:1: slots=0: not a number of processes",
        "    h1 slots=0",
        "       ^^^^^^^",
        "  a whole number from 1 to 4096; leave it out for one process per GPU",
        "hosts.txt:3: the range 3-1 runs backwards",
        "    gpu[3-1]",
        "        ^^^",
        "  write [1-3]",
        "hosts.txt:4: h3:128 may mean 128 slots or port 128",
        "      h3:128 # x",
        "         ^^^",
        "  write h3 slots=128 for processes, h3 port=128 for ssh's port",
    ]


def test_a_wrong_file_does_not_flood_the_screen() -> None:
    """A long block list is reported in one screen and a count."""
    message = read_refusal("\n".join(f"0.0.0.0 ads{n}.example.com" for n in range(2000)))
    assert message.startswith("hosts.txt: 2,000 problems")
    assert message.endswith(f"… and {2000 - MOST_SHOWN:,} more")


def test_a_caret_stays_in_view_on_a_long_line() -> None:
    """An error far to the right of a long line is shown with its surroundings."""
    message = read_refusal(",".join(f"gpu{n}" for n in range(500)) + ",-x")
    shown, caret = message.splitlines()[1:3]
    assert len(shown) < 110
    assert shown[caret.index("^") : caret.rindex("^") + 1] == "-x"


def test_a_circle_of_includes_is_reported() -> None:
    """A file that includes itself through another is an error, not an endless loop."""
    files = {"b.txt": b"@include a.txt"}
    with pytest.raises(HostfileError, match=r"b\.txt:1: a\.txt includes itself"):
        parse_hostfile(b"@include b.txt", file="a.txt", load=files.__getitem__)


def test_a_file_of_another_kind_is_one_problem() -> None:
    """There is not one problem for each line; of a file with many problems only the first are shown."""
    config = "Host gpu01\n  HostName 10.0.0.1\n  Port 10015\n  User root\nHost gpu02\n  Port 10016\n"
    for text in (config, "cn1\n" * 3 + "cn2\n" * 3, "import torch\n" * 30):
        assert "problems" not in read_refusal(text)
    many = read_refusal("".join(f"h{number} slots=x\n" for number in range(32)))
    assert many.startswith("hosts.txt: 32 problems\n")
    assert many.count("not a number of processes") == 8
    assert many.endswith("… and 24 more")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("task.py", ""),
        ("train.sh", "echo"),
        ("cfg.yaml", "model:\n  path: x\ntrain:\n  lr: 1\n"),
        ("cfg.yml", "data: {path: x}\n"),
    ],
)
def test_swapped_arguments_are_recognized(name: str, text: str) -> None:
    with pytest.raises(HostfileError) as caught:
        parse_hostfile(text.encode(), file=name)
    assert "not a hostfile\n" in str(caught.value)
    assert f"HOSTS comes first, then the task:  fanout run hosts.txt {name}" in str(caught.value)
