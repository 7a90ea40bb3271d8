"""Login options: parse the output of ``ssh -G`` into a value. Pure.

``ssh -G`` prints every option of a host, one keyword a line, with defaults. It does not expand ``~``, ``%d`` and
``${VAR}`` in names of key files and in ProxyCommand; ``parse_ssh_g`` does.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import field

from fanout.model.frozen import frozen

#: The key files that OpenSSH tries if the configuration names none (all versions together).
DEFAULT_KEYS = frozenset(
    f"~/.ssh/id_{kind}" for kind in ("rsa", "dsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "xmss", "mldsa_44")
)


@frozen
class UserContext:
    """Values of this machine and this user for the tokens of a configuration."""

    user: str
    home: str
    uid: int
    machine: str
    variable: Callable[[str], str | None]


@frozen
class SshOptions:
    """The options of a login to one host. File names are expanded; "none" and empty values are ``""`` or ``()``.

    ``name`` is the name that ssh was asked for, ``hostname`` the name or address that it connects to. ``values`` has
    every option of the configuration as ``ssh -G`` prints it, by its keyword in lower case.
    """

    name: str
    hostname: str
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    identity_files_given: bool = False  # False: the configuration names none, these are OpenSSH's defaults
    certificate_files: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str = ""  # "": the agent of SSH_AUTH_SOCK; "none": no agent; else the path of its socket
    proxy_jump: tuple[str, ...] = ()  # in the order of the logins, each as in the configuration
    proxy_command: str = ""  # tokens are expanded
    host_key_alias: str = ""
    strict_host_key_checking: str = "ask"  # yes, no, ask or accept-new
    user_known_hosts: tuple[str, ...] = ()
    global_known_hosts: tuple[str, ...] = ()
    hash_known_hosts: bool = False
    check_localhost_key: bool = True  # False: NoHostAuthenticationForLocalhost
    address_family: str = "any"  # any, inet or inet6
    bind_address: str = ""
    bind_interface: str = ""
    control_path: str = ""
    connect_timeout: float | None = None
    connection_attempts: int = 1
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_hand: str = ""  # the command that makes this login in a terminal
    config_file: str = ""  # that of -F

    def first_value(self, keyword: str) -> str:
        """Return the first value of ``keyword`` (in lower case), "" if ssh prints none."""
        return next(iter(self.values.get(keyword, ())), "")

    def is_on(self, keyword: str, *, default: bool = False) -> bool:
        """Return whether the flag ``keyword`` is on; ``default`` if this ssh does not know it."""
        return self.first_value(keyword) not in ("no", "false") if keyword in self.values else default

    @property
    def known_as(self) -> str:
        """Return the name of this host in known_hosts, without its port: HostKeyAlias, or else HostName."""
        return (self.host_key_alias or self.hostname).lower()

    @property
    def connect_address(self) -> str:
        """Return ``host:port`` of the connection, for messages."""
        return f"[{self.hostname}]:{self.port}" if ":" in self.hostname else f"{self.hostname}:{self.port}"


class InvalidOption(ValueError):
    """A value of the configuration is invalid; the message is a sentence without the host."""


def read_values(text: str) -> dict[str, tuple[str, ...]]:
    """Split the output of ``ssh -G`` into values by keyword. A keyword may have several lines."""
    values: dict[str, tuple[str, ...]] = {}
    for line in text.splitlines():
        keyword, _, value = line.partition(" ")
        if keyword:
            values[keyword.lower()] = (*values.get(keyword.lower(), ()), value.strip())
    return values


def parse_ssh_g(name: str, text: str, here: UserContext) -> SshOptions:
    """Turn the text of ``ssh -G NAME`` into options. Raises InvalidOption."""
    return build_options(name, read_values(text), here)


def build_options(name: str, values: Mapping[str, tuple[str, ...]], here: UserContext) -> SshOptions:
    """Turn the values of a configuration into options. Raises InvalidOption."""

    def one(keyword: str, default: str = "") -> str:
        value = next(iter(values.get(keyword, ())), default)
        return "" if value.lower() == "none" else value

    hostname = one("hostname", name) or name
    if "%" in hostname and "hostname" in values and ":" in hostname:
        hostname = hostname.replace("%%", "%")  # the zone of an IPv6 address
    tokens = _build_tokens(name, hostname, values, here)
    identities = values.get("identityfile", ())

    def paths(keyword: str, *, split: bool = False) -> tuple[str, ...]:
        given = values.get(keyword, ())
        listed = [path for text in given for path in (split_paths(text) if split else (text,))]
        return tuple(expand_path(path, tokens, here) for path in listed if path.lower() != "none")

    command = one("proxycommand")
    timeout = one("connecttimeout")
    return SshOptions(
        name=name,
        hostname=hostname,
        port=_parse_number(one("port", "22")),
        user=one("user", here.user),
        identity_files=paths("identityfile"),
        identity_files_given=bool(identities) and not _are_defaults(identities),
        certificate_files=paths("certificatefile"),
        identities_only=one("identitiesonly", "no") == "yes",
        identity_agent=_identity_agent(values, tokens, here),
        proxy_jump=() if command else tuple(hop.strip() for hop in one("proxyjump").split(",") if hop.strip()),
        proxy_command=expand_tokens(command, {key: tokens[key] for key in "hnpr%"}, here, variables=False),
        host_key_alias=one("hostkeyalias"),
        strict_host_key_checking=_normalize_strict(one("stricthostkeychecking", "ask")),
        user_known_hosts=paths("userknownhostsfile", split=True),
        global_known_hosts=paths("globalknownhostsfile", split=True),
        hash_known_hosts=one("hashknownhosts", "no") == "yes",
        check_localhost_key=one("nohostauthenticationforlocalhost", "no") == "no",
        address_family=one("addressfamily", "any"),
        bind_address=one("bindaddress"),
        bind_interface=one("bindinterface"),
        control_path=expand_path(one("controlpath"), tokens, here),
        connect_timeout=_parse_number(timeout) if timeout and _parse_number(timeout) > 0 else None,
        connection_attempts=_parse_number(one("connectionattempts", "1")),
        values=dict(values),
    )


def _parse_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidOption(f"`{text}` is not a number") from None


def _are_defaults(identities: tuple[str, ...]) -> bool:
    """Return whether these are OpenSSH's defaults, which ssh prints if the configuration names no key."""
    return len(identities) > 3 and set(identities) <= DEFAULT_KEYS


def _normalize_strict(value: str) -> str:
    """Return yes, no, ask or accept-new: some versions of ssh print true, false or off."""
    return {"true": "yes", "false": "no", "off": "no"}.get(value, value)


def _build_tokens(name: str, hostname: str, values: Mapping[str, tuple[str, ...]], here: UserContext) -> dict[str, str]:
    port = next(iter(values.get("port", ())), "22")
    user = next(iter(values.get("user", ())), here.user)
    alias = next(iter(values.get("hostkeyalias", ())), "")
    jump = next(iter(values.get("proxyjump", ())), "")
    jump = "" if jump == "none" else jump.rpartition(",")[2]
    short = here.machine.partition(".")[0]
    digest = hashlib.sha1(f"{here.machine}{hostname}{port}{user}".encode(), usedforsecurity=False).hexdigest()
    return {
        "%": "%",
        "C": digest,
        "d": here.home,
        "h": hostname,
        "i": str(here.uid),
        "j": jump,
        "k": alias or name,
        "L": short,
        "l": here.machine,
        "n": name,
        "p": port,
        "r": user,
        "u": here.user,
    }


_TOKEN = re.compile(r"%(.?)|\$\{([^}]*)\}", re.DOTALL)


def expand_tokens(text: str, tokens: Mapping[str, str], here: UserContext, *, variables: bool = True) -> str:
    """Replace tokens such as ``%h`` and, with ``variables``, ``${VAR}``. Raises InvalidOption for those that ssh refuses."""

    def replace(match: re.Match[str]) -> str:
        token, variable = match.groups()
        if token is not None:
            if token not in tokens:
                raise InvalidOption(f"ssh does not know %{token} in `{text}`")
            return tokens[token]
        if not variables:
            return match[0]
        value = here.variable(variable)
        if value is None:
            raise InvalidOption(f"this shell has no variable {variable}, which `{text}` names")
        return value

    return _TOKEN.sub(replace, text)


def expand_path(path: str, tokens: Mapping[str, str], here: UserContext) -> str:
    """Return a file name with ``~``, tokens and variables replaced. A name that ssh has expanded stays the same."""
    if path == "~" or path.startswith("~/"):
        path = here.home + path[1:]
    return expand_tokens(path, tokens, here)


def split_paths(text: str) -> list[str]:
    """Split file names that ssh -G joined with blanks. A word that cannot begin a path belongs to the one before."""
    paths: list[str] = []
    for word in text.split(" "):
        begins = word.startswith(("/", "~", "%", "$")) or word.lower() == "none"
        if begins or not paths or not paths[-1].startswith("/"):
            paths.append(word)
        else:
            paths[-1] += f" {word}"
    return [path for path in paths if path]


def _identity_agent(values: Mapping[str, tuple[str, ...]], tokens: Mapping[str, str], here: UserContext) -> str:
    text = next(iter(values.get("identityagent", ())), "")
    if text.lower() == "none":
        return "none"
    if text in ("", "SSH_AUTH_SOCK", "$SSH_AUTH_SOCK"):
        return ""
    if text.startswith("$") and not text.startswith("${"):
        return here.variable(text[1:]) or "none"
    return expand_path(text, tokens, here)
