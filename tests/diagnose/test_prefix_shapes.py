"""Prefixes that no tool is known for: the shape is learned from the lines, and a column of it names the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.diagnose.import_logs.prefix_shapes import ShapeSplitter, learn_shapes
from tests.diagnose.test_field import LOST, found, prefixed, trace

FAILED = trace("KeyError: 'img'", "[rank1]: ")
#: The prefix of the lines of each host, with {h} for its name and {n} for a number that grows.
PREFIXES = {
    "time and host": "10:11:{n:02} {h} ",
    "a date, a time and a host": "2025-05-08 10:11:{n:02},123 {h} INFO ",
    "a host in brackets": "[{h}] ",
    "a host and a level": "{h} ERROR: ",
    "a namespace and a pod": "train/{h}/pytorch: ",
    "a time in brackets and a host": "[05/08 10:11:{n:02}] <{h}> ",
    "a pipe": "{h:>12} | ",
    "grep -n of several files": "{h}.log:{n}:",
    "a key for each word": "ts=10:11:{n:02} host={h} msg=",
    "a container in colour": "\x1b[36m{h:<9}|\x1b[0m ",
    "an arrow": "{h} -> ",
    "an at sign": "worker@{h}: ",
    "a comma": "{n},{h},",
}
NAMES = {"numbered": ("gpu01", "gpu02"), "letters": ("node-a", "node-b"), "addresses": ("10.0.0.1", "10.0.0.2"),
         "domains": ("alpha.lab.org", "beta.lab.org"), "plain words": ("alpha", "beta")}  # fmt: skip


def write_log(prefix: str, names: tuple[str, str]) -> str:
    """Return the lines of two hosts: an error of the second one, then the first one loses its peer."""
    pieces = [(0, "step 1 loss 2"), (1, "step 1 loss 2")]
    pieces += [(1, line) for line in FAILED.splitlines()] + [(0, line) for line in LOST.format(r=0).splitlines()]
    return "".join(
        f"{prefix.format(h=names[host], n=number + 10)}{line}\n" for number, (host, line) in enumerate(pieces)
    )


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("name", PREFIXES)
def test_a_column_of_the_prefix_names_the_host(name: str, kind: str, tmp_path: Path) -> None:
    verdict = found(tmp_path / "logs", {"all.log": write_log(PREFIXES[name], NAMES[kind])})
    cause = verdict["cause"]
    assert (cause["host"], cause["rank"], cause["line"]) == (NAMES[kind][1], 1, "KeyError: 'img'")
    assert verdict["confidence"] == "high"
    assert len(cause["traceback"]) == 4


#: Words of a prefix that are no hosts, in the log of one host.
NO_HOSTS = {
    "a level": "{level}: ",
    "a logger's name": "2025-05-08 10:11:{n:02},123 - my_trainer.loop - {level} - ",
    "a model's name": "llama3 {level} ",
    "a rank by name": "rank1 | ",
    "an hour and a level": "10:11:{n:02} {level:<8}",
    "a line of cat -n": "{n:>6}\t",
    "a line of grep -n": "{n}:",
    "a file and a line of the code": "train.py:{n}: ",
}


@pytest.mark.parametrize("name", NO_HOSTS)
def test_other_words_of_a_prefix_are_no_hosts(name: str, tmp_path: Path) -> None:
    lines = ["step 1 loss 2", *FAILED.splitlines(), "step 2 loss 1"]
    levels = ("INFO", "ERROR", "WARNING")
    text = "".join(
        NO_HOSTS[name].format(n=number + 10, level=levels[number % 3]) + line + "\n"
        for number, line in enumerate(lines)
    )
    verdict = found(tmp_path / "logs", {"gpu07.log": text})
    assert (verdict["cause"]["host"], verdict["cause"]["rank"]) == ("gpu07", 1)
    assert verdict["cause"]["line"] == "KeyError: 'img'"


RANKS = ["[Rank {r}] ", "rank={r} ", "[1,mpirank:{r},algo-{h}]<stdout>:", "10:11:12 rank{r} | ", "global_rank {r}: "]


@pytest.mark.parametrize("prefix", RANKS)
def test_a_column_of_the_prefix_is_the_rank(prefix: str, tmp_path: Path) -> None:
    """Only the prefix shows it: the text has no `[rank3]:`."""
    pieces = [(rank, "step 1 loss 2") for rank in range(4)]
    pieces += [(3, line) for line in trace("KeyError: 'img'").splitlines()]
    pieces += [(0, line) for line in trace("RuntimeError: Connection closed by peer [10.0.0.2]:3001").splitlines()]
    text = "".join(f"{prefix.format(r=rank, h=1 + rank // 2)}{line}\n" for rank, line in pieces)
    verdict = found(tmp_path / "logs", {"gpu07.log": text})
    assert (verdict["cause"]["rank"], verdict["cause"]["line"]) == (3, "KeyError: 'img'")
    assert verdict["cause"]["host"] in ("gpu07", "algo-2")


def test_a_traceback_below_the_record_of_a_logger_belongs_to_its_host(tmp_path: Path) -> None:
    """Python's logging puts the prefix only before the first line of a record."""
    record = "10:11:13 gpu02 ERROR [rank1]: step failed\n" + trace("KeyError: 'img'")
    text = "".join(f"10:11:{n:02} gpu0{1 + n % 2} INFO [rank{n % 2}]: step {n}\n" for n in range(20)) + record
    text += "".join(f"10:11:{n:02} gpu01 INFO [rank0]: waits\n" for n in range(20, 24))
    verdict = found(tmp_path / "logs", {"all.log": text})
    assert verdict["cause"]["host"] == "gpu02"


def test_a_shape_behind_a_label_is_learned_too(tmp_path: Path) -> None:
    text = prefixed("gpu01: ", prefixed("10:11:12 INFO ", "step 1\n" + LOST.format(r=0)))
    text += prefixed("gpu02: ", prefixed("10:11:11 ERROR ", "step 1\n" + FAILED))
    verdict = found(tmp_path / "logs", {"all.log": text})
    assert (verdict["cause"]["host"], verdict["cause"]["line"]) == ("gpu02", "KeyError: 'img'")


def test_lines_without_a_common_prefix_have_no_shape() -> None:
    lines = [f"step {n} loss 2" for n in range(20)]
    assert learn_shapes([*lines, "INFO: [rank0]: up"]) == ()
    assert learn_shapes(["[rank0]: step 1", "[rank0]: step 2", "x: [rank0]: step 3"]) == ()
    assert learn_shapes([]) == ()


def test_a_line_of_another_shape_keeps_its_text() -> None:
    lines = [f"gpu0{1 + n % 2} | [rank{n % 2}]: step {n}" for n in range(10)]
    split = ShapeSplitter(learn_shapes(lines))
    assert split("gpu02 | [rank1]: step 9") == ("gpu02", "[rank1]: step 9")
    assert split("KeyError | 'img'") == ("gpu02", "KeyError | 'img'")
