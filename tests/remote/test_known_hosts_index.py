"""The index of a known_hosts file finds what trying its every line finds."""

from __future__ import annotations

import base64
import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from fanout.remote.transports.known_hosts import KnownHostsIndex, KnownHostsLine, matches_name

_HOSTS = ("h1", "h2", "H1", "10.0.0.1", "[h1]:2222", "h")


def _hash_name(name: str) -> str:
    digest = hmac.new(b"salt", name.encode(), hashlib.sha1).digest()
    return f"|1|{base64.b64encode(b'salt').decode()}|{base64.b64encode(digest).decode()}"


_PATTERNS = st.sampled_from([*_HOSTS, "h*", "h?", "!h1", "*", *map(_hash_name, _HOSTS)])
_LINES = st.lists(
    st.builds(
        lambda names, key: KnownHostsLine(marker="", names=tuple(names), key_type="ssh-ed25519", key=key),
        st.lists(_PATTERNS, min_size=1, max_size=4),
        st.binary(min_size=1, max_size=2),
    ),
    max_size=6,
).map(tuple)


@given(lines=_LINES, name=st.sampled_from(_HOSTS).map(str.lower))
def test_the_index_finds_exactly_the_lines_that_match(lines: tuple[KnownHostsLine, ...], name: str) -> None:
    """Plain, hashed, negated and wildcard names alike; only the order may differ."""
    found = KnownHostsIndex(lines).find_lines(name)
    assert sorted(found, key=repr) == sorted((line for line in lines if matches_name(line, name)), key=repr)
