"""The plan as text for a shell, which parses it back byte for byte."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.agent import frames, spawn
from fanout.model import plan_text
from fanout.model.plan import Default, EnvValue, LaunchPlan, NodePlan, PathList
from fanout.remote.protocol import go_frame
from tests.model.test_plan import TWO, build_host, make_plan

ANYTHING = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
NASTY = st.one_of(ANYTHING, st.text("'\"$`\\!{}()*?~#&|;<> \n\t%äA0/:=-", max_size=12))
TELL = (
    "import json,os,sys;names=sys.argv[1].split(',');"
    "print(json.dumps([os.getcwd(),sys.argv[2:],{n:os.environ.get(n) for n in names}]))"
)
SHELLS = ["bash", "sh"]
NAMES = ("A1", "B_2", "PATH_LIST", "FALLBACK")


def run_block(shell: str, node: NodePlan, login: dict[str, str]) -> list[Any]:
    """Return what a process sees that the node's block starts in ``shell``: directory, arguments, variables."""
    run = LaunchPlan(run_id="r", task=(), nodes=(node,), master_addr="a", master_port=1)
    clean = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1", **login}
    text = plan_text.render_plan(run, secrets=True).encode()
    done = subprocess.run([shell], input=text, env=clean, capture_output=True, check=False, timeout=30)
    assert (done.returncode, done.stderr) == (0, b""), text
    seen: list[Any] = json.loads(done.stdout)
    return seen


def node_of(cwd: Path, env: dict[str, EnvValue], words: tuple[str, ...]) -> NodePlan:
    argv = (sys.executable, "-I", "-X", "utf8", "-c", TELL, ",".join(NAMES), *words)
    return NodePlan(
        host=build_host("h"),
        rank=0,
        nproc=1,
        cwd=str(cwd),
        argv=argv,
        env=tuple(env.items()),
        needs=(),
        claims=(),
        run_id="r",
    )


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=NASTY, second=NASTY, words=st.lists(NASTY, max_size=3))
def test_every_value_and_every_argument_comes_back_from_the_shell_unchanged(
    shell: str, tmp_path: Path, first: str, second: str, words: list[str]
) -> None:
    cwd = tmp_path / "it's a $dir `x`"
    cwd.mkdir(exist_ok=True)
    seen = run_block(shell, node_of(cwd, {"A1": first, "B_2": second}, tuple(words)), {})
    assert seen[:2] == [str(cwd), words]
    assert (seen[2]["A1"], seen[2]["B_2"]) == (first, second)


#: : Characters of a directory's name: a colon would give two directories, and an empty entry means the work directory.
DIRECTORY = NASTY.map(lambda text: text.replace(":", "").strip("/")).filter(lambda text: text not in ("", ".", ".."))
PRESENT = st.one_of(st.none(), st.just(""), st.just("/usr/lib:/opt"), NASTY.map(lambda text: f"/x{text}"))


@pytest.mark.process
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(DIRECTORY, min_size=1, max_size=2),
    after=st.lists(DIRECTORY, max_size=1),
    value=NASTY,
    present=PRESENT,
)
def test_the_dry_run_and_the_agent_give_the_same_environment(
    shell: str, tmp_path: Path, before: list[str], after: list[str], value: str, present: str | None
) -> None:
    """The text that is shown and the plan that is sent describe the same."""
    env: dict[str, EnvValue] = {
        "PATH_LIST": PathList(before=("/" + before[0], *before), after=(*after, "") if after else ()),
        "FALLBACK": Default(value=value),
    }
    login = {} if present is None else {"PATH_LIST": present, "FALLBACK": present}
    node = node_of(tmp_path, env, ())
    (sent,) = frames.FrameSplitter().feed(go_frame(node))
    worked_out = spawn.build_environment(login, sent["env"], str(tmp_path))
    seen = run_block(shell, node, login)[2]
    assert {name: seen[name] for name in env} == {name: worked_out[name] for name in env}


@pytest.mark.process
@pytest.mark.parametrize("there", [True, False])
def test_a_condition_holds_for_both(tmp_path: Path, there: bool) -> None:
    marker = tmp_path / "it's there"
    if there:
        marker.touch()
    node = node_of(tmp_path, {"FALLBACK": Default(value="yes", only_if=str(marker))}, ())
    node = replace(node, env=(*node.env, ("A1", "always")))
    (sent,) = frames.FrameSplitter().feed(go_frame(node))
    expected = "yes" if there else None
    assert run_block("bash", node, {})[2]["FALLBACK"] == expected
    assert spawn.build_environment({}, sent["env"], str(tmp_path)).get("FALLBACK") == expected


def test_an_interface_that_the_hostfile_names_is_exported_for_nccl_and_gloo() -> None:
    """This needs no check; an export of the user wins."""
    first, second = TWO
    hosts = (dataclasses.replace(first, iface="ib0"), second)
    env = dict(make_plan(*hosts, env=(("GLOO_SOCKET_IFNAME", "eth1"),)).nodes[0].env)
    assert (env["NCCL_SOCKET_IFNAME"], env["GLOO_SOCKET_IFNAME"]) == ("ib0", "eth1")
    assert "NCCL_SOCKET_IFNAME" not in dict(make_plan(*hosts).nodes[1].env)
