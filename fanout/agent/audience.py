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


class Audience:
    """The relays that are connected to the keeper's socket."""

    def __init__(self, listener: socket.socket, poll: select.poll) -> None:
        self.listener = listener
        self.poll = poll
        self.clients: dict = {}
        self.bells: dict = {}  # claim sockets: every connection to them is closed at once
        self.sizes: dict = {}  # the newest sizes by stream, which every relay must receive
        poll.register(listener, select.POLLIN)

    def ready(self, descriptor: int, events: int, story: Iterable) -> list:
        """Return the requests on this descriptor; [] if it is not one of ours. Send ``story`` to a new relay."""
        if descriptor == self.listener.fileno():
            self._accept(story)
        elif descriptor in self.bells:
            self._hang_up(descriptor)
        elif descriptor in self.clients:
            if events & select.POLLOUT:
                self._tell_sizes(descriptor)
            if events & ~select.POLLOUT and descriptor in self.clients:
                return self._hear(descriptor)
        return []

    def hang_up_on(self, listeners: list) -> None:
        """Accept and close every connection to these sockets, so that their queues never fill up.

        Another user's agent connects to such a socket to ask the kernel for its owner.
        """
        for listener in listeners:
            self.bells[listener.fileno()] = listener
            self.poll.register(listener, select.POLLIN)

    def _hang_up(self, descriptor: int) -> None:
        try:
            self.bells[descriptor].accept()[0].close()
        except OSError:
            pass  # the client has already disconnected

    def silence(self) -> None:
        """Close these sockets, because the claims are released."""
        for descriptor, listener in self.bells.items():
            self.poll.unregister(descriptor)
            listener.close()
        self.bells = {}

    def tell(self, message: dict) -> None:
        """Send a message to all relays."""
        for client, _, _ in list(self.clients.values()):
            self._tell(client, message)

    def offer(self, sizes: dict) -> None:
        """Send the newest sizes to each relay as soon as its socket can be written.

        If a launcher is slow or suspended, its relay blocks in a write. Sizes sent regardless would fill the socket
        within seconds of a flood. The keeper would then close the connection, which the relay takes for the keeper's
        death.
        """
        if sizes != self.sizes:
            self.sizes = sizes
            for descriptor in self.clients:
                self.poll.modify(descriptor, select.POLLIN | select.POLLOUT)

    def _accept(self, story: Iterable) -> None:
        client, _ = self.listener.accept()
        uid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (os.getuid(), 0):
            client.close()
            return
        client.setblocking(False)
        self.clients[client.fileno()] = (client, frames.Splitter(), {})
        self.poll.register(client, select.POLLIN | select.POLLOUT)
        for message in story:
            self._tell(client, message)

    def _hear(self, descriptor: int) -> list:
        client, splitter, _ = self.clients[descriptor]
        try:
            data = client.recv(65536)
            messages = splitter.feed(data) if data else None
        except BlockingIOError:
            return []
        except (OSError, frames.BadFrame):
            messages = None
        if messages is None:
            self.drop(descriptor)
            return []
        return list(messages)

    def _tell(self, client: socket.socket, message: dict) -> None:
        data = frames.pack(message)
        try:
            sent = client.send(data)
        except OSError:
            sent = 0
        if sent != len(data) and client.fileno() in self.clients:
            self.drop(client.fileno())

    def _tell_sizes(self, descriptor: int) -> None:
        """Send the sizes that changed since this relay last received them."""
        client, _, told = self.clients[descriptor]
        self.poll.modify(descriptor, select.POLLIN)
        for number, size in self.sizes.items():
            if size != told.get(number, 0):
                told[number] = size
                self._tell(client, {"t": "size", "stream": number, "size": size})

    def drop(self, descriptor: int) -> None:
        """Close one relay's connection."""
        if descriptor not in self.clients:
            return
        client, _, _ = self.clients.pop(descriptor)
        self.poll.unregister(descriptor)
        client.close()
