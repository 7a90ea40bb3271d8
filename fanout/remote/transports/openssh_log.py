"""Log parser for the ``ssh`` program: how far the login is, and why it failed. Pure.

ssh writes this log to a separate pipe (``-E``), at the level DEBUG1, in English in every locale. The lines that are used
here have had the same text since OpenSSH 7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_LINES = 200  # of those that are not debug messages

_CONNECTING = re.compile(r"Connecting to (\S+) \[([^\]]+)\] port (\d+)")
_HOST_KEY = re.compile(r"Server host key: (\S+) (SHA256:\S+)")
_CAN_CONTINUE = re.compile(r"Authentications that can continue: (\S*)")
_PARTIAL = re.compile(r"[Aa]uthenticated .*with partial success|^Authenticated with partial success")
_OFFERING = re.compile(r"Offering public key: (.+?) (?:\S+ SHA256:\S+)(.*)$")
_READY = (
    "Authenticated to ",
    "Entering interactive session",
    "mux_client_request_session: master session id",
)
_EXIT_STATUS = "rtype exit-status"
_ADDED = "Permanently added "


@dataclass(slots=True)
class SshLog:
    """The state of one connection, from the lines so far."""

    connected: bool = False  # the TCP connection is established
    logged_in: bool = False
    shared: bool = False  # it uses the connection of a ControlMaster
    has_status: bool = False  # the command's own exit status has arrived
    added: bool = False  # the host key was new to ssh
    partial: bool = False  # one method succeeded, and the server wants another
    address: str = ""
    host_key: str = ""
    can_continue: tuple[str, ...] = ()
    offered: list[str] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)  # the lines that are not debug messages
    _rest: str = ""

    def feed_bytes(self, data: bytes) -> None:
        text = self._rest + data.decode("utf-8", "replace").replace("\r", "")
        *lines, self._rest = text.split("\n")
        for line in lines:
            self._parse_line(line)

    def _parse_line(self, line: str) -> None:
        debugging = re.match(r"debug\d: (.*)", line)
        text = debugging[1] if debugging else line.strip()
        if found := _CONNECTING.search(text):
            self.address = found[2]
        elif text.startswith("Connection established"):
            self.connected = True
        elif found := _HOST_KEY.match(text):
            self.host_key = f"{found[1]} {found[2]}"
        elif found := _CAN_CONTINUE.search(text):
            self.can_continue = tuple(found[1].split(","))
        elif found := _OFFERING.match(text):
            self.offered.append(found[1])
        elif _PARTIAL.search(text):
            self.partial = True
        elif text.startswith(_READY):
            self.logged_in = True
            self.shared |= text.startswith("mux_client")
        elif _EXIT_STATUS in text:
            self.has_status = True
        if _ADDED in text:
            self.added = True
        if not debugging and text and not text.startswith(("Authenticated ", "Transferred: ", "Bytes per second: ")):
            self.messages = [*self.messages[-MAX_LINES:], text]

    @property
    def last_message(self) -> str:
        return self.messages[-1] if self.messages else ""
