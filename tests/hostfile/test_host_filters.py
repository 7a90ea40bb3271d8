"""Host filters: each one alone, their combination, spares, and the error of a filter that selects no host."""

from __future__ import annotations

from typing import Any

import pytest

from fanout.hostfile import expand_hosts, parse_hostfile, select_hosts
from fanout.model.errors import HostfileError, UsageError

LAB = parse_hostfile(
    b"""
[a100]
worker-[0-3] slots=4
[old]
titan gpus=2,3,5
login
sub1 spare
sub2 spare
""",
    file="lab.txt",
)


def list_selected(**how: Any) -> str:
    """Return ``name:slots/gpus`` of the selected hosts."""
    return " ".join(
        f"{host.name}:{host.slots}" + (f"/{','.join(host.gpus)}" if host.gpus else "")
        for host in select_hosts(LAB, **how)
    )


REST = "titan:3/2,3,5 login:None"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, f"worker-0:4 worker-1:4 worker-2:4 worker-3:4 {REST}"),
        ({"include": "worker-0@worker-1:0,2"}, "worker-0:4 worker-1:2/0,2"),
        ({"include": "worker-1:2,0@worker-0"}, "worker-0:4 worker-1:2/2,0"),
        ({"include": "worker-[1-2]:0-1"}, "worker-1:2/0,1 worker-2:2/0,1"),
        ({"include": "titan:3"}, "titan:1/3"),
        ({"include": "login:0,7"}, "login:2/0,7"),
        ({"exclude": "worker-1"}, f"worker-0:4 worker-2:4 worker-3:4 {REST}"),
        ({"exclude": "worker-1:0@worker-[2-3]"}, f"worker-0:4 worker-1:3/1,2,3 {REST}"),
        ({"exclude": "worker-1:0,1,2,3", "nodes": "worker-*"}, "worker-0:4 worker-2:4 worker-3:4"),
        ({"include": "worker-0@worker-1", "exclude": "worker-0"}, "worker-1:4"),
        ({"nodes": "worker-[0-2]!worker-1"}, "worker-0:4 worker-2:4"),
        ({"nodes": "worker-2,worker-0"}, "worker-0:4 worker-2:4"),
        ({"nodes": "worker-?&worker-[1-2]"}, "worker-1:4 worker-2:4"),
        ({"nodes": "@old"}, f"{REST} sub1:None sub2:None"),
        ({"nodes": "@old!sub2"}, f"{REST} sub1:None"),
        ({"without": "@old"}, "worker-0:4 worker-1:4 worker-2:4 worker-3:4"),
        ({"without": "worker-*"}, REST),
        ({"tag": "a100"}, "worker-0:4 worker-1:4 worker-2:4 worker-3:4"),
        ({"tag": "a100,old", "nnodes": 1}, "worker-0:4"),
        ({"nnodes": 2}, "worker-0:4 worker-1:4"),
        ({"nnodes": 7, "without": "worker-[0-2]"}, None),
        ({"nnodes": 3, "without": "worker-*"}, f"{REST} sub1:None"),
        ({"nnodes": 2, "without": "worker-*"}, REST),
        ({"nodes": "sub1,login"}, "login:None sub1:None"),
        ({"nproc_per_node": 2, "nodes": "worker-0,titan"}, "worker-0:2 titan:2/2,3"),
    ],
    ids=str,
)
def test_choice(how: dict[str, Any], expected: str | None) -> None:
    """The filter selects these hosts, in the order of the file."""
    if expected is None:
        with pytest.raises(UsageError):
            list_selected(**how)
    else:
        assert list_selected(**how) == expected


@pytest.mark.parametrize(
    ("how", "message", "hint"),
    [
        ({"include": "worker-9"}, "--include: worker-9 is not in lab.txt", "did you mean 'worker-3'?"),
        ({"include": "worker-1:7"}, "--include: worker-1 has no slot 7 (lab.txt:3)", "it has 0, 1, 2, 3"),
        ({"include": "titan:0"}, "--include: titan has no slot 0 (lab.txt:5)", "it has 2, 3, 5"),
        ({"include": "worker-1:"}, "--include worker-1:: no slot after ':'", "write worker-0:0,2"),
        ({"include": "worker-[3-1]"}, "--include worker-[3-1]: the range 3-1 runs backwards", "write [1-3]"),
        (
            {"exclude": "login:0"},
            "--exclude login:0: the number of slots of login is unknown (lab.txt:6)",
            "add slots=8",
        ),
        ({"nodes": "gpu*"}, "-w gpu*: no host matches", "the file has worker-0, worker-1"),
        ({"without": "tital"}, "-x: tital is not in lab.txt", "did you mean 'titan'?"),
        ({"tag": "a10"}, "--tag a10: no host has this tag", "did you mean 'a100'?"),
        ({"nnodes": 0}, "--nnodes 0: must be at least 1", ""),
        ({"nnodes": 99}, "--nnodes 99: the hostfile and the filters leave 6 hosts and 2 spares", "--nnodes 8"),
        ({"nproc_per_node": 0}, "--nproc-per-node 0: must be at least 1", ""),
        ({"nproc_per_node": 4}, "--nproc-per-node 4: titan has only 3 (gpus=2,3,5, lab.txt:5)", "--nproc-per-node 3"),
        ({"without": "*"}, "lab.txt: the filters leave no host", "the file has"),
    ],
    ids=str,
)
def test_unmatched_filter_is_refused_with_a_reason(how: dict[str, Any], message: str, hint: str) -> None:
    """Unknown hosts, slots and tags are named, with the nearest existing one."""
    with pytest.raises(UsageError) as caught:
        select_hosts(LAB, **how)
    assert str(caught.value) == message
    assert hint in caught.value.hint


def test_expand_keeps_the_order_and_the_padding() -> None:
    """A node set is expanded in its own order, each name once."""
    assert expand_hosts("n[08-10],login,n[09,11]!n10") == ["n08", "n09", "login", "n11"]
    assert expand_hosts("a[1-4]&a[3-9]") == ["a3", "a4"]
    assert expand_hosts("a[1-3]^a[3-4]") == ["a1", "a2", "a4"]


def test_expand_refuses_an_invalid_set() -> None:
    """A syntax error in a set is a HostfileError with the fix."""
    with pytest.raises(HostfileError, match="runs backwards"):
        expand_hosts("n[3-1]")
    with pytest.raises(HostfileError, match="no host is left"):
        expand_hosts("n1!n[1-2]")
