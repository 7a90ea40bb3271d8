"""How it ends for a played host: for one command, for the whole lab, and for its directory."""

from __future__ import annotations

import os
import select
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fanout.demo import embedded_lab
from fanout.model.errors import UsageError
from tests.demo.demo_client import log_in, run_command, start_command
from tests.skips import needs

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[embedded_lab.DemoLab]:
    with embedded_lab.open_lab(tmp_path_factory.mktemp("stage") / ".demo") as lab:
        yield lab


def test_a_client_that_goes_away_gives_the_command_eof_and_lets_it_live(
    lab: embedded_lab.DemoLab, tmp_path: Path
) -> None:
    diary = tmp_path / "diary"
    os.mkfifo(diary)
    with log_in(lab) as transport:
        channel = start_command(transport, f"echo go; cat >/dev/null; echo survived > '{diary}'")
        assert channel.recv(100) == b"go\n"
    assert diary.read_text() == "survived\n"


def test_a_client_that_goes_away_breaks_the_commands_output_pipe(lab: embedded_lab.DemoLab, tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    os.mkfifo(diary)
    command = f"trap '' PIPE; (while echo x; do :; done) 2>/dev/null; echo broken > '{diary}'"
    with log_in(lab) as transport:
        channel = start_command(transport, command)
        assert channel.recv(1) == b"x"
    assert diary.read_text() == "broken\n"


@needs("linux")
def test_the_end_leaves_no_process_no_thread_no_descriptor_and_no_file(tmp_path: Path) -> None:
    """Although clients are still there: one waits, one left a job behind, one has gone, one never sent a byte."""
    threads, descriptors = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    commands = (
        "echo $$; exec sleep 1000",
        "sleep 1000 & echo $!",
        "trap '' HUP TERM PIPE; echo $$; sleep 1000; sleep 1000",
    )
    with ExitStack() as clients:
        with embedded_lab.open_lab(tmp_path / "lab") as lab:
            transports = [clients.enter_context(log_in(lab)) for _ in commands]
            pids = [int(start_command(*pair).recv(100)) for pair in zip(transports, commands, strict=True)]
            watched = [os.pidfd_open(pid) for pid in pids]
            transports[-1].close()
            address = (lab.hosts[0].address, lab.hosts[0].port)
            silent = clients.enter_context(socket.create_connection(address, timeout=20))
            assert silent.recv(4) == b"SSH-"
            begun = time.monotonic()
        assert time.monotonic() - begun < 30  # the commands would run for 1000 s
        for pidfd in watched:
            assert select.select([pidfd], [], [], 5)[0], "a command outlived the lab"
            os.close(pidfd)
    for thread in set(threading.enumerate()) - threads:
        thread.join(2)
    assert set(threading.enumerate()) <= threads
    assert len(os.listdir("/proc/self/fd")) <= descriptors
    assert not lab.directory.exists()


# ------------------------------------------------------------------------------------------------------- the directory


def test_lab_directory_is_private_to_its_owner(lab: embedded_lab.DemoLab) -> None:
    for path in (lab.directory, *lab.directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_a_second_start_is_quick_and_has_new_keys(tmp_path: Path) -> None:
    with embedded_lab.open_lab(tmp_path / "lab", keep=True) as lab:
        first = lab.identity.read_text()
    begun = time.process_time()  # on a busy machine the wall time shows the others' work
    with embedded_lab.open_lab(tmp_path / "lab") as lab:
        assert time.process_time() - begun < 0.3
        assert lab.identity.read_text() != first
        with log_in(lab) as transport:
            assert run_command(transport, "echo fine").out == b"fine\n"
    assert not lab.directory.exists()


def test_hosts_on_one_shared_address_are_distinguished_by_name(tmp_path: Path) -> None:
    with embedded_lab.open_lab(tmp_path / "lab", 3, own_addresses=False) as lab:
        assert [(host.name, host.address) for host in lab.hosts] == [(f"demo{n}", "127.0.0.1") for n in (1, 2, 3)]
        for host in lab.hosts:
            argv = ["ssh", "-F", str(lab.ssh_config), host.name, "echo $FANOUT_HOST_ID"]
            assert subprocess.run(argv, capture_output=True, check=True, timeout=30).stdout.decode() == f"{host.name}\n"


@pytest.mark.parametrize("hosts", [0, -1, embedded_lab.MOST_HOSTS + 1])
def test_a_number_of_hosts_out_of_range_touches_nothing(tmp_path: Path, hosts: int) -> None:
    with pytest.raises(UsageError, match=str(hosts)), embedded_lab.open_lab(tmp_path / "lab", hosts):
        pass
    assert list(tmp_path.iterdir()) == []
