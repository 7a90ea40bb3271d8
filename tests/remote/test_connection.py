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
from tests.remote.nodes import TEXT, Node, choose_scripts, cut_after, resume_run, run_scripts, run_well
from tests.remote.scripted import Far, Script, ScriptedTransport
from tests.remote.ways import build_host


def obey_stop(far: Far) -> int:
    """Run until the launcher stops it."""
    node = Node(far)
    node.start_run()
    node.expect_operation("stop")
    node.end_run(b"", None, 15)
    return 0


def test_a_good_run_of_three_hosts() -> None:
    outcome, seen, _ = run_scripts({name: choose_scripts(run_well(name.encode())) for name in ("a", "b", "c")})
    assert (outcome.exit_code, outcome.is_clean) == (0, True)
    assert [seen.join_output(name) for name in ("a", "b", "c")] == [b"a", b"b", b"c"]
    assert seen.list_kinds("a") == [
        *("Connecting", "LoginOutput", "Connected", "Prepared", "Started", "Chunk", "Exited", "CleanedUp", "Released")
    ]


def test_one_failure_ends_all_with_its_code() -> None:
    outcome, _, _ = run_scripts(
        {"a": choose_scripts(obey_stop), "b": choose_scripts(run_well(b"", 3)), "c": choose_scripts(obey_stop)}
    )
    assert (outcome.exit_code, outcome.first) == (3, "b")
    assert [one.verdict for one in outcome.hosts] == ["stopped", "failed", "stopped"]


def test_a_refusal_starts_nothing_anywhere() -> None:
    def refuse_run(far: Far) -> int:
        node = Node(far)
        node.expect_operation("prepare")
        node.send_message(t="refused", kind="busy", message="busy: port-29500 is held", hint="wait")
        node.expect_operation("release")
        return 0

    def rolled_back(far: Far) -> int:
        node = Node(far)
        node.expect_operation("prepare")
        node.send_message(t="prepared", pid=7)
        assert node.expect_operation("stop")["grace"] == 0.0
        node.send_message(t="cleaned_up", killed=0, left=[], sizes={"0": 0}, crc={"0": 0}, dropped=0)
        node.expect_operation("release")
        node.send_message(t="released")
        return 0

    outcome, seen, _ = run_scripts({"a": choose_scripts(rolled_back), "b": choose_scripts(refuse_run)})
    assert (outcome.exit_code, outcome.first, outcome.is_clean) == (125, "b", True)
    assert "Started" not in seen.list_kinds("a") + seen.list_kinds("b")


def test_internal_error_ends_the_run_with_a_message() -> None:
    """A thread that died silently would leave everyone waiting for its host."""

    def raise_key_error(host: Host, attempt: int) -> Script:
        raise KeyError("authentication")

    outcome, seen, _ = run_scripts({"a": choose_scripts(obey_stop), "b": raise_key_error})
    assert (outcome.exit_code, outcome.first) == (255, "b")
    (lost,) = [event for event in seen.events if isinstance(event, HostLost)]
    assert "KeyError: 'authentication'" in lost.why
    assert "nodes.py" in lost.why or "scripted.py" in lost.why or "test_connection.py" in lost.why


# ------------------------------------------------------------------------------------------------------- broken links


@pytest.mark.parametrize("breaks", [True, False])
@pytest.mark.parametrize("repeated", [0, 7])
def test_a_broken_link_goes_on_at_the_byte_where_it_was(breaks: bool, repeated: int) -> None:
    outcome, seen, transport = run_scripts({"a": choose_scripts(cut_after(123, breaks=breaks), resume_run(repeated))})
    assert seen.join_output("a") == TEXT
    assert outcome.exit_code == 0
    assert len(transport.attempts["a"]) == 2
    assert "Disconnected" in seen.list_kinds("a")


def test_a_run_goes_on_dialling_whatever_the_error() -> None:
    down = Unreachable("no route", hint="ping")
    outcome, seen, transport = run_scripts({"a": choose_scripts(cut_after(5, breaks=True), down, resume_run(0))})
    assert (outcome.exit_code, seen.join_output("a")) == (0, TEXT)
    assert len(transport.attempts["a"]) == 3


def test_log_hole_is_reported() -> None:
    def send_log_with_hole(far: Far) -> int:
        node = Node(far)
        node.start_run()
        node.send_log(0, b"abc")
        node.send_log(5, b"xyz")
        node.expect_operation("release")
        return 0

    outcome, seen, _ = run_scripts({"a": choose_scripts(send_log_with_hole)})
    assert (outcome.exit_code, outcome.origin) == (255, "ssh")
    assert "left out bytes 3-5 of stream 0" in outcome.headline
    assert seen.join_output("a") == b"abc"


def test_log_with_a_wrong_checksum_is_not_complete() -> None:
    def end_with_wrong_log(far: Far) -> int:
        node = Node(far)
        node.start_run()
        node.send_log(0, b"abc")
        node.end_run(b"abd")
        return 0

    _, seen, _ = run_scripts({"a": choose_scripts(end_with_wrong_log)})
    assert [event.whole for event in seen.events if type(event).__name__ == "CleanedUp"] == [False]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("refusal", "headline"),
    [
        (
            {"kind": "no-run", "message": "no record of run r1 on this host", "hint": ""},
            "rebooted or cleaned",
        ),
        (
            {"kind": "other-version", "message": "another version", "hint": "`kill 7`"},
            "another version: `kill 7`",
        ),
    ],
    ids=["cleaned", "other-version"],
)
def test_a_host_that_refuses_to_attach_is_lost(refusal: dict[str, str], headline: str) -> None:
    def refuse_attach(far: Far) -> int:
        node = Node(far)
        node.expect_operation("attach")
        node.send_message(t="refused", **refusal)
        return 0

    outcome, _, _ = run_scripts({"a": choose_scripts(cut_after(5, breaks=True), refuse_attach)})
    assert (outcome.exit_code, outcome.hosts[0].verdict) == (255, "lost")
    assert headline in outcome.headline


# ---------------------------------------------------------------------------------------------------------- bad hosts


def send_rubbish(far: Far) -> int:
    Node(far).far.write_bytes(b"\xff" * 64)
    far.read_bytes()
    return 0


def send_impossible(far: Far) -> int:
    node = Node(far)
    node.expect_operation("prepare")
    node.send_message(t="cleaned_up", killed=0, left=[], sizes={}, crc={}, dropped=0)
    node.expect_operation("release")
    return 0


@pytest.mark.parametrize("bad", [send_rubbish, send_impossible])
def test_one_host_that_breaks_the_protocol_ends_the_run_and_not_the_launcher(bad: Script) -> None:
    def rolled_back(far: Far) -> int:
        node = Node(far)
        node.expect_operation("prepare")
        node.send_message(t="prepared", pid=7)
        node.expect_operation("stop")
        node.send_message(t="cleaned_up", killed=0, left=[], sizes={"0": 0}, crc={"0": 0}, dropped=0)
        node.expect_operation("release")
        node.send_message(t="released")
        return 0

    outcome, _, _ = run_scripts({"a": choose_scripts(bad), "b": choose_scripts(rolled_back)})
    assert (outcome.exit_code, outcome.first) == (255, "a")


def test_late_frames_of_an_abandoned_host_are_dropped() -> None:
    transport = ScriptedTransport(lambda one, attempt: obey_stop)
    pool = ConnectionPool([build_host("a")], lambda one: transport, ConnectionOptions(), Clock())
    session = Session(pool, ["a"], [])
    pool.start()
    session.connect_hosts()
    session.release_hosts()
    assert session.state.is_over
    before = session.state.hosts["a"]
    pool.post_event(Exited(at=pool.clock(), host="a", code=0, signal=None))
    session.run_step()
    pool.close()
    assert session.state.hosts["a"] == before


@pytest.mark.parametrize(
    ("output", "status", "says"),
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
def test_a_login_that_does_not_reach_the_agent_is_reported_with_its_output(
    output: bytes, status: int, says: str
) -> None:
    def print_output(far: Far) -> int:
        far.write_bytes(output)
        return status

    outcome, seen, _ = run_scripts({"a": choose_scripts(print_output)})
    assert outcome.exit_code == 255
    assert says in outcome.headline
    assert outcome.hosts[0].hint
    assert seen.list_kinds("a") == ["Connecting", "ConnectFailed"]


def test_an_old_python_is_named() -> None:
    def report_old_python(far: Far) -> int:
        far.write_bytes(f"@{far.command.split()[-1]} READY 3.6\n".encode())
        far.read_bytes()
        return 0

    outcome, _, _ = run_scripts({"a": choose_scripts(report_old_python)})
    assert "its python3 is Python 3.6; fanout needs 3.8 or later" in outcome.headline


def test_a_login_that_hangs_costs_the_time_out() -> None:
    def send_nothing(far: Far) -> int:
        far.read_bytes()
        return 0

    outcome, _, _ = run_scripts({"a": choose_scripts(send_nothing)}, timeout=0.5)
    assert "did not start the agent within 0.5 s" in outcome.headline


# ------------------------------------------------------------------------------------------------------------ dialling


def test_a_dropped_login_is_tried_again() -> None:
    """sshd drops some of many logins at a time: MaxStartups."""
    dropped = Dropped("closed before any login", hint="x")
    outcome, seen, transport = run_scripts({"a": choose_scripts(dropped, dropped, run_well())})
    assert (outcome.exit_code, len(transport.attempts["a"])) == (0, 3)
    assert seen.list_kinds("a").count("Connecting") == 3


def test_a_refused_login_is_not_tried_again() -> None:
    unknown = HostKeyUnknown("its host key is not in known_hosts", hint="log in once by hand")
    outcome, seen, transport = run_scripts({"a": choose_scripts(unknown), "b": choose_scripts(run_well())})
    assert (outcome.exit_code, outcome.first, len(transport.attempts["a"])) == (255, "a", 1)
    assert outcome.hosts[0].hint == "log in once by hand"
    assert "Started" not in seen.list_kinds("b")


def test_no_more_logins_are_in_flight_than_the_option_allows() -> None:
    transport = ScriptedTransport(lambda one, attempt: run_well())
    known = [build_host(f"h{number}", slots=1) for number in range(12)]
    most = 0

    def choose_transport(one: Host) -> ScriptedTransport:
        nonlocal most
        flying = sum(link._login_runner.opening is not None for link in pool.connections.values())
        most = max(most, flying)
        return transport

    pool = ConnectionPool(known, choose_transport, ConnectionOptions(dials=3), Clock())
    session = Session(pool, [one.name for one in known], [])
    pool.start()
    session.connect_hosts()
    assert all(one.phase is Phase.CONNECTED for one in session.state.all_hosts)
    pool.close()
    assert 1 <= most <= 3
