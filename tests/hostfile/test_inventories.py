"""YAML, JSON, both forms of Ansible, and tables: parsed with line numbers, without surprises of YAML's types."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.hostfile.reading import read_lines, read_refusal

YAML = {
    "- gpu01\n- gpu[02-03] slots=4\n- host: gpu04\n  slots: 8\n- gpu05: {port: 2222, spare: true}\n- gpu06:\n": [
        "gpu01",
        "gpu02 slots=4",
        "gpu03 slots=4",
        "gpu04 slots=8",
        "gpu05 port=2222 spare",
        "gpu06",
    ],
    "- host: h1\n  gpus: [2, 3]\n  env: {A: no, B: 0123, C: 'x y'}\n  tags: [a, b]\n": [
        'h1 gpus=[2,3] env.A=no env.B=0123 env.C="x y" tag=a,b'
    ],
    "defaults: {slots: 8, user: alice}\nhosts: [a, {b: {slots: 2}}]\ngroups:\n  lab:\n    defaults: {user: bob}\n    hosts: [c]\n": [
        "alice@a slots=8",
        "alice@b slots=2",
        "bob@c slots=8 tag=lab",
    ],
    "h1: {slots: 8}\nh2: 4\nh3:\n": ["h1 slots=8", "h2 slots=4", "h3"],
    "lab: [h1, h2]\nold: [h3]\n": ["h1 tag=lab", "h2 tag=lab", "h3 tag=old"],
    "x: &d {hosts: [h1]}\ny:\n  <<: *d\n": ["h1 tag=x,y"],
    "- &a {host: h1, slots: 4}\n- <<: *a\n  host: h2\n": ["h1 slots=4", "h2 slots=4"],
    "- |\n  h1\n": ["h1"],
    "---\n- fe80::1\n- h1:2222\n": ["fe80::1", "h1 port=2222"],
    "all:\n  vars: {ansible_user: root, x: [1]}\n  hosts:\n    m:\n  children:\n    web:\n      hosts:\n"
    "        foo[1:2]:\n        bar: {ansible_host: 10.0.0.1, ansible_port: 22, env: prod, slots: 4}\n    db:\n"
    "      children:\n        web:\n": [
        "root@m",
        "root@foo1 tag=web,db",
        "root@foo2 tag=web,db",
        "root@bar port=22 slots=4 hostname=10.0.0.1 tag=web,db env=prod",
    ],
}


@pytest.mark.parametrize("text", YAML, ids=lambda text: text[:24])
def test_yaml(text: str) -> None:
    """The inventory equals these plain lines."""
    assert read_lines(text, "hosts.yaml") == YAML[text]


def test_yaml_is_recognised_by_its_content() -> None:
    """Standard input has no file name extension."""
    assert read_lines("- h1\n- h2: {slots: 2}\n", "<stdin>") == ["h1", "h2 slots=2"]
    assert read_lines('{"hosts": ["h1"]}', "<stdin>") == ["h1"]
    assert read_lines("# x\nall:\n  hosts:\n    h1:\n", "<stdin>") == ["h1"]


def test_json_may_be_one_long_line() -> None:
    """The output of a program may have no line breaks."""
    text = json.dumps([{"host": f"gpu{n:05d}", "slots": 8} for n in range(5000)])
    assert len(read_lines(text, "hosts.json")) == 5000


YAML_REFUSED = {
    "- a\n- b: {slots: 0}\n": ["hosts.yaml:2: slots=0"],
    "a: {slots: 2}\na: {slots: 3}\n": ["hosts.yaml:2: 'a' is already on line 1"],
    "- a\n- a\n": ["hosts.yaml:2: a is already on line 1"],
    "- !!python/object/apply:os.system [x]\n": ["the tag", "delete it"],
    "hosts:\n\t- a\n": ["hosts.yaml:2: not YAML", "indent with spaces"],
    "- [a]\n": ["a list inside the list of hosts"],
    "- {slots: 8}\n- {port: 1, user: b}\n": ["hosts.yaml:2: an item without a host"],
    "hosts: [a]\ndefault: {slots: 8}\n": ["'default' is not part of a group", "'defaults'"],
    "- host: a\n  user: {x: y}\n": ["hosts.yaml:2: user takes one value"],
    "- host: -oProxyCommand=x\n": ["may not begin with '-'"],
    "- a\n---\n- b\n": ["a second document"],
    "- *x\n": ["hosts.yaml:1:", "x"],
    "[" * 60000: ["nested more than 32 deep"],
    "- " * 60 + "a": ["nested more than 32 deep"],
    "": ["no host found"],
    "a: b: c\n": ["hosts.yaml:1: not YAML"],
    "- h1:128\n": ["hosts.yaml:1: h1:128 may mean 128 slots or port 128"],
}


@pytest.mark.parametrize("text", YAML_REFUSED, ids=lambda text: text[:24])
def test_yaml_refused(text: str) -> None:
    """Mistakes in YAML are reported with their line."""
    message = read_refusal(text, "hosts.yaml")
    for phrase in YAML_REFUSED[text]:
        assert phrase in message


def test_aliases_of_aliases_are_no_bomb() -> None:
    """Nine lines that stand for a thousand million hosts cost almost nothing."""
    lines = ["a: &a [x1]"] + [
        f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
    ]
    assert "problems" in read_refusal("\n".join(lines), "hosts.yaml")
    lines = ["a: &a {hosts: [x1]}"]
    lines += [
        f"{b}: &{b} {{groups: {{p: *{a}, q: *{a}, r: *{a}, s: *{a}}}}}"
        for a, b in itertools.pairwise("abcdefghijklmno")
    ]
    assert "10,000 problems" in read_refusal("\n".join(lines), "hosts.yaml")


TABLES = {
    "Name,Public IPv4 address,Private IPv4 address,State\ng1,3.4.5.6,10.0.0.1,up\n": [
        "g1 hostname=3.4.5.6 addr=10.0.0.1"
    ],
    "host;slots\na;4\nb;\n": ["a slots=4", "b"],
    "hostname\tuser\tport\na\tbob\t2222\n": ["bob@a port=2222"],
    "ip,user\n10.0.0.1,bob\n": ["bob@10.0.0.1"],
    'name,gpus\na,"0,1"\n': ["a gpus=[0,1]"],
}


@pytest.mark.parametrize("text", TABLES, ids=lambda text: text[:24])
def test_table(text: str) -> None:
    """A table with clear columns is accepted."""
    assert read_lines(text, "hosts.csv") == TABLES[text]
    assert read_lines(text, "<stdin>") == TABLES[text]


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        (
            "Instance ID,Instance type,Zone\ni-1,x,y\n",
            "a clear host column; its columns are Instance ID, Instance type, Zone",
        ),
        ("node,server,slots\na,b,4\n", "a clear host column; its columns are node, server, slots"),
        ("host,slots\na,0\n", "hosts.csv:2: slots=0"),
        ("host,slots\na,4,5\n", "hosts.csv:2: 3 columns; the header has 2"),
        ("host,slots\n,4\n", "hosts.csv:2: no host in this row"),
        ("host,slots\n-oX,4\n", "hosts.csv:2: a host may not begin with '-'"),
    ],
)
def test_table_refused(text: str, phrase: str) -> None:
    """The error of an unclear table names the valid columns; that of a wrong row names the row."""
    assert phrase in read_refusal(text, "hosts.csv")


def test_a_list_of_hosts_is_no_table() -> None:
    """Commas alone make no table: two lines of two hosts are four hosts."""
    assert read_lines("node,server1\nx,y\n", "hosts.txt") == ["node", "server1", "x", "y"]
