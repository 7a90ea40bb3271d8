"""Link, fan and session over a transport in memory: reconnects, refusals, broken hosts, and runs from end to end."""

from __future__ import annotations

import pytest

from fanout.model.errors import Dropped, HostKeyUnknown, Unreachable
from fanout.model.events import Exited, HostLost
from fanout.model.hosts import Host
from fanout.model.state import Phase
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.run.session import Session
from tests.remote.nodes import TEXT, Node, cut_after, good, resumed, run, scripts
from tests.remote.scripted import Far, Script, ScriptedTransport
from tests.remote.ways import host


def obedient(far: Far) -> int:
    """Run until the launcher stops it."""
    node = Node(far)
    node.started()
    node.hear("stop")
    node.ended(b"", None, 15)
    return 0


def test_a_good_run_of_three_hosts() -> None:
    outcome, seen, _ = run({name: scripts(good(name.encode())) for name in ("a", "b", "c")})
    assert (outcome.exit_code, outcome.is_clean) == (0, True)
    assert [seen.output(name) for name in ("a", "b", "c")] == [b"a", b"b", b"c"]
    assert seen.kinds("a") == [
        *("Connecting", "LoginOutput", "Connected", "Prepared", "Started", "Chunk", "Exited", "CleanedUp", "Released")
    ]


def test_one_failure_ends_all_with_its_code() -> None:
    outcome, _, _ = run({"a": scripts(obedient), "b": scripts(good(b"", 3)), "c": scripts(obedient)})
    assert (outcome.exit_code, outcome.first) == (3, "b")
    assert [one.verdict for one in outcome.hosts] == ["stopped", "failed", "stopped"]


def test_a_refusal_starts_nothing_anywhere() -> None:
    def busy(far: Far) -> int:
        node = Node(far)
        node.hear("prepare")
        node.say(t="refused", kind="busy", message="busy: port-29500 is held", hint="wait")
        node.hear("release")
        return 0

    def rolled_back(far: Far) -> int:
        node = Node(far)
        node.hear("prepare")
        node.say(t="prepared", pid=7)
        assert node.hear("stop")["grace"] == 0.0
        node.say(t="cleaned_up", killed=0, left=[], sizes={"0": 0}, crc={"0": 0}, dropped=0)
        node.hear("release")
        node.say(t="released")
        return 0

    outcome, seen, _ = run({"a": scripts(rolled_back), "b": scripts(busy)})
    assert (outcome.exit_code, outcome.first, outcome.is_clean) == (125, "b", True)
    assert "Started" not in seen.kinds("a") + seen.kinds("b")


def test_a_fault_in_fanout_itself_ends_the_run_with_a_word() -> None:
    """A thread that died silently would leave everyone waiting for its host."""

    def faulty(host: Host, attempt: int) -> Script:
        raise KeyError("authentication")

    outcome, seen, _ = run({"a": scripts(obedient), "b": faulty})
    assert (outcome.exit_code, outcome.first) == (255, "b")
    (lost,) = [event for event in seen.events if isinstance(event, HostLost)]
    assert "KeyError: 'authentication'" in lost.why
    assert "nodes.py" in lost.why or "scripted.py" in lost.why or "test_connection.py" in lost.why


# ------------------------------------------------------------------------------------------------------- broken links


@pytest.mark.parametrize("breaks", [True, False])
@pytest.mark.parametrize("repeated", [0, 7])
def test_a_broken_link_goes_on_at_the_byte_where_it_was(breaks: bool, repeated: int) -> None:
    outcome, seen, transport = run({"a": scripts(cut_after(123, breaks=breaks), resumed(repeated))})
    assert seen.output("a") == TEXT
    assert outcome.exit_code == 0
    assert len(transport.attempts["a"]) == 2
    assert "Disconnected" in seen.kinds("a")


def test_a_run_goes_on_dialling_whatever_the_error() -> None:
    down = Unreachable("no route", hint="ping")
    outcome, seen, transport = run({"a": scripts(cut_after(5, breaks=True), down, resumed(0))})
    assert (outcome.exit_code, seen.output("a")) == (0, TEXT)
    assert len(transport.attempts["a"]) == 3


def test_a_hole_in_the_log_is_never_passed_over() -> None:
    def holed(far: Far) -> int:
        node = Node(far)
        node.started()
        node.log(0, b"abc")
        node.log(5, b"xyz")
        node.hear("release")
        return 0

    outcome, seen, _ = run({"a": scripts(holed)})
    assert (outcome.exit_code, outcome.origin) == (255, "ssh")
    assert "left out bytes 3-5 of stream 0" in outcome.headline
    assert seen.output("a") == b"abc"


def test_a_log_that_differs_from_the_hosts_is_not_whole() -> None:
    def wrong(far: Far) -> int:
        node = Node(far)
        node.started()
        node.log(0, b"abc")
        node.ended(b"abd")
        return 0

    _, seen, _ = run({"a": scripts(wrong)})
    assert [event.whole for event in seen.events if type(event).__name__ == "CleanedUp"] == [False]  # type: ignore[union-attr]


def test_a_host_that_was_cleaned_is_lost() -> None:
    def cleaned(far: Far) -> int:
        node = Node(far)
        node.hear("attach")
        node.say(t="refused", kind="no-run", message="no record of run r1 on this host", hint="")
        return 0

    outcome, _, _ = run({"a": scripts(cut_after(5, breaks=True), cleaned)})
    assert (outcome.exit_code, outcome.hosts[0].verdict) == (255, "lost")
    assert "rebooted or cleaned" in outcome.headline


def test_a_host_with_a_run_of_another_version_is_lost() -> None:
    def upgraded(far: Far) -> int:
        node = Node(far)
        node.hear("attach")
        node.say(t="refused", kind="other-version", message="another version", hint="`kill 7`")
        return 0

    outcome, _, _ = run({"a": scripts(cut_after(5, breaks=True), upgraded)})
    assert (outcome.exit_code, outcome.hosts[0].verdict) == (255, "lost")
    assert "another version: `kill 7`" in outcome.headline


# ---------------------------------------------------------------------------------------------------------- bad hosts


def rubbish(far: Far) -> int:
    Node(far).far.say(b"\xff" * 64)
    far.hear()
    return 0


def impossible(far: Far) -> int:
    node = Node(far)
    node.hear("prepare")
    node.say(t="cleaned_up", killed=0, left=[], sizes={}, crc={}, dropped=0)
    node.hear("release")
    return 0


@pytest.mark.parametrize("bad", [rubbish, impossible])
def test_one_host_that_breaks_the_protocol_ends_the_run_and_not_the_launcher(bad: Script) -> None:
    def rolled_back(far: Far) -> int:
        node = Node(far)
        node.hear("prepare")
        node.say(t="prepared", pid=7)
        node.hear("stop")
        node.say(t="cleaned_up", killed=0, left=[], sizes={"0": 0}, crc={"0": 0}, dropped=0)
        node.hear("release")
        node.say(t="released")
        return 0

    outcome, _, _ = run({"a": scripts(bad), "b": scripts(rolled_back)})
    assert (outcome.exit_code, outcome.first) == (255, "a")


def test_what_was_on_its_way_from_a_host_that_was_given_up_is_dropped() -> None:
    transport = ScriptedTransport(lambda one, attempt: obedient)
    fan = ConnectionPool([host("a")], lambda one: transport, ConnectionOptions(), Clock())
    session = Session(fan, ["a"], [])
    fan.start()
    session.connect_hosts()
    session.release_hosts()
    assert session.state.is_over
    before = session.state.hosts["a"]
    fan.post_event(Exited(at=fan.clock(), host="a", code=0, signal=None))
    session.run_step()
    fan.close()
    assert session.state.hosts["a"] == before


@pytest.mark.parametrize(
    ("said", "status", "says"),
    [
        (b"sh: 1: exec: python3: not found\n", 127, "no python3 there: sh: 1: exec: python3: not found"),
        (
            b"This account is currently not available.\n",
            1,
            "the login, or its python3, ended before the agent started (exit status 1): it printed 'This account is",
        ),
        (b"module: cannot find python/3.11\n", 4, "(exit status 4): it printed 'module: cannot find python/3.11'"),
        (
            b"Unknown option: -I\nusage: python3 [option] ...\n",
            2,
            "its python3 is older than Python 3.4 (it printed 'Unknown option: -I')",
        ),
        (b"", 0, "the login, or its python3, ended before the agent started (exit status 0)"),
    ],
)
def test_a_login_that_does_not_reach_the_agent_is_reported_with_its_output(said: bytes, status: int, says: str) -> None:
    def script(far: Far) -> int:
        far.say(said)
        return status

    outcome, seen, _ = run({"a": scripts(script)})
    assert outcome.exit_code == 255
    assert says in outcome.headline
    assert outcome.hosts[0].hint
    assert seen.kinds("a") == ["Connecting", "ConnectFailed"]


def test_an_old_python_is_named() -> None:
    def old(far: Far) -> int:
        far.say(f"@{far.command.split()[-1]} READY 3.6\n".encode())
        far.hear()
        return 0

    outcome, _, _ = run({"a": scripts(old)})
    assert "its python3 is Python 3.6; fanout needs 3.8 or later" in outcome.headline


def test_a_login_that_hangs_costs_the_time_out() -> None:
    def silent(far: Far) -> int:
        far.hear()
        return 0

    outcome, _, _ = run({"a": scripts(silent)}, timeout=0.5)
    assert "did not start the agent within 0.5 s" in outcome.headline


# ------------------------------------------------------------------------------------------------------------ dialling


def test_a_dropped_login_is_tried_again() -> None:
    """sshd drops some of many logins at a time: MaxStartups."""
    dropped = Dropped("closed before any login", hint="x")
    outcome, seen, transport = run({"a": scripts(dropped, dropped, good())})
    assert (outcome.exit_code, len(transport.attempts["a"])) == (0, 3)
    assert seen.kinds("a").count("Connecting") == 3


def test_a_refused_login_is_not_tried_again() -> None:
    unknown = HostKeyUnknown("its host key is not in known_hosts", hint="log in once by hand")
    outcome, seen, transport = run({"a": scripts(unknown), "b": scripts(good())})
    assert (outcome.exit_code, outcome.first, len(transport.attempts["a"])) == (255, "a", 1)
    assert outcome.hosts[0].hint == "log in once by hand"
    assert "Started" not in seen.kinds("b")


def test_no_more_logins_are_in_flight_than_the_option_allows() -> None:
    transport = ScriptedTransport(lambda one, attempt: good())
    known = [host(f"h{number}", slots=1) for number in range(12)]
    most = 0

    def choose(one: Host) -> ScriptedTransport:
        nonlocal most
        flying = sum(link._login_runner.opening is not None for link in fan.connections.values())
        most = max(most, flying)
        return transport

    fan = ConnectionPool(known, choose, ConnectionOptions(dials=3), Clock())
    session = Session(fan, [one.name for one in known], [])
    fan.start()
    session.connect_hosts()
    assert all(one.phase is Phase.CONNECTED for one in session.state.all_hosts)
    fan.close()
    assert 1 <= most <= 3
