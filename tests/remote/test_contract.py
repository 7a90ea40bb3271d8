"""What every transport does alike: bytes, ends, statuses, time-outs, and coming back when it is closed."""

from __future__ import annotations

import os
import threading

import pytest
from _pytest.mark.structures import ParameterSet

from fanout.demo import embedded_lab
from fanout.remote.transports.base import Channel
from fanout.remote.transports.builtin_ssh import SshTransport
from fanout.remote.transports.local import LocalTransport
from fanout.remote.transports.openssh import OpensshTransport
from fanout.remote.transports.ssh_config import SshConfig
from tests.agent.agents import wait_for
from tests.processes import join_threads
from tests.remote.scripted import ScriptedTransport
from tests.remote.sshd import Sshd
from tests.remote.ways import (
    BIG,
    ECHO,
    EXACT,
    FINAL,
    LATE,
    MIXED,
    PATIENCE,
    SILENT,
    Way,
    build_host,
    play_script,
    read_all,
)

WAYS = ("scripted", "local", "ssh", "openssh", "demo")


def list_ways(*without: str) -> list[ParameterSet]:
    """Return every transport but these, as parameters."""
    names = [name for name in WAYS if name not in without]
    return [pytest.param(name, marks=pytest.mark.process if name != "scripted" else ()) for name in names]


@pytest.fixture(params=list_ways())
def way(request: pytest.FixtureRequest) -> Way:
    match request.param:
        case "scripted":
            return Way(transport=ScriptedTransport(lambda host, attempt: play_script), host=build_host("any"))
        case "local":
            return Way(transport=LocalTransport(), host=build_host("localhost"))
        case "demo":
            lab: embedded_lab.DemoLab = request.getfixturevalue("played")
            return Way(transport=SshTransport(SshConfig(file=str(lab.ssh_config))), host=build_host(lab.hosts[0].name))
        case kind:
            server: Sshd = request.getfixturevalue("server")
            make = SshTransport if kind == "ssh" else OpensshTransport
            return Way(transport=make(SshConfig(file=str(server.ssh_config))), host=build_host("lab"))


def test_bytes_arrive_as_they_were_then_the_end_then_the_status(way: Way) -> None:
    with way.open_channel(EXACT) as channel:
        assert read_all(channel) == b"a\0b\xff\n"
        assert channel.read(PATIENCE) == b""
        assert channel.exit_status() == 3


def test_command_reads_the_written_bytes(way: Way) -> None:
    data = os.urandom(200_000)
    with way.open_channel(ECHO) as channel:
        assert sent_and_read(channel, data) == data
        assert channel.exit_status() == 0


def sent_and_read(channel: Channel, data: bytes) -> bytes:
    """Write in one thread and read in another, as a link does: neither direction may wait for the other."""
    writer = threading.Thread(target=channel.write, args=(data,))
    writer.start()
    back = read_all(channel)
    join_threads(writer)
    return back


def test_stderr_comes_along(way: Way) -> None:
    with way.open_channel(MIXED) as channel:
        assert sorted(read_all(channel).splitlines()) == [b"err", b"out"]


def test_silence_is_none_and_not_the_end(way: Way) -> None:
    with way.open_channel(SILENT) as channel:
        assert channel.read(PATIENCE) == b"ready\n"
        assert channel.read(0.05) is None
        assert channel.read(0.05) is None


def test_closing_wakes_a_reader(way: Way) -> None:
    with way.open_channel(SILENT) as channel:
        assert channel.read(PATIENCE) == b"ready\n"
        came_back: list[object] = []

        def read_channel() -> None:
            try:
                came_back.append(channel.read(600.0))
            except OSError as error:
                came_back.append(error)

        thread = threading.Thread(target=read_channel)
        thread.start()
        channel.close()
        channel.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
        assert came_back[0] == b"" or isinstance(came_back[0], OSError)


def test_write_to_a_closed_channel_fails(way: Way) -> None:
    with way.open_channel(SILENT) as channel:
        channel.close()
        with pytest.raises(OSError, match=r".*"):
            channel.write(b"x" * 100_000)


def test_ten_megabytes_come_through(way: Way) -> None:
    with way.open_channel(BIG) as channel:
        assert read_all(channel) == bytes(10_000_000)


def test_many_connections_at_a_time_do_not_mix(way: Way) -> None:
    data = [os.urandom(200_000) for _ in range(6)]
    back: dict[int, bytes] = {}

    def echo_data(number: int) -> None:
        with way.open_channel(ECHO) as channel:
            back[number] = sent_and_read(channel, data[number])

    threads = [threading.Thread(target=echo_data, args=(number,)) for number in range(len(data))]
    for thread in threads:
        thread.start()
    join_threads(*threads)
    assert [back[number] for number in range(len(data))] == data


def test_an_exit_status_of_255_is_one_like_any_other(way: Way) -> None:
    with way.open_channel(FINAL) as channel:
        assert read_all(channel) == b""
        assert channel.exit_status() == 255


@pytest.mark.parametrize("way", list_ways("local"), indirect=True)  # there is no login: one pipe keeps the order
def test_separate_stderr_is_not_in_the_stream(way: Way) -> None:
    """A login's background job may write to stderr at any time; frames are on stdout alone."""
    with way.open_channel(LATE) as channel:
        assert channel.read(PATIENCE) == b"ready\n"
        channel.separate_stderr()
        channel.write(b"go\n")
        assert read_all(channel) == b"out\n"
        assert channel.last_stderr == "err"


@pytest.mark.parametrize("way", list_ways("demo"), indirect=True)  # its server has descriptors in this process
def test_dials_leave_no_descriptor_and_no_child(way: Way) -> None:
    with way.open_channel(EXACT) as channel:  # what is imported and made once
        read_all(channel)
    before = list_descriptors()
    for _ in range(3):
        with way.open_channel(EXACT) as channel:
            read_all(channel)
        with way.open_channel(SILENT) as channel:
            channel.read(PATIENCE)
    wait_for(
        lambda: list_descriptors() <= before, "a descriptor is left"
    )  # paramiko's threads close theirs a moment later


def list_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


@pytest.mark.parametrize("way", list_ways("scripted"), indirect=True)
def test_terminated_command_ends_and_its_end_is_read(way: Way) -> None:
    """At the latest by the end of its stdin, which every transport can bring about."""
    with way.open_channel("echo ready; exec cat") as channel:
        assert channel.read(PATIENCE) == b"ready\n"
        channel.end_command()
        assert read_all(channel) == b""


@pytest.mark.parametrize("way", list_ways("scripted", "ssh", "openssh", "demo"), indirect=True)
def test_a_command_that_does_not_read_gets_a_signal(way: Way) -> None:
    """With its whole process group. The lab has this for ssh: a server that serves root refuses to signal."""
    with way.open_channel("echo ready; sleep 60 & sleep 60") as channel:
        assert channel.read(PATIENCE) == b"ready\n"
        channel.end_command()
        assert read_all(channel) == b""
