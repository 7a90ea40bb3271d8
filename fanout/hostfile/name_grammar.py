"""Validation of host, user and port. The strict grammar excludes ssh options and shell text."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

from fanout.hostfile.problems import ParseError
from fanout.model.frozen import frozen

HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
#: Includes alice@corp.local and CORP\alice (SSSD, winbind).
USER = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\\)?[A-Za-z_][A-Za-z0-9_.-]{0,63}\$?"
    r"(?:@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?)?"
)
TAG = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")
PORT_MOST = 65535

_IP4 = re.compile(r"(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}", re.ASCII)
_IP4_RUN = re.compile(r"((?:\d{1,3}\.){3})(\d{1,3})-(?:\1)?(\d{1,3})", re.ASCII)
_NUMERIC = re.compile(r"[0-9.]+")
_STRANGE = re.compile(r"[^A-Za-z0-9._-]")
_LOOKALIKES = {
    "\u00a0": "a no-break space; type an ordinary space",
    "\u2010": "a typographic hyphen; type -",
    "\u2011": "a typographic hyphen; type -",
    "\u2012": "a typographic dash; type -",
    "\u2013": "a typographic dash; type -",
    "\u2014": "a typographic dash; type -",
    "\u2212": "a minus sign; type -",
    "\u201c": 'a typographic quote; type "',
    "\u201d": 'a typographic quote; type "',
}

_ADVICE = {
    "/": "write only the host: host, user@host or host:port",
    "!": "to leave a host out write ^host on a line of its own, or use -x",
    "*": "wildcards work only with -w and -x; write each host or a range here",
}


@frozen
class Address:
    """Parsed ``[user@]host[:number]``; ``host`` may contain ranges, ``number`` is a port or a slot count."""

    user: str | None
    host: str
    number: str | None
    is_ip6: bool = False


def split_address(word: str) -> Address:
    """Split ``[user@]host[:number]``, including IPv6 with or without brackets."""
    user, at, rest = word.rpartition("@")
    if at:
        check_user(user)  # the last @ counts, as for ssh: alice@corp.local@gpu01
    skip = len(word) - len(rest)
    if rest.startswith("["):
        bracketed = _parse_bracketed_ip6(rest, skip)
        if bracketed is not None:
            host, number = bracketed
            return Address(user=user if at else None, host=host, number=number, is_ip6=True)
    outside = rest.rfind("]") + 1
    colons = rest.count(":", outside)
    if colons >= 2:
        host = _parse_ip6(rest, start=skip)
        return Address(user=user if at else None, host=host, number=None, is_ip6=True)
    if not colons:
        return Address(user=user if at else None, host=rest, number=None)
    host, _, number = rest.rpartition(":")
    if not _is_digits(number):
        raise ParseError(
            f"{number!r} after ':' is not a number", "write host:2222 for an ssh port", start=skip + len(host) + 1
        )
    return Address(user=user if at else None, host=host, number=number)


def _parse_bracketed_ip6(rest: str, skip: int) -> tuple[str, str | None] | None:
    """Parse ``[v6]`` or ``[v6]:port``; None if the brackets contain no colon (a range or a section)."""
    inner, closed, after = rest[1:].partition("]")
    if ":" not in inner:
        return None
    if not closed:
        raise ParseError("'[' is not closed", "write [fe80::1] or [fe80::1]:22", start=skip)
    host = _parse_ip6(inner, start=skip + 1)
    if not after:
        return host, None
    if after.startswith(":") and _is_digits(after[1:]):
        return host, after[1:]
    raise ParseError(f"{after!r} after the IPv6 address", "write [fe80::1]:2222", start=skip + len(inner) + 2)


def _parse_ip6(text: str, *, start: int) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ParseError(
            f"{text!r} is not an IPv6 address", "write host:port, [v6]:port or a bare v6", start=start
        ) from None
    zone = text.partition("%")[2]
    if zone and not ZONE.fullmatch(zone):
        raise ParseError(f"{zone!r} is not an interface name", "write fe80::1%eth0", start=start)
    if address.is_unspecified:
        raise ParseError("'::' is not the address of a machine", "name the machine", start=start)
    return str(address)


def check_user(user: str) -> str:
    if USER.fullmatch(user):
        return user
    if not user:
        raise ParseError("no user before '@'", "write user@host, or the host alone", end=1)
    if user.startswith("-"):
        raise ParseError("a user name may not begin with '-': ssh would read it as an option", end=len(user))
    raise ParseError(
        f"{user!r} is not a user name", "letters, digits, '_', '.', '-'; a letter or '_' first", end=len(user)
    )


def check_port(text: str) -> int:
    if _is_digits(text) and len(text) <= 5 and 1 <= int(text) <= PORT_MOST:
        return int(text)
    raise ParseError(f"{text!r} is not a port", f"a whole number from 1 to {PORT_MOST}")


def check_host(name: str) -> str:
    """Return the name for the connection: ASCII, no final dot, IDNA for another script. Raise a parse error if invalid."""
    run = _IP4_RUN.fullmatch(name)
    if run:
        raise ParseError(f"{name!r} looks like a range of addresses", f"write {run[1]}[{run[2]}-{run[3]}]")
    if name.isascii() and HOST.fullmatch(name) and ".." not in name and not _NUMERIC.fullmatch(name):
        return name
    if name.startswith("-"):
        raise ParseError(
            "a host may not begin with '-': ssh would read it as an option", "to leave a host out write ^host"
        )
    if ":" in name:
        return _parse_ip6(name, start=0)
    if not name.isascii():
        return _encode_idna(name)
    bare = name[:-1] if len(name) > 1 and name.endswith(".") else name
    if _NUMERIC.fullmatch(bare):
        return _check_ip4(bare)
    if HOST.fullmatch(bare) and ".." not in bare:
        return bare
    raise _build_host_error(name)


def _check_ip4(name: str) -> str:
    if not _IP4.fullmatch(name):
        raise ParseError(f"{name!r} is neither a host name nor an IPv4 address")
    if name == "0.0.0.0":  # noqa: S104 - refused, not bound
        raise ParseError("0.0.0.0 is not the address of a machine", "name the machine, or give its own address")
    return name


def _build_host_error(name: str) -> ParseError:
    strange = _STRANGE.search(name)
    if not name:
        return ParseError("a host name is missing")
    if strange:
        what = f"{strange[0]!r} is not allowed in a host name"
        fix = _ADVICE.get(strange[0], "")
        return ParseError(what, fix, start=strange.start(), end=strange.end())
    if len(name) > 254:
        return ParseError(f"a host name of {len(name)} characters; the limit is 254")
    return ParseError(
        f"{name!r} is not a host name", "letters, digits, '.', '-' and '_', a letter or digit first and last"
    )


def _encode_idna(name: str) -> str:
    """Encode the name as punycode. Raise a parse error for look-alikes such as mixed scripts in one label."""
    for at, char in enumerate(name):
        if char in _LOOKALIKES:
            raise ParseError(f"U+{ord(char):04X} is {_LOOKALIKES[char]}", start=at, end=at + 1)
        if not char.isprintable() or unicodedata.category(char) in ("Cf", "Zs"):
            raise ParseError(f"U+{ord(char):04X} is invisible and not allowed in a name", start=at, end=at + 1)
        if not char.isascii() and unicodedata.category(char)[0] not in "LMN":
            raise ParseError(f"{char!r} is not allowed in a host name", "letters and digits only", start=at, end=at + 1)
    for label in name.split("."):
        scripts = {unicodedata.name(char, "?").split()[0] for char in label if char.isalpha()}
        if len(scripts & {"LATIN", "CYRILLIC", "GREEK"}) > 1:
            raise ParseError(f"{label!r} mixes {' and '.join(sorted(scripts))} letters", "type the name again")
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        raise ParseError(
            f"{name!r} is not a host name", "use letters and digits of one script, without emoji and symbols"
        ) from None
    bare = ascii_name[:-1] if ascii_name.endswith(".") else ascii_name
    if not HOST.fullmatch(bare) or ".." in bare or _NUMERIC.fullmatch(bare):
        raise ParseError(f"{name!r} is not a host name")
    return bare


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
