"""Host keys over both transports and a real sshd: known, new, changed, signed by an authority, and what is written down."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fanout.model.errors import HostKeyChanged, HostKeyUnknown, TransportError
from fanout.remote.transports.base import Deadline, Transport
from fanout.remote.transports.builtin_ssh import SshTransport
from fanout.remote.transports.notices import Notices
from fanout.remote.transports.openssh import OpensshTransport
from fanout.remote.transports.ssh_config import SshConfig
from tests.remote import sshd
from tests.remote.sshd import Sshd, new_key
from tests.remote.ways import EXACT, build_host, read_all, start_clock

pytestmark = pytest.mark.process
Make = Callable[..., Transport]


@pytest.fixture(params=["ssh", "openssh"])
def make(request: pytest.FixtureRequest) -> Make:
    """Make a transport of either kind for one ssh_config."""
    kind = SshTransport if request.param == "ssh" else OpensshTransport

    def build_transport(config: str, notices: Notices | None = None, *, accept_new: bool = False) -> Transport:
        return kind(SshConfig(file=config), accept_new_host_keys=accept_new, notices=notices)

    return build_transport


def log_in(transport: Transport) -> bytes:
    """Run a command on ``lab``. Raises TransportError."""
    with start_clock(Deadline(30.0)) as deadline:
        channel = transport.open(build_host("lab"), EXACT, deadline)
        deadline.mark_done()
    try:
        return read_all(channel)
    finally:
        channel.close()


def read_refusal(transport: Transport) -> TransportError:
    with pytest.raises(TransportError) as raised:
        log_in(transport)
    assert raised.value.hint
    return raised.value


def other_server(server: Sshd, tmp_path: Path) -> str:
    """Return the line of another key for the address of ``server``."""
    return f"[127.0.0.1]:{server.port} {new_key(tmp_path / 'other')}\n"


@pytest.mark.parametrize("strict", ["no", "accept-new"])
def test_the_configuration_accepts_a_new_key_and_reports_it_once(
    server: Sshd, tmp_path: Path, make: Make, strict: str
) -> None:
    known = tmp_path / "known_hosts"
    options = {"UserKnownHostsFile": str(known), "StrictHostKeyChecking": strict, "HashKnownHosts": "no"}
    notices = Notices()
    transport = make(server.write_config(tmp_path / "config", **options), notices)
    assert log_in(transport) == b"a\0b\xff\n"
    assert log_in(transport) == b"a\0b\xff\n"
    assert known.read_text() == f"[127.0.0.1]:{server.port} {server.host_key}\n"
    (line,) = notices.take_new()
    assert line.startswith("lab: the host key was new, and was accepted and written to known_hosts")
    assert strict in line


@pytest.mark.parametrize("accept_new", [True, False])
def test_a_changed_key_is_refused_whatever_the_configuration_accepts(
    server: Sshd, tmp_path: Path, make: Make, accept_new: bool
) -> None:
    known = tmp_path / "known_hosts"
    before = other_server(server, tmp_path)
    known.write_text(before)
    config = server.write_config(tmp_path / "config", UserKnownHostsFile=str(known), StrictHostKeyChecking="no")
    error = read_refusal(make(config, accept_new=accept_new))
    assert type(error) is HostKeyChanged
    assert "CHANGED" in str(error)
    assert known.read_text() == before


@pytest.mark.parametrize("file", ["known_hosts", "/dev/null"])
def test_a_key_that_changes_between_two_logins_of_one_process_is_refused(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, make: Make, file: str
) -> None:
    known = file if file.startswith("/") else str(tmp_path / file)
    with sshd.start_sshd(tmp_path_factory.mktemp("first")) as first:
        config = first.write_config(tmp_path / "config", UserKnownHostsFile=known, StrictHostKeyChecking="no")
        text = Path(config).read_text()
        transport = make(config)
        log_in(transport)
        log_in(transport)
    with sshd.start_sshd(tmp_path_factory.mktemp("second"), port=first.port) as second:
        Path(config).write_text(text.replace(str(first.identity), str(second.identity)))
        assert type(read_refusal(transport)) is HostKeyChanged
    if not file.startswith("/"):
        assert len(Path(known).read_text().splitlines()) == 1


def test_without_a_terminal_ask_refuses_and_names_the_command(server: Sshd, tmp_path: Path, make: Make) -> None:
    config = server.write_config(
        tmp_path / "config", UserKnownHostsFile=str(tmp_path / "none"), StrictHostKeyChecking="ask"
    )
    error = read_refusal(make(config))
    assert type(error) is HostKeyUnknown
    assert server.host_key.split()[0] in str(error)
    assert "ssh " in error.hint
    assert "--accept-new-host-keys" in error.hint


def test_the_plain_name_counts_where_another_port_has_no_line(server: Sshd, tmp_path: Path, make: Make) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"127.0.0.1 {server.host_key}\n")
    assert log_in(make(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known)))) == b"a\0b\xff\n"
    assert "[" not in known.read_text()


def test_a_new_name_is_hashed_where_the_configuration_wants_that(server: Sshd, tmp_path: Path, make: Make) -> None:
    known = tmp_path / "known_hosts"
    options = {"UserKnownHostsFile": str(known), "StrictHostKeyChecking": "accept-new", "HashKnownHosts": "yes"}
    log_in(make(server.write_config(tmp_path / "config", **options)))
    assert known.read_text().startswith("|1|")
    done = subprocess.run(
        ["ssh-keygen", "-F", f"[127.0.0.1]:{server.port}", "-f", str(known)], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_the_jump_host_that_fails_is_named(server: Sshd, tmp_path: Path, make: Make) -> None:
    config = Path(server.write_config(tmp_path / "config", ProxyJump="bastion"))
    config.write_text(f"Host bastion\n  HostName 127.0.0.1\n  Port {sshd.free_port()}\n{config.read_text()}")
    error = read_refusal(make(str(config)))
    assert str(error).startswith("jump host bastion: 127.0.0.1:")
    assert "refused the connection" in str(error)
    assert error.hint.endswith("bastion")


# ------------------------------------------------------------------------------------------------------- certificates


def certify_key(
    directory: Path, *options: str, principals: str = "127.0.0.1", kind: str = "ed25519"
) -> tuple[str, str]:
    """Make a host key with a certificate; return lines for sshd, and the public key of the authority."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(directory / "ca")], check=True)
    new_key(directory / "certified")
    words = ["ssh-keygen", "-q", "-s", str(directory / "ca"), "-I", "lab", "-h", "-n", principals, *options]
    subprocess.run([*words, str(directory / "certified.pub")], check=True)
    extra = f"HostKey {directory}/certified\nHostCertificate {directory}/certified-cert.pub\n"
    return extra, " ".join((directory / "ca.pub").read_text().split()[:2])


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_host_that_an_authority_has_signed_needs_no_line_of_its_own(tmp_path: Path, make: Make, kind: str) -> None:
    extra, authority = certify_key(tmp_path, kind=kind)
    with sshd.start_sshd(tmp_path, extra=extra) as server:
        known = tmp_path / "authorities"
        known.write_text(f"@cert-authority * {authority}\n")
        assert log_in(make(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known)))) == b"a\0b\xff\n"
        assert known.read_text() == f"@cert-authority * {authority}\n"


@pytest.mark.parametrize(
    ("options", "principals"), [(["-V", "20200101:20200102"], "127.0.0.1"), ([], "another.lab")], ids=["old", "other"]
)
def test_expired_or_foreign_certificate_is_refused(
    tmp_path: Path, make: Make, options: list[str], principals: str
) -> None:
    extra, authority = certify_key(tmp_path, *options, principals=principals)
    with sshd.start_sshd(tmp_path, extra=extra) as server:
        known = tmp_path / "authorities"
        known.write_text(f"@cert-authority * {authority}\n")
        error = read_refusal(make(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known))))
        assert type(error) is HostKeyUnknown


def test_a_revoked_authority_is_no_authority(tmp_path: Path, make: Make) -> None:
    extra, authority = certify_key(tmp_path)
    with sshd.start_sshd(tmp_path, extra=extra) as server:
        known = tmp_path / "authorities"
        known.write_text(f"@cert-authority * {authority}\n@revoked * {authority}\n")
        read_refusal(make(server.write_config(tmp_path / "config", UserKnownHostsFile=str(known))))
