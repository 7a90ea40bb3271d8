"""Properties for any input: printing and parsing are inverse, order is kept, and each result is hosts or a refusal."""

from __future__ import annotations

import dataclasses
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.hostfile import dump_hostfile, expand_hosts, explain_lines, parse_hostfile, select_hosts
from fanout.hostfile.name_grammar import HOST
from fanout.model.errors import HostfileError, UsageError
from fanout.model.hosts import Host, HostFile, Origin, fold_names

NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9-]{0,8}[a-z0-9](\.lab)?", fullmatch=True),
    st.sampled_from(["10.0.0.7", "192.168.1.1", "::1", "fe80::1%eth0", "2001:db8::5", "xn--bcher-kva.lab"]),
)
TEXT = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x17F, exclude_categories=["Cc"]) | st.sampled_from("\n\t"),
    max_size=12,
)
TAGS = st.from_regex(r"[a-z_][a-z0-9_.-]{0,5}", fullmatch=True)
GPUS = st.lists(st.integers(0, 15).map(str), unique=True, max_size=4).map(tuple)


@st.composite
def generate_hosts(draw: st.DrawFn) -> Host:
    """Generate any host that the parser can return."""
    gpus = draw(GPUS)
    slots = draw(st.integers(1, len(gpus))) if gpus else draw(st.none() | st.integers(1, 4096))
    env = draw(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), TEXT, max_size=2))
    extra = draw(st.dictionaries(st.sampled_from(["boards", "rack", "x.y"]), TEXT, max_size=2))
    return Host(
        name=draw(NAMES),
        origin=Origin(file="x", line=1),
        user=draw(st.none() | st.sampled_from(["alice", "bob_2", "svc$"])),
        port=draw(st.none() | st.integers(1, 65535)),
        hostname=draw(st.none() | NAMES),
        slots=slots,
        gpus=gpus,
        addr=draw(st.none() | NAMES),
        iface=draw(st.none() | st.sampled_from(["eth0", "ib0,ib1", "^lo"])),
        env=tuple(env.items()),
        python=draw(st.none() | st.sampled_from(["/usr/bin/python3", "/a-b/~me/py_3.12+"])),
        workdir=draw(st.none() | st.sampled_from(["/data", "~/x//y", "/a,"])),
        kind=draw(st.none() | st.just("a100")),
        spare=draw(st.booleans()),
        tags=tuple(draw(st.lists(TAGS, unique=True, max_size=3))),
        extra=tuple(extra.items()),
    )


def drop_origin(found: HostFile) -> list[Host]:
    """Return the hosts without their place in the file, which printing changes."""
    nowhere = Origin(file="", line=0)
    return [dataclasses.replace(host, origin=nowhere) for host in found.hosts]


@given(st.lists(generate_hosts(), min_size=1, max_size=6, unique_by=lambda host: host.name.casefold()))
def test_parse_after_print_is_the_identity(many: list[Host]) -> None:
    """A printed hostfile gives the same hosts in the same order, with all attributes."""
    before = HostFile(source="x", hosts=tuple(many))
    assert drop_origin(parse_hostfile(dump_hostfile(before).encode(), file="hosts.txt")) == drop_origin(before)


HOSTILE = st.lists(
    st.sampled_from(
        "h1|gpu[1-3]|[lab]|@lab|@include x|^h1| slots=|4|2,3|gpus=|:|22|128|=|\"|'|#|//|/*|[|]|,|-o|\x1b|\x00|\r\n|\n|\n|\n|"
        "\t| |env.A=|é|\u202e|- |{|}|&a |*a|: |---|host,slots|[a:vars]|[a:children]|ansible_host=|rank 0=|::1|%|\\|all:|  hosts:".split(
            "|"
        )
    ),
    max_size=30,
).map("".join)
ENDINGS = st.sampled_from(["hosts.txt", "hosts.yaml", "hosts.csv", "<stdin>", "inv.ini"])


@settings(max_examples=400)
@given(HOSTILE.map(str.encode) | st.binary(max_size=200), ENDINGS)
def test_any_bytes_give_hosts_or_a_refusal(data: bytes, file: str) -> None:
    """The result is hosts of the strict grammar, or a HostfileError that a terminal can show."""
    try:
        found = parse_hostfile(data, file=file, load=lambda path: b"inc1\n")
    except HostfileError as error:
        refusal = str(error).split("\n")
    else:
        refusal = []
    assert all(line.isprintable() for line in refusal)
    if refusal:
        return
    assert found.hosts
    for host in found.hosts:
        assert HOST.fullmatch(host.name) or ":" in host.name
        assert not host.name.startswith("-")
    assert drop_origin(parse_hostfile(dump_hostfile(found).encode(), file="again.txt")) == drop_origin(found)
    assert explain_lines(data, found) is not None


@given(st.lists(NAMES, min_size=1, max_size=8, unique_by=str.casefold))
def test_order_is_the_order_of_the_lines(names: list[str]) -> None:
    """The n-th line is rank n."""
    found = parse_hostfile("\n".join(f"{name} slots=2" for name in names).encode(), file="h.txt")
    assert [host.name for host in found.hosts] == names


@given(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), st.integers(1, 9), st.data())
def test_a_choice_keeps_the_order_and_invents_no_host(numbers: list[int], nnodes: int, data: st.DataObject) -> None:
    """The result of select is a subsequence of the file, or a UsageError."""
    found = parse_hostfile("\n".join(f"n{number} slots=4" for number in numbers).encode(), file="h.txt")
    wanted = data.draw(st.lists(st.sampled_from(numbers), min_size=1, unique=True))
    try:
        chosen = select_hosts(found, nodes=",".join(f"n{number}" for number in wanted), nnodes=nnodes)
    except UsageError:
        assert nnodes > len(wanted)
        return
    assert [host for host in found.hosts if host in chosen] == list(chosen)
    assert len(chosen) == nnodes


FOLDABLE = st.from_regex(r"[a-z]{1,3}(-[a-z])?(0?[0-9]{1,3})?(\.lab)?", fullmatch=True)


@given(st.lists(FOLDABLE, min_size=1, max_size=12, unique=True))
def test_expand_reverses_fold(names: list[str]) -> None:
    """Folding loses no name and adds none."""
    assert sorted(expand_hosts(fold_names(names))) == sorted(names)


@given(st.text(max_size=30))
def test_expand_gives_names_or_a_refusal(text: str) -> None:
    """No text makes expand fail in another way."""
    try:
        names = expand_hosts(text)
    except HostfileError:
        return
    assert names
    assert len(set(names)) == len(names)


def test_ten_thousand_hosts_are_parsed_in_a_second() -> None:
    """A long file with an attribute and a comment on each line costs less than a second of CPU time."""
    text = "".join(
        f"worker-{n:05d} slots=8 addr=10.{n >> 16}.{n >> 8 & 255}.{n & 255}  # x\n" for n in range(1, 10_001)
    )
    spent = []
    for _ in range(3):  # the best of three: a busy machine slows all of them, but seldom each as much
        before = time.process_time()
        found = parse_hostfile(text.encode(), file="h.txt")
        spent.append(time.process_time() - before)
        assert len(found.hosts) == 10_000
    assert min(spent) < 1.0
