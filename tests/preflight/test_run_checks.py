"""Order of the check with a scripted asker: the questions of each host, their end, and what the plan learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from fanout.checks.engine.definition import UnreachableHost
from fanout.checks.files.task_config import find_batch_sizes, find_paths
from fanout.checks.network.addresses import list_master_candidates
from fanout.checks.network.interfaces import predict_nccl_interface
from fanout.checks.network.mesh import MOST_WHOLE, attribute_failures, choose_pairs
from fanout.checks.software.task_imports import ModuleImports, find_imports
from fanout.model.rpc import ProbeAnswer
from fanout.preflight import run_checks
from tests.checks.kit import ScriptedAsker, build_healthy_facts, build_request

Script = dict[str, Callable[[str, Mapping[str, Any]], ProbeAnswer]]


def parse_number(host: str) -> int:
    return int(host[3:])


def build_healthy_script(**more: Callable[[str, Mapping[str, Any]], ProbeAnswer]) -> Script:
    """Return the answers of hosts gpu01 … at 10.0.0.1 … that all reach each other."""

    def facts(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        return ProbeAnswer(value=build_healthy_facts(parse_number(host)), sent=99.9, received=100.3)

    def listen(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        return ProbeAnswer(value={"port": args["port"] or 40000 + parse_number(host)}, handle=parse_number(host))

    def dial(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        fine = {"outcome": "ok", "connect": 0.001, "source": f"10.0.0.{parse_number(host)}"}
        return ProbeAnswer(value={"results": [fine for _ in args["targets"]]})

    def share(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        return ProbeAnswer(value={"token": "there"}, handle=10 + parse_number(host))

    def shared(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        return ProbeAnswer(value={"seen": list(range(args["count"])), "seconds": 0.0})

    def clock(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        return ProbeAnswer(value={"time": 100.012}, sent=100.0, received=100.02)

    return {"facts": facts, "clock": clock, "listen": listen, "dial": dial, "share": share, "shared": shared, **more}


def test_five_rounds_and_all_long_lived_questions_are_ended() -> None:
    """Facts and time of all; host 0 listens and the others connect; all listen and connect; all write and search tokens."""
    asker = ScriptedAsker(build_healthy_script())
    result = run_checks.run(build_request(3), asker, clock=lambda: 0.0)
    assert [(ask.what, ask.host) for ask in asker.asked] == [
        ("facts", "gpu01"), ("facts", "gpu02"), ("facts", "gpu03"),
        ("clock", "gpu01"), ("clock", "gpu02"), ("clock", "gpu03"),
        ("listen", "gpu01"), ("dial", "gpu02"), ("dial", "gpu03"),
        ("listen", "gpu01"), ("listen", "gpu02"), ("listen", "gpu03"),
        ("dial", "gpu01"), ("dial", "gpu02"), ("dial", "gpu03"),
        ("share", "gpu01"), ("share", "gpu02"), ("share", "gpu03"),
        ("shared", "gpu01"), ("shared", "gpu02"), ("shared", "gpu03"),
    ]  # fmt: skip
    assert sorted(asker.cancelled) == [
        ("gpu01", 1), ("gpu01", 1), ("gpu01", 11), ("gpu02", 2), ("gpu02", 12), ("gpu03", 3), ("gpu03", 13),
    ]  # fmt: skip
    assert result.compute_exit_code(strict=True) == 0
    assert result.host_facts.master_addr == "10.0.0.1"
    assert result.host_facts.gpus == {"gpu01": 8, "gpu02": 8, "gpu03": 8}
    assert result.host_facts.addresses == {"gpu01": "10.0.0.1", "gpu02": "10.0.0.2", "gpu03": "10.0.0.3"}
    assert result.host_facts.interfaces == dict.fromkeys(("gpu01", "gpu02", "gpu03"), "eth0")
    assert result.host_facts.exports == {}


def test_the_most_precise_clock_sample_counts() -> None:
    """Facts take long; a small question measures the host's clock within 20 ms. If it fails, the facts are used."""
    offset, margin = run_checks.run(build_request(2), ScriptedAsker(build_healthy_script())).case.offsets["gpu02"]
    assert (round(offset, 4), round(margin, 4)) == (0.002, 0.01)
    silent = build_healthy_script(clock=lambda host, args: ProbeAnswer(error="no answer in time", reason="timeout"))
    offset, margin = run_checks.run(build_request(2), ScriptedAsker(silent)).case.offsets["gpu02"]
    assert (round(offset, 4), round(margin, 4)) == (0.0, 0.1)


def test_one_host_binds_its_port_and_needs_no_network() -> None:
    """No host connects; MASTER_ADDR is loopback."""
    asker = ScriptedAsker(build_healthy_script())
    result = run_checks.run(build_request(1), asker, clock=lambda: 0.0)
    assert [ask.what for ask in asker.asked] == ["facts", "clock", "listen"]
    assert result.host_facts.master_addr == "127.0.0.1"


def test_an_unreachable_host_is_asked_nothing_and_fails_with_the_error_of_ssh() -> None:
    """The others are still checked; the status is that of ssh."""
    asker = ScriptedAsker(build_healthy_script())
    gone = {"gpu02": UnreachableHost(message="no answer from 10.0.0.2:22 in 10 s", hint="ping 10.0.0.2")}
    result = run_checks.run(build_request(3, unreached=gone), asker, clock=lambda: 0.0)
    assert "gpu02" not in {ask.host for ask in asker.asked}
    assert [(f.check, f.hosts, f.saw, f.advice) for f in result.failures] == [
        ("reached", ("gpu02",), "no answer from 10.0.0.2:22 in 10 s", "ping 10.0.0.2")
    ]
    assert result.compute_exit_code() == 255


def test_without_host_0_the_network_is_not_judged() -> None:
    """There is no address to connect to; the rows report that instead of ok."""
    gone = {"gpu01": UnreachableHost(message="down")}
    result = run_checks.run(build_request(3, unreached=gone), ScriptedAsker(build_healthy_script()), clock=lambda: 0.0)
    (finding,) = [f for f in result.findings if f.check == "master-addr" and set(f.hosts) == {"gpu02", "gpu03"}]
    assert (finding.level, finding.saw) == ("skip", "gpu01, which is host 0, did not answer")


def test_a_link_that_breaks_in_the_middle_is_reported_and_hides_nothing() -> None:
    """gpu02 answers the first question and no other."""

    def dial(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        if host == "gpu02":
            return ProbeAnswer(error="the link was lost")
        return build_healthy_script()["dial"](host, args)

    result = run_checks.run(build_request(3), ScriptedAsker(build_healthy_script(dial=dial)), clock=lambda: 0.0)
    assert {(f.check, f.hosts) for f in result.failures} == {("master-addr", ("gpu02",)), ("mesh", ("gpu02",))}
    assert all("the link was lost" in f.saw for f in result.failures)


def test_the_first_address_that_all_reach_is_chosen() -> None:
    """Host 0 has two networks, and ssh used the one that gpu03 does not reach."""

    def facts(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        known = build_healthy_facts(parse_number(host))
        if host == "gpu01":
            second = {**known["interfaces"][1], "name": "eth1", "addresses": ["192.168.9.1/24"]}
            known["interfaces"].append(second)
        return ProbeAnswer(value=known)

    def dial(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        fine = {"outcome": "ok", "source": f"192.168.9.{parse_number(host)}"}
        bad = {"outcome": "dropped", "seconds": 3.0}
        first = [bad if host == "gpu03" and target["addr"] == "10.0.0.1" else fine for target in args["targets"]]
        return ProbeAnswer(value={"results": first})

    result = run_checks.run(
        build_request(3), ScriptedAsker(build_healthy_script(facts=facts, dial=dial)), clock=lambda: 0.0
    )
    assert result.host_facts.master_addr == "192.168.9.1"
    assert "master-addr" not in {f.check for f in result.failures}
    (note,) = [f for f in result.findings if f.check == "master-addr" and f.level == "info"]
    assert (note.hosts, note.saw) == (
        ("gpu03",),
        "does not reach gpu01 at 10.0.0.1 (dropped): MASTER_ADDR is 192.168.9.1",
    )


def test_a_host_with_the_debian_line_gets_the_interface_by_name() -> None:
    """All hosts get it, so that they use the same network; a user's own setting is left alone."""

    def facts(host: str, args: Mapping[str, Any]) -> ProbeAnswer:
        known = build_healthy_facts(parse_number(host))
        if host == "gpu02":
            known["own_name"]["addresses"] = ["127.0.1.1"]
        return ProbeAnswer(value=known)

    facts_of_hosts = run_checks.run(
        build_request(2), ScriptedAsker(build_healthy_script(facts=facts)), clock=lambda: 0.0
    ).host_facts
    assert facts_of_hosts.exports == {name: {"GLOO_SOCKET_IFNAME": "eth0"} for name in ("gpu01", "gpu02")}
    asked = build_request(2, env={"GLOO_SOCKET_IFNAME": "eth0"})
    assert (
        run_checks.run(asked, ScriptedAsker(build_healthy_script(facts=facts)), clock=lambda: 0.0).host_facts.exports
        == {}
    )


# -- the address of host 0

LAN = {"name": "eth0", "addresses": ["10.0.0.1/24", "fe80::1%2/64", "2001:db8::1/64"], "up": True, "loopback": False}
SIX = {**LAN, "addresses": ["fe80::1%2/64", "2001:db8::1/64"]}
LO = {"name": "lo", "addresses": ["127.0.0.1/8"], "up": True, "loopback": True}
DOCKER = {"name": "docker0", "addresses": ["172.17.0.1/16"], "up": True, "loopback": False}
FACTS = {"interfaces": [LO, DOCKER, LAN], "route": {"ipv4": "eth0"}}


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, ("10.0.0.1", "172.17.0.1")),
        ({"dialled": "172.17.0.1"}, ("172.17.0.1", "10.0.0.1")),
        ({"dialled": "10.9.9.9"}, ("10.0.0.1", "172.17.0.1")),
        ({"dialled": "127.0.0.1"}, ("10.0.0.1", "172.17.0.1")),
        ({"dialled": "2001:db8::1"}, ("10.0.0.1", "172.17.0.1")),
        ({"dialled": "2001:db8::1", "facts": {"interfaces": [LO, SIX], "route": {}}}, ("2001:db8::1",)),
        ({"dialled": "127.0.0.2", "loopback": True}, ("127.0.0.2",)),
        ({"addr": "10.1.1.1"}, ("10.1.1.1",)),
        ({"addr": "10.1.1.1", "given": "10.2.2.2"}, ("10.2.2.2",)),
        ({"alone": True}, ("127.0.0.1",)),
    ],
)
def test_candidates_for_master_addr(more: dict[str, Any], expected: tuple[str, ...]) -> None:
    """The user's address alone; else ssh's address if the host has it; never loopback among several hosts."""
    settings = {"given": "", "addr": None, "dialled": "", "facts": FACTS, "alone": False, "loopback": False}
    assert list_master_candidates(**{**settings, **more}) == expected


# -- the mesh


@pytest.mark.parametrize("count", [2, 3, MOST_WHOLE, MOST_WHOLE + 1, 64, 200])
def test_every_host_connects_and_is_connected_to(count: int) -> None:
    """All ordered pairs up to 32 hosts; beyond, equally many in each direction for every host, in a small number."""
    names = [f"h{index}" for index in range(count)]
    tested = choose_pairs(names)
    assert len(tested) == len(set(tested))
    assert all(start != end for start, end in tested)
    out = [sum(start == name for start, _ in tested) for name in names]
    into = [sum(end == name for _, end in tested) for name in names]
    assert set(out) == set(into) == {out[0]}
    assert out[0] == count - 1 if count <= MOST_WHOLE else 10 <= out[0] <= 14


@pytest.mark.parametrize("count", [4, 64])
@pytest.mark.parametrize("inward", [True, False])
def test_a_firewall_on_one_host_is_blamed_on_it(count: int, inward: bool) -> None:
    """This holds for the covering design and for the whole mesh, on the right side of the host."""
    names = [f"h{index}" for index in range(count)]
    tested = choose_pairs(names)
    failing = {pair: {"outcome": "dropped"} for pair in tested if pair[1 if inward else 0] == "h2"}
    assert [(host, side) for host, side, _ in attribute_failures(failing, tested)] == [("h2", inward)]


def test_one_broken_pair_among_many_blames_the_target_and_names_the_other() -> None:
    """Both hosts work with all others: the pair is reported."""
    tested = choose_pairs(["a", "b", "c", "d"])
    (only,) = attribute_failures({("a", "c"): {"outcome": "refused"}}, tested)
    assert (only[0], only[1], [pair for pair, _ in only[2]]) == ("c", True, [("a", "c")])


# -- NCCL's choice, the config, the imports


def test_nccl_takes_infiniband_first_and_bridges_last() -> None:
    """This is the order of NCCL's own search; interfaces that are down or without address are skipped."""

    def build_row(name: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "up": True, "running": True, "addresses": ["10.0.0.1/24"], **more}

    assert predict_nccl_interface([build_row("lo"), build_row("docker0"), build_row("eth0"), build_row("ib0")]) == "ib0"
    assert (
        predict_nccl_interface([build_row("lo"), build_row("docker0"), build_row("veth1"), build_row("eth0")])
        == "veth1"
    )
    assert (
        predict_nccl_interface(
            [build_row("lo"), build_row("docker0"), build_row("eth0", running=False), build_row("eth1", addresses=[])]
        )
        == "docker0"
    )
    assert predict_nccl_interface([build_row("lo")]) == "lo"


def test_paths_of_a_config_are_distinguished_from_names() -> None:
    """A value that begins like a path is one; a hub's ``org/model`` is not; output paths have other checks."""
    values = {
        "data": {"train_path": "./data/a.jsonl", "pattern": "/data/*.bin", "names": ["/x/y"]},
        "model": {"model_path": "inclusionAI/LLaDA2.0-mini", "config_path": "./configs/m"},
        "train": {
            "output_dir": "out",
            "save_path": "/ckpt",
            "load_checkpoint_path": "/ckpt/1",
            "lr": 0.1,
            "url": "s3://x",
        },
    }
    assert find_paths(values) == {
        "config:data.train_path": "./data/a.jsonl",
        "config:data.pattern": "/data",
        "config:data.names[0]": "/x/y",
        "maybe:model.model_path": "inclusionAI/LLaDA2.0-mini",
        "config:model.config_path": "./configs/m",
        "output:train.output_dir": "out",
        "output:train.save_path": "/ckpt",
        "config:train.load_checkpoint_path": "/ckpt/1",
    }
    assert find_paths(None) == {}


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("train_path", "data/x.jsonl", {"config:train_path": "data/x.jsonl"}),
        ("train_path", "data/a.jsonl,data/b.jsonl", {"config:train_path[0]": "data/a.jsonl", "config:train_path[1]": "data/b.jsonl"}),
        ("corpus", "data/x.parquet", {"config:corpus": "data/x.parquet"}),
        ("tokenizer_dir", "tok", {"config:tokenizer_dir": "tok"}),
        ("data_path", "allenai/c4", {"maybe:data_path": "allenai/c4"}),
        ("shards", "data/part-*/x.bin", {"config:shards": "data"}),
        ("save_dir", "out/a", {"output:save_dir": "out/a"}),
        ("log_level", "info", {}),
        ("weights_name", "model.safetensors", {}),
        ("data_path", "hdfs://x/y", {}),
        ("data_path", "$DATA/x.jsonl", {}),
        ("prompt_file", "tell me a story", {}),
        ("path", "", {}),
    ],
)  # fmt: skip
def test_a_path_is_recognised_by_its_value_or_its_key(key: str, value: str, found: dict[str, str]) -> None:
    """A relative path without ./ is one; prose, addresses and variables are none."""
    assert find_paths({key: value}) == found


def test_batch_sizes_are_found_by_name() -> None:
    """Any section may contain them; one alone proves nothing."""
    assert find_batch_sizes({"train": {"global_batch_size": 16, "micro_batch_size": 2}}) == (16, 2)
    assert find_batch_sizes({"train": {"global_batch_size": 16}}) is None


def test_imports_are_read_and_not_run() -> None:
    """Only imports at the top count, without the standard library."""
    source = (
        "import os, torch.nn\nfrom einops import x\nfrom . import y\ntry:\n    import apex\nexcept ImportError: pass\n"
    )
    assert find_imports(source) == ModuleImports(names=("os", "torch", "einops"), members=("einops:x",))
    assert find_imports("def (") == ModuleImports()
    moved = "import sys\nsys.path.insert(0, 'src')\nfrom b import c\n"
    assert find_imports("from a.b import c as d, e\nfrom f import *\n" + moved).members == ("a.b:c", "a.b:e")


@pytest.mark.parametrize(
    ("source", "unsure"),
    [
        ("import a\nimport sys\nsys.path.insert(0, 'src')\nimport b\n", {"b"}),
        ("from sys import path\npath.append('x')\nimport b\n", {"b"}),
        ("import site\nsite.addsitedir('x')\nimport b\n", {"b"}),
        ("import _init_paths\nimport b\n", {"b"}),
        ("import sys\nprint(sys.argv)\nimport b\n", set()),
    ],
)
def test_an_import_after_a_change_of_the_search_path_is_unsure(source: str, unsure: set[str]) -> None:
    """Only the task knows what it, or a module of the project, adds to sys.path."""
    assert find_imports(source, lambda name: name == "_init_paths").unsure == unsure
