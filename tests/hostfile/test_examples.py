"""Files in hostfiles/ and corpus/: each is parsed, or refused, as recorded beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fanout.hostfile import dump_hostfile, explain_lines, parse_source, render_hosts, select_hosts, to_dicts
from fanout.hostfile.source import HostSource
from fanout.model.errors import HostfileError
from fanout.model.hosts import Host

ROOT = Path(__file__).parents[2]
CORPUS = Path(__file__).parent / "corpus"
EXAMPLES = sorted(path for path in (ROOT / "hostfiles").iterdir() if path.is_file())
SHAPES = sorted(path for path in CORPUS.iterdir() if path.suffix != ".read")


def describe_file(path: Path) -> str:
    """Return the result for a file: its hosts as plain lines and its notes, or the whole refusal."""
    here = os.path.relpath(path, CORPUS)
    source = HostSource(name=here, data=path.read_bytes(), is_file=True)
    try:
        found = parse_source(source)
    except HostfileError as error:
        return f"refused:\n{error}\n"
    return dump_hostfile(found) + "".join(f"note: {note}\n" for note in found.notes)


@pytest.mark.parametrize("path", EXAMPLES + SHAPES, ids=lambda path: path.name)
def test_reading_of_a_whole_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result equals corpus/NAME.read."""
    monkeypatch.chdir(CORPUS)
    assert describe_file(path) == (CORPUS / f"{path.name}.read").read_text()


def test_every_recorded_result_has_its_file() -> None:
    """No result is left of a deleted file."""
    names = {f"{path.name}.read" for path in EXAMPLES + SHAPES}
    assert {path.name for path in CORPUS.glob("*.read")} == names


def resolve_fixed(host: Host) -> tuple[str, str, int]:
    """Return a fixed answer in the place of ssh_config's."""
    return host.hostname or host.name, host.user or "me", host.port or 22


def test_the_table_shows_the_parsed_hosts() -> None:
    """Its columns are node rank, host, address, user, port, slots, attributes and the line."""
    found = parse_source(HostSource(name="lab.txt", data=(ROOT / "hostfiles" / "lab.txt").read_bytes(), is_file=True))
    assert render_hosts(select_hosts(found), resolve_fixed).splitlines() == [
        "node  host   address  user   port  slots  attributes                                                   from",
        "0     gpu01  gpu01    me     22    8      addr=10.0.0.1 iface=ib0 tag=a100                             lab.txt:5",
        "1     gpu02  gpu02    me     22    8      addr=10.0.0.2 iface=ib0 tag=a100                             lab.txt:5",
        "2     gpu04  gpu04    me     22    8      addr=10.0.0.4 iface=ib0 tag=a100                             lab.txt:5",
        "3     gpu05  gpu05    alice  2222  8      addr=10.0.0.5 iface=ib0 tag=a100                             lab.txt:6",
        "4     titan  titan    me     22    2      gpus=2,3 workdir=/data/train env.NCCL_P2P_DISABLE=1 tag=old  lab.txt:9",
        "",
        "5 hosts, 34 processes",
    ]


def test_json_has_one_object_for_each_host() -> None:
    """Programs rely on its keys; a value is null if the file does not contain it."""
    found = parse_source(HostSource(name="h.txt", data=b"a slots=2 env.API_KEY=abc\nb gpus=1,3 spare\n", is_file=True))
    first, second = to_dicts(found.hosts)
    assert first == {
        "rank": 0, "host": "a", "address": None, "user": None, "port": None, "slots": 2, "gpus": [], "addr": None,
        "iface": None, "env": {"API_KEY": "***"}, "python": None, "workdir": None, "container": None, "image": None,
        "engine": None, "type": None, "spare": False,
        "tags": [], "extra": {}, "file": "h.txt", "line": 1,
    }  # fmt: skip
    assert (second["rank"], second["gpus"], second["slots"], second["spare"]) == (1, ["1", "3"], 2, True)


def test_explain_names_the_dialect_and_the_launchers_that_differ() -> None:
    """Only launchers that differ are listed; those that agree with each other share a row."""
    data = b"worker-1 slots=4\n\n# c\ngpu[1-2]\nh 4\n"
    found = parse_source(HostSource(name="h.txt", data=data, is_file=True))
    assert explain_lines(data, found).splitlines() == [
        "h.txt:1: worker-1 slots=4",
        "  read as    'worker-1' (4 slots)  [DeepSpeed, Horovod and Open MPI]",
        "  MPICH: refused",
        "  pdsh, clush: 'worker-1', 'slots=4'",
        "h.txt:4: gpu[1-2]",
        "  read as    'gpu1' (one process per GPU), 'gpu2' (one process per GPU)  [pdsh, Slurm and ClusterShell]",
        "  DeepSpeed, Open MPI: refused",
        "  MPICH: 'gpu[1-2]' (1 slot)",
        "h.txt:5: h 4",
        "  read as    'h' (4 slots)  [Metis and MS-MPI]",
        "  DeepSpeed, MPICH: refused",
        "  Open MPI: 'h' (all of its CPUs)",
        "  pdsh, clush: 'h', '4'",
    ]


def test_explain_shows_only_the_hosts_of_a_yaml_inventory() -> None:
    """The keys of the inventory are no hosts of any launcher."""
    data = b"all:\n  children:\n    gpus:\n      hosts:\n        gpu01: {ansible_host: 10.0.0.1}\n        gpu02:\n"
    found = parse_source(HostSource(name="inv.yaml", data=data, is_file=True))
    assert explain_lines(data, found).splitlines() == [
        "inv.yaml:5: gpu01: {ansible_host: 10.0.0.1}",
        "  read as    'gpu01' (one process per GPU)",
        "inv.yaml:6: gpu02:",
        "  read as    'gpu02' (one process per GPU)",
        "DeepSpeed, Open MPI, MPICH, pdsh, clush do not read YAML",
    ]
