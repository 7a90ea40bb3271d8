"""ssh agent client with a time-out: list keys and request signatures.

paramiko's own client waits without end for an agent that accepts a connection and then sends nothing.
"""

from __future__ import annotations

import socket
import struct

from fanout.model.frozen import frozen
from fanout.remote.transports.base import Deadline

_FAILURE, _REQUEST_IDENTITIES, _IDENTITIES_ANSWER, _SIGN_REQUEST, _SIGN_RESPONSE = 5, 11, 12, 13, 14
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}
MAX_ANSWER = 1 << 20
LIST_SECONDS = 3.0  # for the list of keys; a signature may need the user, and gets the login's whole time


class AgentError(Exception):
    """The agent gave no usable answer; the text is the reason."""


@frozen
class AgentKey:
    """One public key, or certificate, whose private key the agent has."""

    blob: bytes
    comment: str


class SshAgent:
    """A connection to the agent that listens at a path."""

    def __init__(self, path: str, deadline: Deadline) -> None:
        """Connect. Raises AgentError."""
        self.path = path
        self._deadline = deadline
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.settimeout(min(LIST_SECONDS, deadline.seconds_left))
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise AgentError(f"no ssh agent answers at {path}: {error.strerror or error}") from error

    def close(self) -> None:
        self._sock.close()

    def list_keys(self) -> list[AgentKey]:
        """Return the keys in the agent's order. Raises AgentError."""
        kind, body = self._send_request(bytes([_REQUEST_IDENTITIES]), min(LIST_SECONDS, self._deadline.seconds_left))
        if kind != _IDENTITIES_ANSWER:
            raise AgentError(f"the ssh agent at {self.path} does not list its keys")
        found = []
        try:
            (number,), rest = struct.unpack("!I", body[:4]), body[4:]
            for _ in range(number):
                blob, rest = take_string(rest)
                comment, rest = take_string(rest)
                found.append(AgentKey(blob=blob, comment=comment.decode("utf-8", "replace")))
        except (struct.error, ValueError) as error:
            raise AgentError(f"the ssh agent at {self.path} sent a list that cannot be read") from error
        return found

    def sign_data(self, blob: bytes, data: bytes, algorithm: str) -> bytes:
        """Return the signature of ``data`` by the private key of ``blob``. Raises AgentError."""
        flags = _FLAGS.get(algorithm.partition("-cert-")[0], 0)
        request = bytes([_SIGN_REQUEST]) + put_string(blob) + put_string(data) + struct.pack("!I", flags)
        kind, body = self._send_request(request, self._deadline.seconds_left)
        if kind != _SIGN_RESPONSE:
            raise AgentError(f"the ssh agent at {self.path} refused to sign")
        return take_string(body)[0]

    def _send_request(self, request: bytes, seconds: float) -> tuple[int, bytes]:
        self._sock.settimeout(seconds)
        try:
            self._sock.sendall(put_string(request))
            (length,) = struct.unpack("!I", self._receive_exactly(4))
            if not 0 < length <= MAX_ANSWER:
                raise AgentError(f"the ssh agent at {self.path} sent an answer of {length} bytes")
            answer = self._receive_exactly(length)
        except TimeoutError as error:
            raise AgentError(f"the ssh agent at {self.path} gave no answer within {seconds:.3g} s") from error
        except OSError as error:
            raise AgentError(f"the ssh agent at {self.path}: {error.strerror or error}") from error
        return answer[0], answer[1:]

    def _receive_exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self._sock.recv(length - len(data))
            if not piece:
                raise AgentError(f"the ssh agent at {self.path} closed the connection")
            data += piece
        return data


def put_string(data: bytes) -> bytes:
    """Return ``data`` with its length before it: a string of the ssh protocols (RFC 4251, 5)."""
    return struct.pack("!I", len(data)) + data


def take_string(data: bytes) -> tuple[bytes, bytes]:
    """Split one string off. Raises ValueError."""
    length = int.from_bytes(data[:4], "big")
    if len(data) < 4 + length:
        raise ValueError("the data ends inside a string")
    return data[4 : 4 + length], data[4 + length :]
