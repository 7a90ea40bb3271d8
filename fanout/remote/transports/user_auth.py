"""Public-key authentication over paramiko, as by ssh: offer each key first, and sign only if the host accepts it.

paramiko's own client signs without asking, so a hardware key would need a touch for every host that does not accept it.
It also supports no certificates of an agent, and treats a required second factor as a failed login.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from paramiko import Message
from paramiko.auth_handler import AuthHandler
from paramiko.common import (
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_BANNER,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_SUCCESS,
    cMSG_SERVICE_REQUEST,
    cMSG_USERAUTH_REQUEST,
)

from fanout.model.frozen import frozen
from fanout.remote.transports.base import Deadline

MSG_USERAUTH_PK_OK = 60
RSA_ALGORITHMS = ("rsa-sha2-512", "rsa-sha2-256")


class HostDisconnected(Exception):
    """The host closed the connection; the text is its reason, "" if it gave none."""


@frozen
class AuthResult:
    """The host's answer to one attempt; ``methods`` are those that it accepts next."""

    success: bool = False
    partial: bool = False
    methods: tuple[str, ...] = ()


class UserAuth(AuthHandler):
    """The authentication exchange of one login; the calling thread waits for each answer."""

    def __init__(self, transport: Any, user: str, deadline: Deadline) -> None:
        super().__init__(transport)
        self._transport = transport  # Any: its private attributes are not in paramiko's types
        self._user = self.username = user
        self._deadline = deadline
        self._answered = threading.Event()
        self._answer: tuple[int, Message] | None = None
        transport.auth_handler = self

    def request_service(self) -> None:
        """Request the authentication service. Raises HostDisconnected, TimeoutError."""
        self._send_and_wait(_build_message(cMSG_SERVICE_REQUEST, "ssh-userauth"))

    def try_none(self) -> AuthResult:
        """Try the method "none": most hosts answer with the methods that they accept."""
        kind, message = self._send_and_wait(self._auth_request("none"))
        return self._parse_result(kind, message)

    def try_key(self, blob: bytes, algorithm: str, sign: Callable[[bytes], bytes]) -> AuthResult:
        """Offer a public key, and sign if the host accepts it. Raises HostDisconnected, TimeoutError, and errors of ``sign``."""
        kind, message = self._send_and_wait(self._publickey(blob, algorithm, signed=False))
        if kind != MSG_USERAUTH_PK_OK:
            return self._parse_result(kind, message)
        request = self._publickey(blob, algorithm, signed=True)
        session = Message()
        session.add_string(self._transport.session_id)
        request.add_string(sign(session.asbytes() + request.asbytes()))
        kind, message = self._send_and_wait(request)
        return self._parse_result(kind, message)

    def algorithm_for(self, kind: str, accepted: tuple[str, ...]) -> str:
        """Return the signature algorithm for a key type (RSA has several), "" if host or configuration allow none."""
        names = (
            tuple(kind.replace("ssh-rsa", name) for name in RSA_ALGORITHMS) if kind.startswith("ssh-rsa") else (kind,)
        )
        extension = self._transport.server_extensions.get("server-sig-algs", b"")
        theirs = extension.decode("ascii", "replace") if isinstance(extension, bytes) else str(extension)
        known = theirs.split(",") if theirs else []
        for name in names:
            of_host = not known or name in known or name.partition("-cert-")[0] in known
            if of_host and (not accepted or name in accepted):
                return name
        return ""

    def _auth_request(self, method: str) -> Message:
        return _build_message(cMSG_USERAUTH_REQUEST, self._user, "ssh-connection", method)

    def _publickey(self, blob: bytes, algorithm: str, *, signed: bool) -> Message:
        message = self._auth_request("publickey")
        message.add_boolean(signed)
        message.add_string(algorithm)
        message.add_string(blob)
        return message

    def _send_and_wait(self, message: Message) -> tuple[int, Message]:
        self._answer = None
        self._answered.clear()
        if not self._transport.is_active():
            raise HostDisconnected(getattr(self._transport, "disconnect_text", ""))
        self._transport._send_message(message)
        if not self._answered.wait(self._deadline.seconds_left):
            raise TimeoutError("the host does not answer")
        if self._answer is None:
            raise HostDisconnected(getattr(self._transport, "disconnect_text", ""))
        return self._answer

    def _parse_result(self, kind: int, message: Message) -> AuthResult:
        if kind == MSG_USERAUTH_SUCCESS:
            return AuthResult(success=True)
        if kind != MSG_USERAUTH_FAILURE:
            raise HostDisconnected(f"message {kind} is no answer to a login")
        methods = tuple(message.get_text().split(","))
        return AuthResult(partial=message.get_boolean(), methods=methods)

    # -- called by paramiko's thread

    @property
    def _client_handler_table(self) -> dict[int, Callable[[Message], None]]:
        kinds = (MSG_SERVICE_ACCEPT, MSG_USERAUTH_FAILURE, MSG_USERAUTH_PK_OK)
        return {
            **{kind: self._record_answer(kind) for kind in kinds},
            MSG_USERAUTH_SUCCESS: self._record_success,
            MSG_USERAUTH_BANNER: lambda message: None,
        }

    def _record_answer(self, kind: int) -> Callable[[Message], None]:
        def handle_packet(message: Message) -> None:
            self._answer = (kind, message)
            self._answered.set()

        return handle_packet

    def _record_success(self, message: Message) -> None:
        self.authenticated = True
        self._transport._auth_trigger()
        self._record_answer(MSG_USERAUTH_SUCCESS)(message)

    def abort(self) -> None:
        """Wake the waiting thread: the connection has ended."""
        self._answered.set()


def _build_message(kind: bytes, *words: str) -> Message:
    message = Message()
    message.add_byte(kind)
    for word in words:
        message.add_string(word)
    return message
