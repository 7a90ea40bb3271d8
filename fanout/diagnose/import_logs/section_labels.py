"""Section labels: a line names the host of all lines below it, up to the next such line. No I/O.

``clush -b`` and ``dshbak`` write the host between two lines of dashes. ansible, pssh and ``tail FILE FILE`` write one line.
"""

from __future__ import annotations

import re

from fanout.diagnose.import_logs.log_files import identify_files

_RULE = re.compile(r"^-{4,}\s*$")
_HEADERS = (
    re.compile(r"^==> (?P<path>\S{1,1024}) <==\s*$"),  # tail, head
    re.compile(
        r"^(?P<host>[\w.-]{1,253}) \| (?:CHANGED|SUCCESS|FAILED|UNREACHABLE)!? (?:\| rc=-?\d{1,4} (?:\(std(?:out|err)\) )?>>|=> \{)"
    ),  # ansible
    re.compile(
        r"^\[\d{1,6}\] [\d:]{8} \[(?:SUCCESS|FAILURE)\] (?:\w{1,64}@)?(?P<host>[\w.-]{1,253})(?=\s|$)"
    ),  # pssh -i
)


def has_sections(first: str, third: str) -> bool:
    """Return whether a file that has these lines consists of sections."""
    return _read_header(first) is not None or bool(_RULE.match(first) and _RULE.match(third))


def _read_header(line: str) -> str | None:
    """Return the host of a line that begins a section; None for any other line."""
    found = next((found for pattern in _HEADERS if (found := pattern.match(line))), None)
    if found is None:
        return None
    path = found.groupdict().get("path")
    return identify_files([path])[0].host if path else found["host"]


class SectionSplitter:
    """Splitter of a file of sections."""

    def __init__(self) -> None:
        self._host = ""
        self._name: str | None = None  # between two lines of dashes: the text so far
        self._of_rules = False

    def __call__(self, line: str) -> tuple[str, str]:
        if not self._of_rules and (host := _read_header(line)) is not None:
            self._host = host
            return host, ""
        if _RULE.match(line):
            self._of_rules = self._of_rules or not self._host
            if self._name:  # the lower rule
                self._host, self._name = self._name, None
            elif self._of_rules:
                self._name = ""
            return self._host, "" if self._of_rules else line
        if self._name == "" and line.strip() and " " not in line.strip():
            self._name = line.strip().partition(" ")[0]
            return self._host, ""
        self._name = None
        return self._host, line
