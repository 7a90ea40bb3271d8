"""The relays that listen to one keeper: what each is told, and what each asks for.

A relay that does not read its few control frames is gone or wedged, and is cut; its launcher dials again.
"""

from __future__ import annotations

import os
import select
import socket
import struct

from . import frames

TYPE_CHECKING = False  # what typing says, without the price of importing it on a host
if TYPE_CHECKING:
    from typing import Iterable


class Audience:
    """Everyone who is connected to the keeper's socket now."""

    def __init__(self, listener: socket.socket, poll: select.poll) -> None:
        self.listener = listener
        self.poll = poll
        self.clients: dict = {}
        self.bells: dict = {}  # sockets that others only look at: what connects to them is hung up on
        self.sizes: dict = {}  # the newest sizes, by stream, that everyone is to be told
        poll.register(listener, select.POLLIN)

    def ready(self, descriptor: int, events: int, story: Iterable) -> list:
        """What this descriptor's relay asks for; [] where it is none of ours. A new relay is told the story so far."""
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
        """Keep room in these sockets: a user who asks the kernel whose they are connects to them."""
        for listener in listeners:
            self.bells[listener.fileno()] = listener
            self.poll.register(listener, select.POLLIN)

    def _hang_up(self, descriptor: int) -> None:
        try:
            self.bells[descriptor].accept()[0].close()
        except OSError:
            pass  # it has hung up already

    def silence(self) -> None:
        """Close these sockets: the claims are given back."""
        for descriptor, listener in self.bells.items():
            self.poll.unregister(descriptor)
            listener.close()
        self.bells = {}

    def tell(self, message: dict) -> None:
        """The same to everyone."""
        for client, _, _ in list(self.clients.values()):
            self._tell(client, message)

    def offer(self, sizes: dict) -> None:
        """Each relay hears the newest sizes once its socket has room again.

        A launcher that is slow or suspended holds its relay up in a write; sizes sent all the same would fill the
        socket within seconds of a flood, and the relay would be cut, which it takes for the keeper's death.
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
        """The sizes that have changed since this relay was told."""
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
