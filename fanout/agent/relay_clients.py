"""Relay clients: the relays connected to one keeper, the messages sent to them, and the requests they send.

A relay that does not read its few control frames is dead or stuck. The keeper closes its connection, and its launcher
reconnects.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from . import frames

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Iterable


class RelayClients:
    """The relays that are connected to the keeper's socket."""

    def __init__(self, listener: socket.socket, poll: select.poll) -> None:
        self.listener = listener
        self.poll = poll
        self.clients: dict = {}
        self.claim_sockets: dict = {}  # the sockets of claims, and the answer to each connection to them
        self.claim_answer = b""
        self.sizes: dict = {}  # the newest sizes by stream, which every relay must receive
        poll.register(listener, select.POLLIN)

    def handle_event(self, descriptor: int, events: int, state: Iterable) -> list:
        """Return the requests on this descriptor; [] if it is not one of ours. Send ``state`` to a new relay."""
        if descriptor == self.listener.fileno():
            self._accept(state)
        elif descriptor in self.claim_sockets:
            self._answer_connection(descriptor)
        elif descriptor in self.clients:
            if events & select.POLLOUT:
                self._send_sizes(descriptor)
            if events & ~select.POLLOUT and descriptor in self.clients:
                return self._receive(descriptor)
        return []

    def watch_claim_sockets(self, listeners: Iterable, answer: bytes) -> None:
        """Send ``answer`` to every connection to these sockets and close it. Agents of other users connect."""
        self.claim_answer = answer
        for listener in listeners:
            self.claim_sockets[listener.fileno()] = listener
            self.poll.register(listener, select.POLLIN)

    def _answer_connection(self, descriptor: int) -> None:
        try:
            client = self.claim_sockets[descriptor].accept()[0]
            with client:
                client.setblocking(False)
                client.send(self.claim_answer, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # the client has already disconnected

    def close_claim_sockets(self) -> None:
        """Close these sockets, because the claims are released or passed on."""
        for descriptor, listener in self.claim_sockets.items():
            self.poll.unregister(descriptor)
            listener.close()
        self.claim_sockets = {}

    def send_to_all(self, *messages: dict, without: int = -1) -> None:
        """Send messages to all relays but the one on the descriptor ``without``."""
        for message in messages:
            for descriptor, (client, _, _) in list(self.clients.items()):
                if descriptor != without:
                    self._send(client, message)

    def offer_sizes(self, sizes: dict) -> None:
        """Send the newest sizes to each relay as soon as its socket can be written.

        If a launcher is slow or suspended, its relay blocks in a write. Sizes sent regardless would fill the socket
        within seconds of a flood. The keeper would then close the connection, which the relay takes for the keeper's
        death.
        """
        if sizes != self.sizes:
            self.sizes = sizes
            for descriptor in self.clients:
                self.poll.modify(descriptor, select.POLLIN | select.POLLOUT)

    def _accept(self, state: Iterable) -> None:
        client, _ = self.listener.accept()
        uid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (os.getuid(), 0):
            client.close()
            return
        client.setblocking(False)
        self.clients[client.fileno()] = (client, frames.FrameSplitter(), {})
        self.poll.register(client, select.POLLIN | select.POLLOUT)
        for message in state:
            self._send(client, message)

    def _receive(self, descriptor: int) -> list:
        client, splitter, _ = self.clients[descriptor]
        try:
            data = client.recv(65536)
            messages = splitter.feed(data) if data else None
        except BlockingIOError:
            return []
        except (OSError, frames.BadFrame):
            messages = None
        if messages is None:
            self.disconnect(descriptor)
            return []
        return list(messages)

    def _send(self, client: socket.socket, message: dict) -> None:
        data = frames.pack_control(message)
        try:
            sent = client.send(data)
        except OSError:
            sent = 0
        if sent != len(data) and client.fileno() in self.clients:
            self.disconnect(client.fileno())

    def _send_sizes(self, descriptor: int) -> None:
        """Send the sizes that changed since this relay last received them."""
        client, _, sent_sizes = self.clients[descriptor]
        self.poll.modify(descriptor, select.POLLIN)
        for number, size in self.sizes.items():
            if size != sent_sizes.get(number, 0):
                sent_sizes[number] = size
                self._send(client, {"t": "size", "stream": number, "size": size})

    def disconnect(self, descriptor: int) -> None:
        """Close one relay's connection."""
        if descriptor not in self.clients:
            return
        client, _, _ = self.clients.pop(descriptor)
        self.poll.unregister(descriptor)
        client.close()
