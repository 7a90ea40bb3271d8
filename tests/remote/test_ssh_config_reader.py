"""Our own reader of random configurations agrees with ``ssh -G``, or declines."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.model.errors import UsageError
from fanout.remote.transports.ssh_config import ConfigQuery, SshConfig, parse_jump
from fanout.remote.transports.ssh_options import SshOptions

pytestmark = pytest.mark.process

NAMES = ("gpu1", "gpu2", "GPU3", "web.lab", "10.0.0.7")

_PATTERN = st.sampled_from((*NAMES, "gpu*", "gpu?", "*.lab", "*", "!gpu2", "10.0.0.*", "GPU*", '"gpu1"'))
_HOST = st.lists(_PATTERN, min_size=1, max_size=3).map(lambda patterns: f"Host {' '.join(patterns)}")
_MATCH = st.sampled_from(
    (
        "Match all",
        "Match host gpu*,!gpu2",
        "Match host 10.1.0.*",
        "Match originalhost gpu1,web.lab",
        "Match !originalhost gpu1 user bob",
        "Match user bob",
        "Match localuser nobody-here",
        "Match host GPU3",
        "match HOST gpu1 ORIGINALHOST *",
        "Match exec false",
        "Match host gpu1 exec true",
        "Match final host gpu1",
    )
)
_OPTION = st.sampled_from(
    (
        "HostName 10.1.0.1",
        "HostName=10.1.0.2",
        "HostName %h.lab",
        'HostName "10.1.0.3"',
        "HostName 10.1.0.4 # note",
        "User bob",
        "user = alice",
        'User "an na"',
        "Port 2222",
        "PORT=2200",
        "Port \t 22",
        "IdentityFile ~/.ssh/k1",
        "IdentityFile %d/k2",
        "IdentityFile ${HOME}/k3",
        'IdentityFile "/a b/k"',
        "IdentityFile none",
        "IdentityFile ~/.ssh/%r-%h",
        "IdentityFile /k\\ 1",
        "CertificateFile ~/.ssh/k1-cert.pub",
        "IdentitiesOnly yes",
        "IdentityAgent none",
        "IdentityAgent ~/agent.sock",
        "IdentityAgent SSH_AUTH_SOCK",
        "ProxyJump j1",
        "ProxyJump j1,me@j2:2201",
        "ProxyJump ssh://me@j3:22",
        "ProxyJump [::1]:2202",
        "ProxyJump none",
        "ProxyCommand nc %h %p # all of it",
        "ProxyCommand none",
        "ProxyCommand=ssh -W %h:%p j",
        "HostKeyAlias cluster",
        "UserKnownHostsFile ~/k1 ~/k2",
        'UserKnownHostsFile "/a b/k" /c',
        "UserKnownHostsFile ~/kh.%h",
        "UserKnownHostsFile none",
        "GlobalKnownHostsFile /dev/null",
        "StrictHostKeyChecking no",
        "StrictHostKeyChecking accept-new",
        "ConnectTimeout 7",
        "ConnectTimeout 1m",
        "ConnectionAttempts 3",
        "AddressFamily inet",
        "BindAddress 127.0.0.1",
        "ControlPath ~/.ssh/cm-%r@%h:%p",
        "ControlPath ~/.ssh/%C",
        "ControlMaster auto",
        "SendEnv LANG LC_*",
        "SetEnv A=b",
        "HashKnownHosts yes",
        "ServerAliveInterval 30",
        "RemoteCommand tmux new -A -s %h",
        "Ciphers +aes128-cbc",
        "CanonicalizeHostname no",
        "ForwardAgent yes",
        "# a comment",
        "",
        "   ",
    )
)
_BLOCK = st.tuples(st.one_of(_HOST, _HOST, _MATCH), st.lists(_OPTION, max_size=5))
_CONFIG = st.tuples(st.lists(_OPTION, max_size=2), st.lists(_BLOCK, min_size=1, max_size=5))
_FLAGS = st.sampled_from(((), ("User=flag",), ("Port 77", "HostName=10.9.9.9"), ("ProxyJump=none",)))


def text_of(drawn: tuple[list[str], list[tuple[str, list[str]]]]) -> str:
    first, blocks = drawn
    return (
        "\n".join([*first, *(line for head, options in blocks for line in (head, *(f"  {one}" for one in options)))])
        + "\n"
    )


def make_comparable(options: SshOptions | str) -> object:
    """Return the value without what ssh prints in its own form."""
    if isinstance(options, str):
        return options
    jumps = [parse_jump(spec) for spec in options.proxy_jump]
    own = {"proxyjump", "proxycommand", "controlpath", "host", "remotecommand"}
    values = {keyword: value for keyword, value in options.values.items() if keyword not in own}
    return replace(options, values=values, proxy_jump=()), jumps


def ask_config(config: SshConfig, question: ConfigQuery) -> SshOptions | str:
    try:
        return config.resolve_query(question)
    except UsageError as error:
        return str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=_CONFIG, included=st.booleans(), flags=_FLAGS)
def test_the_shared_result_for_similar_hosts_equals_ssh_output_for_each(
    drawn: tuple[list[str], list[tuple[str, list[str]]]], included: bool, flags: tuple[str, ...]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "config"
        path.write_text(text_of(drawn))
        if included:
            outer = Path(directory) / "outer"
            outer.write_text(f"Host gpu* web.lab\n  Include {directory}/conf*\n  Port 2299\nHost *\n  User last\n")
            path = outer
        ours, theirs = SshConfig(file=str(path)), SshConfig(file=str(path))
        theirs._distrusted = True
        without = SshConfig(file=str(path), program="/no/ssh")
        for name in NAMES:
            question = ConfigQuery(name=name, options=flags)
            expected = ask_config(theirs, question)
            assert make_comparable(ask_config(ours, question)) == make_comparable(expected), text_of(drawn)
            alone = ask_config(without, question)
            if not isinstance(alone, str):
                assert not isinstance(expected, str), text_of(drawn)
                skipped = {"values": {}, "proxy_jump": (), "identity_files": (), "control_path": ""}
                assert replace(alone, **skipped) == replace(expected, **skipped), text_of(drawn)  # type: ignore[arg-type]
                assert alone.identity_files == expected.identity_files or not alone.identity_files_given
