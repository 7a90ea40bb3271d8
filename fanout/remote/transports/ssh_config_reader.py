"""ssh_config reader: read the values that differ per host without an ``ssh -G`` process for each host.

It reads only what it certainly reads as ssh does: ``Host``, ``Match`` by host and user, ``Include``, and values of plain
words. For the rest it raises ``UnsupportedLine``, with the file and the line, and ssh is asked. A test compares it with
``ssh -G`` on random configurations.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from fanout.remote.transports.ssh_options import UserContext

#: Keywords whose values may differ per host. The values of all other keywords come from an answer of ssh.
PER_HOST_KEYWORDS = frozenset({"hostname", "user", "port", "hostkeyalias", "proxyjump", "proxycommand", "identityfile",
                 "certificatefile", "controlpath"})  # fmt: skip
MULTI_VALUE_KEYWORDS = frozenset({"identityfile", "certificatefile", "sendenv", "setenv", "localforward", "remoteforward",
                     "dynamicforward", "permitremoteopen"})  # fmt: skip
RAW_KEYWORDS = frozenset({"proxycommand", "proxyjump", "remotecommand", "localcommand", "knownhostscommand"})
#: Keywords that fanout's logins never use, so their tokens do not matter.
NEVER_USED = frozenset({"remotecommand", "localcommand"})
MOST_INCLUDES = 16
SYSTEM = "/etc/ssh/ssh_config"

_WORD = re.compile(r'"[^"\\\']*"|[^\s"\'\\#]+')
_KEYWORD = re.compile(r"([A-Za-z0-9]+)(?:\s*=\s*|\s+|$)(.*)", re.DOTALL)
_OF_ONE_HOST = re.compile(r"%[hnprkCj]")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


class UnsupportedLine(Exception):
    """A line that only ssh itself can read correctly."""

    def __init__(self, file: str, line: int, what: str) -> None:
        super().__init__(f"{file}:{line}: {what}")


class ConfigLine(NamedTuple):
    """One line of a configuration: a keyword in lower case and the text after it."""

    file: str
    line: int
    keyword: str
    text: str
    words: tuple[str, ...] = ()
    included: tuple[tuple[ConfigLine, ...], ...] = ()

    @property
    def location(self) -> str:
        """Return ``file:line``, or only ``file`` for the command line."""
        return f"{self.file}:{self.line}" if self.line else self.file


class HostConfig:
    """The values for one host: the first value of each keyword (all values of some), and where each was given."""

    def __init__(self) -> None:
        self.own: dict[str, tuple[str, ...]] = {}
        self.rest: dict[str, tuple[str, ...]] = {}
        self.origins: dict[str, str] = {}

    @property
    def equivalence_key(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return a key that is equal for hosts with the same options, except for those in OWN.

        Hosts of one kind must also agree on whether the configuration names keys.
        """
        return (*sorted(self.rest.items()), ("identityfile", ("given",) if "identityfile" in self.own else ()))

    def has_keyword(self, *keywords: str) -> bool:
        """Return whether a line gives one of the keywords."""
        return any(keyword in self.own or keyword in self.rest for keyword in keywords)


class ConfigReader:
    """The files of one configuration, read once."""

    def __init__(
        self, file: str, here: UserContext, *, system: str = SYSTEM, comments: bool = False, lenient: bool = False
    ) -> None:
        """Read the files. With ``comments``, ``# …`` after a value is a comment; for older versions of ssh it is not.

        ``lenient``: skip a line that only ssh reads correctly. Then the values of a host may be incomplete.
        """
        self._lenient = lenient
        self._here = here
        self._comments = comments
        self._read: list[str] = []
        parts: list[tuple[ConfigLine, ...]] = []
        if file:
            parts += [self._read_file(file, os.path.join(here.home, ".ssh"), 0)] if file.lower() != "none" else []
        else:
            home = os.path.join(here.home, ".ssh")
            parts += [self._read_file(os.path.join(home, "config"), home, 0), self._read_file(system, "/etc/ssh", 0)]
        self._parts = tuple(parts)
        self.files = tuple(self._read)

    def _read_file(self, path: str, base: str, depth: int) -> tuple[ConfigLine, ...]:
        if depth > MOST_INCLUDES:
            raise UnsupportedLine(path, 1, "Include goes deeper than 16 files")
        try:
            with open(path, "rb") as file:
                text = file.read().decode("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnsupportedLine(path, 0, error.strerror or "cannot be read") from error
        self._read.append(path)
        return tuple(self._parse_lines(path, text, base, depth))

    def _parse_lines(self, path: str, text: str, base: str, depth: int) -> Iterator[ConfigLine]:
        for number, raw in enumerate(text.split("\n"), 1):
            try:
                entry = self._parse_line(path, number, raw)
            except UnsupportedLine:
                if not self._lenient:
                    raise
                continue
            if entry is None:
                continue
            if entry.keyword == "include":
                included = tuple(self._read_file(one, base, depth + 1) for one in self._expand_include(entry, base))
                entry = ConfigLine(file=path, line=number, keyword="include", text="", included=included)
            yield entry

    def _parse_line(self, path: str, number: int, raw: str) -> ConfigLine | None:
        """Parse one line. Return None for a comment or a blank line."""
        line = raw.strip(" \t\r\f")
        if not line or line.startswith("#"):
            return None
        match = _KEYWORD.fullmatch(line)
        if match is None:
            raise UnsupportedLine(path, number, f"`{line[:60]}` is not a keyword and a value")
        keyword, text = match[1].lower(), match[2]
        if keyword in RAW_KEYWORDS:
            if not text or (keyword == "proxyjump" and not re.fullmatch(r"[^\s#\"'\\]+", text)):
                raise UnsupportedLine(path, number, f"{match[1]} has an unusual value")
            return ConfigLine(file=path, line=number, keyword=keyword, text=text, words=(text,))
        return ConfigLine(
            file=path, line=number, keyword=keyword, text=text, words=self._split_words(path, number, match[1], text)
        )

    def _split_words(self, path: str, number: int, keyword: str, text: str) -> tuple[str, ...]:
        words: list[str] = []
        at = 0
        while at < len(text):
            if text[at] in " \t":
                at += 1
                continue
            if text[at] == "#" and self._comments:
                break
            match = _WORD.match(text, at)
            after = text[match.end() : match.end() + 1] if match else "x"
            if match is None or (after and after not in " \t"):
                raise UnsupportedLine(path, number, f"{keyword} has a quote, a backslash or a # in its value")
            words.append(match[0].strip('"'))
            at = match.end()
        if not words or not all(words):
            raise UnsupportedLine(path, number, f"{keyword} has no value")
        return tuple(words)

    def _expand_include(self, entry: ConfigLine, base: str) -> Iterator[str]:
        for word in entry.words:
            if "%" in word or "$" in word or (word.startswith("~") and not word.startswith("~/")):
                raise UnsupportedLine(entry.file, entry.line, f"Include {word}")
            path = self._here.home + word[1:] if word.startswith("~/") else os.path.join(base, word)
            yield from sorted(glob.glob(path)) if glob.has_magic(path) else [path]

    def list_host_names(self) -> list[str]:
        """Return the names of the Host lines in their order, without patterns; each once."""
        return list(dict.fromkeys(name for part in self._parts for name in _iter_names(part)))

    def read_host(self, name: str, options: Sequence[str] = ()) -> HostConfig:
        """Return the values for one login. ``options`` of the command line come before any file. Raises UnsupportedLine."""
        reading = HostConfig()
        if not _PLAIN_NAME.fullmatch(name):
            raise UnsupportedLine("command line", 0, f"the name {name}")
        for option in options:
            entry = self._parse_line("command line", 0, option)
            if entry is None or entry.keyword in ("include", "host", "match"):
                raise UnsupportedLine("command line", 0, f"-o {option}")
            self._apply_line(reading, entry)
        for part in self._parts:
            self._apply_lines(reading, part, name, True)
        if reading.has_keyword("canonicalizehostname", "tag", "ignoreunknown"):
            raise UnsupportedLine(*self._location_of(reading, "canonicalizehostname", "tag", "ignoreunknown"))
        return reading

    def _location_of(self, reading: HostConfig, *keywords: str) -> tuple[str, int, str]:
        keyword = next(keyword for keyword in keywords if keyword in reading.origins)
        file, _, line = reading.origins[keyword].rpartition(":")
        return file or "command line", int(line) if line.isdecimal() else 0, keyword

    def _apply_lines(self, reading: HostConfig, entries: Sequence[ConfigLine], name: str, active: bool) -> None:
        """Apply the lines that match. ``active`` is False inside an Include of a block that does not match."""
        allowed = active
        for entry in entries:
            if entry.keyword == "include":
                for part in entry.included:
                    self._apply_lines(reading, part, name, active)
            elif entry.keyword == "host":
                active = allowed and _host_matches(name, entry.words)
            elif entry.keyword == "match":
                active = self._matches(reading, entry, name) and allowed
            elif active:
                self._apply_line(reading, entry)

    def _apply_line(self, reading: HostConfig, entry: ConfigLine) -> None:
        keyword, words = entry.keyword, entry.words
        values = reading.own if keyword in PER_HOST_KEYWORDS else reading.rest
        if keyword == "proxyjump" and "proxycommand" in values:
            return
        if keyword == "proxycommand" and values.get("proxyjump", ("none",))[0].lower() != "none":
            return  # the first of the two wins, but `ProxyJump none` does not disable a later ProxyCommand
        if keyword in values and keyword not in MULTI_VALUE_KEYWORDS:
            return
        if keyword in PER_HOST_KEYWORDS and (len(words) != 1 or (keyword == "port" and not words[0].isdecimal())):
            raise UnsupportedLine(entry.file, entry.line, f"{keyword} has an unusual value")
        if keyword == "user" and re.search(r"[%$]", words[0]):
            raise UnsupportedLine(entry.file, entry.line, "user has tokens")
        if keyword == "hostname" and "%" in words[0].replace("%h", "").replace("%%", ""):
            raise UnsupportedLine(entry.file, entry.line, "hostname has tokens")
        if keyword not in PER_HOST_KEYWORDS and keyword not in NEVER_USED and _OF_ONE_HOST.search(entry.text):
            raise UnsupportedLine(entry.file, entry.line, f"{keyword} has tokens")
        reading.origins.setdefault(keyword, entry.location)
        found = " ".join(words) if keyword not in PER_HOST_KEYWORDS else words[0]
        if keyword not in PER_HOST_KEYWORDS or found not in values.get(
            keyword, ()
        ):  # ssh drops a key file that is named twice
            values[keyword] = (*values.get(keyword, ()), found)

    def _matches(self, reading: HostConfig, entry: ConfigLine, name: str) -> bool:
        """Evaluate a Match line. Raises UnsupportedLine for a criterion that is not about names and users."""
        words = list(entry.words)
        if words == ["all"]:
            return True
        hostname = reading.own.get("hostname", (name,))[0].replace("%h", name)
        subjects = {
            "host": (hostname, True),
            "originalhost": (name, True),
            "user": (reading.own.get("user", (self._here.user,))[0], False),
            "localuser": (self._here.user, False),
        }
        if len(words) % 2:
            raise UnsupportedLine(entry.file, entry.line, f"Match {entry.text}")
        result = True
        for criterion, patterns in zip(words[::2], words[1::2], strict=True):
            plain = criterion.lower().removeprefix("!")
            if plain not in subjects or "%" in hostname:
                raise UnsupportedLine(entry.file, entry.line, f"Match {criterion}")
            subject, lower = subjects[plain]
            hit = _list_matches(subject.lower() if lower else subject, patterns.lower() if lower else patterns)
            result = result and hit != criterion.startswith("!")
        return result


def _iter_names(entries: Sequence[ConfigLine]) -> Iterator[str]:
    """Yield the names of the Host lines that are no patterns, also of included files."""
    for entry in entries:
        for part in entry.included:
            yield from _iter_names(part)
        if entry.keyword == "host":
            yield from (word for word in entry.words if _PLAIN_NAME.fullmatch(word))


def _host_matches(name: str, patterns: Sequence[str]) -> bool:
    """Evaluate a Host line. A negated pattern that matches makes the whole line not match."""
    hit = False
    for pattern in patterns:
        if pattern.startswith("!"):
            if _compile_glob(pattern[1:]).fullmatch(name):
                return False
        elif not hit:
            hit = pattern == name or (
                ("*" in pattern or "?" in pattern) and bool(_compile_glob(pattern).fullmatch(name))
            )
    return hit


def _list_matches(subject: str, patterns: str) -> bool:
    return _host_matches(subject, patterns.split(","))


@lru_cache(maxsize=4096)
def _compile_glob(pattern: str) -> re.Pattern[str]:
    """Compile a pattern; ssh supports only ``*`` and ``?``."""
    return re.compile("".join({"*": ".*", "?": "."}.get(letter, re.escape(letter)) for letter in pattern), re.DOTALL)


def render_ssh_g(
    reading: HostConfig, name: str, like: Mapping[str, tuple[str, ...]], user: str
) -> dict[str, tuple[str, ...]]:
    """Return what ``ssh -G`` would print for a host, from ``like``, its output for a host of the same kind."""
    own = reading.own
    values = {keyword: value for keyword, value in like.items() if keyword not in PER_HOST_KEYWORDS | NEVER_USED}
    hostname = own["hostname"][0].replace("%h", name).replace("%%", "%") if "hostname" in own else name
    values["hostname"] = (hostname.lower(),)
    values["user"] = own.get("user", (user,))
    values["port"] = own.get("port", ("22",))
    values["identityfile"] = own.get("identityfile", like.get("identityfile", ()))
    for keyword in ("certificatefile", "hostkeyalias", "controlpath", "proxyjump", "proxycommand"):
        if keyword in own and own[keyword][0].lower() != "none":
            values[keyword] = own[keyword]
    if "host" in like:
        values["host"] = (name,)
    return values
