"""known_hosts: the same verdicts as OpenSSH's own tools, and a file that many may write to at a time."""

from __future__ import annotations

import base64
import fcntl
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.model.errors import Unreachable
from fanout.remote.transports import host_keys, known_hosts
from fanout.remote.transports.host_keys import ExpectedKeys, HostKeyStatus, KnownHosts, PresentedKey, append_line
from fanout.remote.transports.ssh_options import SshOptions
from tests.processes import join_threads

KIND = "ssh-ed25519"


def build_key(number: int) -> bytes:
    """Return a well-formed ed25519 public key without a private half."""
    head = len(KIND).to_bytes(4, "big") + KIND.encode()
    return head + (32).to_bytes(4, "big") + bytes([number]) * 32


def format_key(number: int) -> PresentedKey:
    return PresentedKey(key_type=KIND, key=build_key(number))


def build_text(number: int) -> str:
    return f"{KIND} {base64.b64encode(build_key(number)).decode()}"


def find_lines(path: Path, name: str) -> set[int]:
    """Line numbers that ssh-keygen finds for ``name``."""
    done = subprocess.run(["ssh-keygen", "-F", name, "-f", str(path)], capture_output=True, text=True, check=False)
    return {
        int(line.rpartition("line ")[2].split()[0]) for line in done.stdout.splitlines() if line.startswith("# Host")
    }


def hash_line(tmp_path: Path, line: str) -> str:
    path = tmp_path / "to-hash"
    path.write_text(line + "\n")
    subprocess.run(["ssh-keygen", "-H", "-f", str(path)], capture_output=True, check=True)
    return path.read_text().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One line's names, and the name that is looked for."""

    names: str
    wanted: str
    hit: bool


CASES = [
    Case(names="gpu01", wanted="gpu01", hit=True),
    Case(names="gpu01", wanted="gpu011", hit=False),
    Case(names="gpu01,10.0.0.1", wanted="10.0.0.1", hit=True),
    Case(names="GPU01", wanted="gpu01", hit=True),
    Case(names="[gpu01]:2222", wanted="[gpu01]:2222", hit=True),
    Case(names="[gpu01]:2222", wanted="gpu01", hit=False),
    Case(names="gpu01", wanted="[gpu01]:2222", hit=False),
    Case(names="gpu*", wanted="gpu01", hit=True),
    Case(names="gpu??", wanted="gpu01", hit=True),
    Case(names="gpu?", wanted="gpu01", hit=False),
    Case(names="*.lab,!bad.lab", wanted="good.lab", hit=True),
    Case(names="*.lab,!bad.lab", wanted="bad.lab", hit=False),
    Case(names="!bad.lab,*.lab", wanted="bad.lab", hit=False),
    Case(names="[*]:2222", wanted="[gpu01]:2222", hit=True),
    Case(names="gpu[01]", wanted="gpu0", hit=False),
    Case(names="fe80::1", wanted="fe80::1", hit=True),
    Case(names="[fe80::1]:2222", wanted="[fe80::1]:2222", hit=True),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.names} {case.wanted}")
def test_a_name_is_meant_by_the_patterns_that_openssh_would_match(case: Case) -> None:
    (line,) = known_hosts.parse_known_hosts(f"{case.names} {build_text(1)}\n")
    assert known_hosts.matches_name(line, case.wanted) is case.hit


@pytest.mark.process
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.names} {case.wanted}")
def test_ssh_keygen_agrees(tmp_path: Path, case: Case) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"{case.names} {build_text(1)}\n")
    assert bool(find_lines(path, case.wanted)) is case.hit


@pytest.mark.process
@pytest.mark.parametrize("name", ["gpu01", "[gpu01]:2222", "10.0.0.1", "fe80::1"])
def test_hashed_names_are_found_like_plain_ones(tmp_path: Path, name: str) -> None:
    (line,) = known_hosts.parse_known_hosts(hash_line(tmp_path, f"{name} {build_text(1)}"))
    assert line.names[0].startswith("|1|")
    assert known_hosts.matches_name(line, name)
    assert not known_hosts.matches_name(line, "gpu02")


PART = st.text("ab.1*?", min_size=1, max_size=4)
NAMES = st.lists(st.builds(lambda no, name: no + name, st.sampled_from(["", "", "!"]), PART), min_size=1, max_size=3)


@pytest.mark.process
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(NAMES, min_size=1, max_size=4), wanted=st.text("ab.1", min_size=1, max_size=4))
def test_known_hosts_lookup_agrees_with_ssh_keygen(tmp_path: Path, lines: list[list[str]], wanted: str) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{','.join(names)} {build_text(at)}\n" for at, names in enumerate(lines)))
    mine = {
        at
        for at, line in enumerate(known_hosts.parse_known_hosts(path.read_text()), 1)
        if known_hosts.matches_name(line, wanted)
    }
    assert mine == find_lines(path, wanted)


BROKEN = "# a comment\n\n   \ngpu01\ngpu01 ssh-ed25519\ngpu01 ssh-ed25519 %%%\n"


def test_broken_known_hosts_lines_are_skipped() -> None:
    lines = known_hosts.parse_known_hosts(BROKEN + f"gpu01 {build_text(1)} a comment\n@revoked * {build_text(2)}\n")
    assert [(line.marker, line.key) for line in lines] == [("", build_key(1)), ("@revoked", build_key(2))]


# ------------------------------------------------------------------------------------------------------------ verdicts


def open_known_hosts(
    path: Path, *, accept_new: bool = False, port: int = 22, **options: str
) -> tuple[KnownHosts, ExpectedKeys]:
    files = KnownHosts(accept_new=accept_new)
    login = SshOptions(name="gpu01", hostname="gpu01", port=port, user="me", user_known_hosts=(str(path),), **options)  # type: ignore[arg-type]
    return files, files.expected_keys(login)


@pytest.mark.parametrize(
    ("lines", "verdict"),
    [
        ("", HostKeyStatus.UNKNOWN),
        (f"gpu02 {build_text(1)}\n", HostKeyStatus.UNKNOWN),
        (f"gpu01 {build_text(1)}\n", HostKeyStatus.KNOWN),
        (f"gpu01 {build_text(2)}\ngpu01 {build_text(1)}\n", HostKeyStatus.KNOWN),
        (f"gpu01 {build_text(2)}\n", HostKeyStatus.CHANGED),
        (f"gpu01 ssh-rsa {base64.b64encode(b'other').decode()}\n", HostKeyStatus.CHANGED),
        (f"gpu01 {build_text(1)}\n@revoked gpu01 {build_text(1)}\n", HostKeyStatus.REVOKED),
        (f"gpu01 {build_text(1)}\n@revoked gpu01 {build_text(2)}\n", HostKeyStatus.KNOWN),
        (f"@cert-authority gpu01 {build_text(1)}\n", HostKeyStatus.UNKNOWN),
    ],
)
def test_a_key_is_known_unknown_changed_or_revoked(tmp_path: Path, lines: str, verdict: HostKeyStatus) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(lines)
    files, expected = open_known_hosts(path)
    assert files.verify_key(expected, format_key(1)) is verdict
    assert path.read_text() == lines


def test_a_new_key_is_written_down_only_where_that_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "ssh" / "known_hosts"
    files, expected = open_known_hosts(path, accept_new=True, port=2222)
    assert files.verify_key(expected, format_key(1)) is HostKeyStatus.ACCEPTED
    assert path.read_text() == f"[gpu01]:2222 {build_text(1)}\n"
    again, expected = open_known_hosts(path, port=2222)
    assert again.verify_key(expected, format_key(1)) is HostKeyStatus.KNOWN


@pytest.mark.parametrize("lines", [f"gpu01 {build_text(2)}\n", f"@revoked gpu01 {build_text(1)}\n"])
def test_a_changed_or_revoked_key_is_never_accepted(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(lines)
    files, expected = open_known_hosts(path, accept_new=True)
    assert files.verify_key(expected, format_key(1)) in (HostKeyStatus.CHANGED, HostKeyStatus.REVOKED)
    assert path.read_text() == lines


def test_a_key_accepted_once_is_the_only_one_from_then_on(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    files, expected = open_known_hosts(path, accept_new=True)
    login = expected.options
    assert files.verify_key(expected, format_key(1)) is HostKeyStatus.ACCEPTED
    assert (
        files.verify_key(expected, format_key(2)) is HostKeyStatus.CHANGED
    )  # with what was known before the first login
    assert files.verify_key(files.expected_keys(login), format_key(2)) is HostKeyStatus.CHANGED
    assert files.verify_key(files.expected_keys(login), format_key(1)) is HostKeyStatus.KNOWN
    assert path.read_text() == f"gpu01 {build_text(1)}\n"


def test_a_key_that_another_process_has_written_meanwhile_counts(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("")
    files, expected = open_known_hosts(path, accept_new=True)
    path.write_text(f"gpu01 {build_text(1)}\n")
    assert files.verify_key(expected, format_key(2)) is HostKeyStatus.CHANGED
    assert files.verify_key(expected, format_key(1)) is HostKeyStatus.KNOWN
    assert path.read_text() == f"gpu01 {build_text(1)}\n"


def test_a_key_is_remembered_where_it_cannot_be_written(tmp_path: Path) -> None:
    files, expected = open_known_hosts(tmp_path, accept_new=True)  # a directory
    assert files.verify_key(expected, format_key(1)) is HostKeyStatus.ACCEPTED
    assert files.verify_key(files.expected_keys(expected.options), format_key(2)) is HostKeyStatus.CHANGED


def test_many_processes_that_accept_one_host_write_one_line(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    together = threading.Barrier(16)
    verdicts: list[HostKeyStatus] = []

    def accept_host() -> None:
        files, expected = open_known_hosts(path, accept_new=True)
        together.wait(20)
        verdicts.append(files.verify_key(expected, format_key(1)))

    threads = [threading.Thread(target=accept_host) for _ in range(16)]
    for thread in threads:
        thread.start()
    join_threads(*threads)
    assert sorted(verdict.value for verdict in verdicts) == ["accepted", *["known"] * 15]
    assert path.read_text() == f"gpu01 {build_text(1)}\n"


def test_a_lock_that_another_process_keeps_costs_a_bounded_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_keys, "LOCK_SECONDS", 0.2)
    path = tmp_path / "known_hosts"
    files, expected = open_known_hosts(path, accept_new=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Unreachable, match="locked by another process"):
            files.verify_key(expected, format_key(1))


def test_an_alias_of_ssh_config_is_looked_up_without_a_port(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"cluster {build_text(1)}\n")
    files, expected = open_known_hosts(path, port=2222, host_key_alias="Cluster")
    assert expected.name == "cluster"
    assert files.verify_key(expected, format_key(1)) is HostKeyStatus.KNOWN


def test_a_server_with_several_keys_is_asked_for_the_one_that_is_known(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"gpu01 ssh-rsa {base64.b64encode(b'x').decode()}\n@revoked gpu01 {build_text(1)}\n")
    assert open_known_hosts(path)[1].key_types == ["rsa-sha2-512", "rsa-sha2-256"]


# -------------------------------------------------------------------------------------------------------------- writing


@pytest.mark.parametrize(
    "before", ["", f"a {build_text(1)}\n", f"# kept\n\na {build_text(1)}", "@cert-authority *.lab ssh-rsa AAAA\n"]
)
def test_a_line_is_added_and_none_is_touched(tmp_path: Path, before: str) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(before)
    append_line(str(path), f"new {build_text(2)}")
    ends = "" if before.endswith("\n") or not before else "\n"
    assert path.read_text() == f"{before}{ends}new {build_text(2)}\n"


def test_many_may_write_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("old without an end")
    together = threading.Barrier(64)

    def accept_host(number: int) -> None:
        together.wait(20)
        append_line(str(path), f"host{number} {build_text(number)}")

    threads = [threading.Thread(target=accept_host, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    join_threads(*threads)
    lines = path.read_text().splitlines()
    assert lines[0] == "old without an end"
    assert sorted(lines[1:]) == sorted(f"host{number} {build_text(number)}" for number in range(64))
