"""The text of ``ssh -G`` becomes a value: names of files are expanded, "none" is nothing, lists keep their order."""

from __future__ import annotations

import pytest

from fanout.remote.transports.ssh_options import InvalidOption, SshOptions, UserContext, parse_ssh_g, split_paths

HERE = UserContext(user="ada", home="/home/ada", uid=1000, machine="pc.lab", variable={"KEYS": "/keys"}.get)


def read_options(*lines: str, name: str = "gpu1") -> SshOptions:
    """Parse these lines with what ssh -G always prints."""
    first = {line.split()[0] for line in lines}
    always = ("hostname 10.0.0.1", "port 2222", "user bob")
    return parse_ssh_g(name, "\n".join([*lines, *(line for line in always if line.split()[0] not in first)]), HERE)


def test_an_address_a_port_and_a_user_are_taken_as_printed() -> None:
    options = read_options()
    assert (options.name, options.hostname, options.port, options.user) == ("gpu1", "10.0.0.1", 2222, "bob")
    assert options.connect_address == "10.0.0.1:2222"


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ("~/.ssh/k", "/home/ada/.ssh/k"),
        ("%d/k", "/home/ada/k"),
        ("${KEYS}/k", "/keys/k"),
        ("/k/%h-%n-%p-%r-%u-%i-%L-%l-%k", "/k/10.0.0.1-gpu1-2222-bob-ada-1000-pc-pc.lab-gpu1"),
        ("/k/100%%", "/k/100%"),
    ],
)
def test_names_of_key_files_are_expanded(written: str, path: str) -> None:
    options = read_options(f"identityfile {written}", f"certificatefile {written}", f"identityagent {written}")
    assert options.identity_files == (path,)
    assert options.certificate_files == (path,)
    assert options.identity_agent == path


@pytest.mark.parametrize("written", ["/k/%y", "/k/%", "${NOT_SET_HERE}/k"])
def test_tokens_that_ssh_refuses_are_refused(written: str) -> None:
    with pytest.raises(InvalidOption):
        read_options(f"identityfile {written}")


def test_configured_keys_are_distinguished_from_default_keys() -> None:
    defaults = [f"identityfile ~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")]
    assert not read_options(*defaults).identity_files_given
    assert read_options("identityfile ~/.ssh/id_rsa").identity_files_given
    assert read_options("identityfile none").identity_files == ()


def test_an_agent_may_be_none_a_socket_or_the_one_of_a_variable() -> None:
    assert read_options().identity_agent == ""
    assert read_options("identityagent SSH_AUTH_SOCK").identity_agent == ""
    assert read_options("identityagent none").identity_agent == "none"
    assert read_options("identityagent $KEYS").identity_agent == "/keys"
    assert read_options("identityagent $NOT_SET_HERE").identity_agent == "none"


def test_jumps_keep_their_order_and_none_is_no_jump() -> None:
    assert read_options("proxyjump a,b@c:22,ssh://d").proxy_jump == ("a", "b@c:22", "ssh://d")
    assert read_options("proxyjump none").proxy_jump == ()
    assert read_options("proxycommand none").proxy_command == ""


def test_tokens_of_a_proxy_command_are_expanded_and_variables_are_left_to_the_shell() -> None:
    options = read_options("proxycommand nc -X 5 %h %p %n %r %% ${KEYS}")
    assert options.proxy_command == "nc -X 5 10.0.0.1 2222 gpu1 bob % ${KEYS}"


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("/a /b", ["/a", "/b"]),
        ("/a b/k /c", ["/a b/k", "/c"]),
        ("~/.ssh/known_hosts ~/.ssh/known_hosts2", ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"]),
        ("k1 k2", ["k1", "k2"]),
        ("none", ["none"]),
    ],
)
def test_blank_separated_file_list_is_split(text: str, paths: list[str]) -> None:
    assert split_paths(text) == paths


def test_files_of_known_hosts_may_be_none() -> None:
    options = read_options("userknownhostsfile none", "globalknownhostsfile /etc/a /etc/b")
    assert options.user_known_hosts == ()
    assert options.global_known_hosts == ("/etc/a", "/etc/b")


@pytest.mark.parametrize(("printed", "meant"), [("true", "yes"), ("false", "no"), ("ask", "ask"), ("off", "no")])
def test_strict_host_key_checking_has_one_value_for_each_meaning(printed: str, meant: str) -> None:
    assert read_options(f"stricthostkeychecking {printed}").strict_host_key_checking == meant
