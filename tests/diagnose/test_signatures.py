"""Signatures: each matches its own sample and no other, all are readable, and a user's own come first."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.diagnose.signatures import (
    GENERIC,
    SETS,
    Signature,
    fill_template,
    load_builtin,
    load_with_file,
    parse_set,
    parse_signatures,
)
from fanout.model.errors import UsageError
from tests.sources import ROOT

ALL = load_builtin().signatures


@pytest.mark.parametrize("signature", ALL, ids=[each.id for each in ALL])
def test_a_sample_matches_its_signature(signature: Signature) -> None:
    found = load_builtin().match_line(signature.sample)
    assert found is not None
    assert found[0].id == signature.id
    assert any(word in signature.sample for word in signature.words)


#: Patterns that match a neighbour's sample on purpose, and stand behind it: the general behind the special.
GENERAL = {
    "store-waits-for-key": {"store-waits-for-rank", "rendezvous-role-missing"},
    "socket-no-address": {"socket-all-digits"},
    "deepspeed-return": {"deepspeed-killed", "deepspeed-exit", "deepspeed-aborted"},
    "store-timeout": {"store-loopback"},
    "hccl-socket-timeout": {"hccl-notify-timeout"},
    "gloo-mesh": {"gloo-loopback"},
    "nccl-cuda": {"nccl-gpu-memory", "nccl-cuda-stopped"},
    "spawn-exited": {"spawned-process-killed"},
    "lightning-ended": {"lightning-child-killed"},
    "cuda-kernel-failed": {"cuda-illegal-access"},
    "no-space": {"nccl-shm"},
    "no-command": {"crlf"},
    "no-other-command": {"crlf", "no-command"},
    "shell-terminated": {"shell-helper-ended"},
    "mpi-rank-aborted": {"mpi-rank-signal"},
    "torchrun-death-signal": {"torchrun-hangup", "torchrun-interrupted"},
    "oom-daemon-unit": {"oom-daemon-session"},
    "slurm-cancelled": {"slurm-time-limit", "slurm-preempted"},
    "cpp-exception": {"bad-alloc", "cpp-library-exception"},
    "loader-killed": {"loader-shm"},
    "stated-by-program": {"torchrun-local-rank", *(each.id for each in ALL if each.id.startswith("slurm-"))},
    "stated-error": {"loader-shm"},
    "peer-trouble": {each.id for each in ALL},
    GENERIC: {each.id for each in ALL},
}


@pytest.mark.parametrize("signature", ALL, ids=[each.id for each in ALL])
def test_a_pattern_matches_no_neighbours_sample(signature: Signature) -> None:
    allowed = GENERAL.get(signature.id, set())
    wrong = {each.id for each in ALL if each is not signature and signature.regex.search(each.sample)}
    assert wrong <= allowed


@pytest.mark.parametrize("signature", ALL, ids=[each.id for each in ALL])
def test_a_builtin_signature_has_a_source_its_versions_and_a_sample(signature: Signature) -> None:
    assert signature.source
    assert signature.versions
    assert signature.sample


def test_every_set_has_a_file_and_every_file_is_a_set() -> None:
    folder = ROOT / "fanout" / "diagnose" / "signatures"
    assert {file.stem for file in folder.iterdir()} == {*SETS}
    assert sum(len(parse_set(name)) for name in SETS) == len(ALL)


def test_every_library_and_launcher_of_distributed_runs_has_a_set() -> None:
    programs = {"nccl", "rccl", "gloo", "hccl", "mpi", "slurm", "kubernetes", "deepspeed", "ray", "torchrun", "shells"}
    assert programs <= {*SETS}
    assert all(parse_set(name) for name in programs)


def test_the_wheel_contains_every_set() -> None:
    """Setuptools copies only files that a pattern of package-data matches."""
    line = next(
        each for each in (ROOT / "pyproject.toml").read_text().splitlines() if each.startswith('fanout = ["py.typed"')
    )
    patterns = line.partition("[")[2].rstrip("]").replace('"', "").split(", ")
    files = [path.relative_to(ROOT / "fanout") for path in (ROOT / "fanout").rglob("*.toml")]
    assert len(files) >= len(SETS)
    assert not [file for file in files if not any(file.match(pattern) for pattern in patterns)]


def test_names_are_unique() -> None:
    assert len({each.id for each in ALL}) == len(ALL)


@pytest.mark.parametrize("signature", ALL, ids=[each.id for each in ALL])
def test_the_explanation_is_readable_without_any_braces(signature: Signature) -> None:
    match = signature.regex.search(signature.sample)
    assert match is not None
    fields = {name: value for name, value in match.groupdict().items() if value is not None}
    for text in (signature.says, signature.advice):
        shown = fill_template(text, fields)
        assert "{" not in shown
        assert "\n" not in shown
        assert len(shown) < 400
    assert signature.role != "victim" or signature.kind


ORDINARY = """\
step 120/600 loss 3.6000 lr 3.00e-04 tok/s 38100
Epoch 3:  45%|####      | 450/1000 [01:12<01:28,  6.2it/s, loss=2.31]
INFO:root:saved checkpoint to /data/ckpt/step-1200
[rank0]: grad norm 1.2 inf_norm 4.0 info: nothing
gpu01:4242:4300 [0] NCCL INFO Bootstrap : Using eth0:10.0.0.1<0>
gpu01:4242:4300 [0] NCCL INFO Channel 00/02 :    0   1   2   3
UserWarning: this function is deprecated and will raise an error in a later version
loading model in 3 shards, 0 errors, no exception was seen
max memory 70.1 GB, out of 80 GB
W1122 15:42:08.017000 20146 torch/distributed/run.py:766] Setting OMP_NUM_THREADS environment variable to be 1
eval: perplexity 12.4, timeout 600 s, signal strength 3
rank 3 connected to rank 0
"""


@pytest.mark.parametrize("line", ORDINARY.splitlines())
def test_an_ordinary_line_is_no_error(line: str) -> None:
    found = load_builtin().match_line(line)
    assert found is None or found[0].role == "noise"


OWN = """
[[signature]]
id = "our-loader"
role = "root"
regex = 'shard (?P<shard>\\d+) is truncated'
says = "read a broken shard {shard}"
advice = "copy it again"
"""


def test_a_users_own_signatures_come_first_and_need_no_texts() -> None:
    found = load_with_file(OWN, "mine.toml").match_line("ValueError: shard 12 is truncated")
    assert found is not None
    assert (found[0].id, fill_template(found[0].says, found[1].groupdict())) == ("our-loader", "read a broken shard 12")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[signature]]\nid = 'x'\n", "has no role"),
        (OWN.replace("root", "cause"), "role 'cause'"),
        (OWN.replace("root", "victim"), "kind ''"),
        (OWN + "kind = 'timeout'\n", "kind 'timeout'"),
        (OWN.replace("(?P<shard>", "("), ""),
        (OWN.replace("shard>", "shard"), "regex:"),
        (OWN + "colour = 'red'\n", "unknown key 'colour'"),
        ("[[signature\n", "mine.toml:"),
        ("signature = 3\n", "tables"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_the_signature(text: str, says: str) -> None:
    if not says:
        assert parse_signatures(text, "mine.toml")[0].id == "our-loader"
        return
    with pytest.raises(UsageError, match=r"mine\.toml") as raised:
        parse_signatures(text, "mine.toml")
    assert says in str(raised.value)


@pytest.mark.parametrize("says", ["a { brace", "{0} by number", "{x.y} deep", "{", "}"])
def test_braces_that_are_no_fields_do_no_harm(says: str) -> None:
    assert isinstance(fill_template(says, {}), str)


@given(
    st.lists(
        st.sampled_from(
            ["step 3 loss 2.5", "step 44 loss 1e-3", "CUDA out of memory", "loss nan", "7", "", "a -1.5 b\r"]
        )
        | st.text(st.sampled_from("0.+-NanifErorCUDA :("), max_size=20),
        max_size=12,
    ),
    st.integers(0, 40),
)
def test_the_keyword_search_hides_no_line_that_matters(lines: list[str], cut: int) -> None:
    """The quick search in bytes finds what a search for every word would, after any earlier input."""
    book = load_builtin()
    for text in (lines, lines[::-1], lines):
        data = "\n".join(text).encode()[cut:]
        assert book.may_match(data) == any(needle in data for needle in book._needles)
