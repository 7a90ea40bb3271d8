"""TCP test: one host listens as torch's store will, the other hosts connect with a secret, and each outcome is
classified.

Both ends have a key that came over ssh. The connecting host sends a fresh challenge; the listener answers with its
HMAC. So a connecting host knows that it reached this listener and not another host, a proxy or an old server. The
connecting host closes first, which leaves TIME_WAIT on its side and the port free.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import pwd
import socket
import struct
import threading
import time

from ..processes import list_pids, read_mark, read_stat
from ..rendezvous import list_sockets
from .host import read_age
from .probe_tools import read_or_empty, read_start
from .runs import is_kept

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Iterator

_HELLO = b"FANOUT1"
_BLOCK = b"\0" * (1 << 16)  # one block that must arrive within the timeout
_SINK = bytearray(1 << 16)  # shared by all threads for bytes that are ignored: new memory for each piece costs more


# -- listening


def ask_listen(args: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Bind ``port`` (0: any), yield the answer, then serve clients that know ``key`` for ``seconds``."""
    port = int(args.get("port", 0))
    try:
        server = open_listener(port)
    except OSError as error:
        yield {
            "error": errno.errorcode.get(error.errno or 0, "error"),
            "text": error.strerror or str(error),
            "holder": find_owner(port),
            "free": _find_free_port(port) if error.errno == errno.EADDRINUSE else 0,
        }
        return
    with server:
        yield {"port": server.getsockname()[1]}
        _serve_clients(server, bytes.fromhex(args["key"]), time.monotonic() + float(args.get("seconds", 30)))


def _find_free_port(port: int) -> int:
    """Return the next port that can be bound; 0 if the next hundred are all in use."""
    for other in range(port + 1, min(port + 100, 65536)):
        try:
            open_listener(other).close()
            return other
        except OSError:
            continue
    return 0


def open_listener(port: int) -> socket.socket:
    """Return a listening socket made as TCPStore makes it: the IPv6 wildcard for both families, else IPv4's."""
    try:
        server = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    except OSError:
        return _bind_and_listen(socket.socket(socket.AF_INET, socket.SOCK_STREAM), "0.0.0.0", port)
    try:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        return _bind_and_listen(server, "::", port)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise
        return _bind_and_listen(socket.socket(socket.AF_INET, socket.SOCK_STREAM), "0.0.0.0", port)


def _bind_and_listen(server: socket.socket, address: str, port: int) -> socket.socket:
    try:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen(512)
    except OSError:
        server.close()
        raise
    return server


def _serve_clients(server: socket.socket, key: bytes, deadline: float) -> None:
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return
        server.settimeout(left)
        try:
            peer, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_serve_client, args=(peer, key), daemon=True).start()


def _serve_client(peer: socket.socket, key: bytes) -> None:
    """Serve one exchange: ``FANOUT1 challenge bytes`` -> ``FANOUT1 mac``, the bytes both ways, then ``done``."""
    with peer:
        try:
            peer.settimeout(10)
            words = _read_line(peer).split()
            if len(words) != 3 or words[0] != _HELLO:
                return
            size = min(int(words[2]), 1 << 24)
            peer.sendall(_HELLO + b" " + _compute_mac(key, words[1]) + b"\n")
            if size:
                _send_bytes(peer, size)
                _receive_bytes(peer, size)
                peer.sendall(b"done\n")
            peer.recv(1)  # the connecting host closes first
        except (OSError, ValueError):
            return


# -- connecting


def ask_dial(args: dict[str, Any]) -> dict[str, Any]:
    """Connect to all targets at once: ``{"targets": [{"addr", "port", "key"}], "timeout": 3, "bytes": 0}``."""
    targets = args["targets"]
    results: list[dict[str, Any]] = [{} for _ in targets]
    seconds, size = float(args.get("timeout", 3.0)), int(args.get("bytes", 0))

    def one(index: int) -> None:
        results[index] = connect_to(targets[index], seconds, size)

    threads = [threading.Thread(target=one, args=(index,), daemon=True) for index in range(len(targets))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"results": results}


def connect_to(target: dict[str, Any], seconds: float, size: int) -> dict[str, Any]:
    """Connect to one target; return ``outcome`` and its circumstances."""
    began = time.monotonic()
    try:
        found = socket.getaddrinfo(target["addr"], int(target["port"]), type=socket.SOCK_STREAM)
    except OSError as error:
        return {"outcome": "unresolvable", "text": error.strerror or str(error), "seconds": _elapsed_since(began)}
    resolved = time.monotonic() - began
    result: dict[str, Any] = {}
    for family, kind, protocol, _, address in found[:4]:
        began = time.monotonic()
        result = _try_connect(socket.socket(family, kind, protocol), address, target["key"], seconds, size)
        result.update(seconds=_elapsed_since(began), peer=str(address[0]), resolve=round(resolved, 4))
        if result["outcome"] == "ok":
            break
    return result


def _try_connect(link: socket.socket, address: Any, key: str, seconds: float, size: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    with link:
        link.settimeout(seconds)
        began = time.monotonic()
        try:
            link.connect(address)
        except OSError as error:
            return dict(_classify_error(error), **_read_source(link))
        result.update(_read_source(link))
        result["connect"] = _elapsed_since(began)
        challenge = os.urandom(16).hex().encode()
        try:
            link.sendall(b"%s %s %d\n" % (_HELLO, challenge, size))
            got = _read_line(link)
        except OSError as error:
            return dict(result, outcome="silent", text=error.strerror or str(error))
        result["outcome"] = _judge_answer(got, _compute_mac(bytes.fromhex(key), challenge))
        if result["outcome"] != "ok":
            return dict(result, first=_to_printable(got))
        if size:
            began = time.monotonic()
            try:
                _receive_bytes(link, size)
                _send_bytes(link, size)
                _read_line(link)
                result["bulk"] = _elapsed_since(began)
                result.update(_read_retransmits(link))
            except OSError as error:
                return dict(result, outcome="stalled", text=error.strerror or str(error))
    return result


def _read_source(link: socket.socket) -> dict[str, Any]:
    """Return the address from which this host connects; nothing if the kernel chose none."""
    address = str(link.getsockname()[0])
    return {} if address in ("0.0.0.0", "::") else {"source": address}


def _read_retransmits(link: socket.socket) -> dict[str, Any]:
    """Return the segments that this end sent, and how many it retransmitted (``struct tcp_info`` of linux/tcp.h).

    The counters only grow. Kernels before 4.2 count no segments. Since 4.19 they count what the peer received twice
    (``tcpi_dsack_dups``): such a retransmission replaced no lost segment, because a busy host was only late to answer.
    """
    tcp_info = link.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    if len(tcp_info) < 140:
        return {}
    resent, sent = struct.unpack_from("=I", tcp_info, 100)[0], struct.unpack_from("=I", tcp_info, 136)[0]
    needless = struct.unpack_from("=I", tcp_info, 216)[0] if len(tcp_info) >= 220 else 0
    return {"resent": max(0, resent - needless), "sent": sent}


def _classify_error(error: OSError) -> dict[str, Any]:
    """Classify a failed connect: each kind has another cause and another fix."""
    if isinstance(error, socket.timeout) or error.errno == errno.ETIMEDOUT:
        return {"outcome": "dropped", "text": "no answer"}
    kinds = {
        errno.ECONNREFUSED: "refused",
        errno.EHOSTUNREACH: "rejected",
        errno.EACCES: "rejected",
        errno.EPERM: "rejected",
        errno.ENETUNREACH: "no-route",
        errno.EADDRNOTAVAIL: "no-route",
    }
    name = errno.errorcode.get(error.errno or 0, "")
    return {"outcome": kinds.get(error.errno or 0, "error"), "errno": name, "text": error.strerror or str(error)}


def _judge_answer(got: bytes, expected: bytes) -> str:
    if not got:
        return "silent"
    words = got.split()
    if len(words) == 2 and words[0] == _HELLO:
        return "ok" if hmac.compare_digest(words[1], expected) else "impostor"
    return "stranger"


def _to_printable(got: bytes) -> str:
    """Return the first bytes of the peer's answer, printable on a terminal."""
    text = got[:60].decode("utf-8", "replace").rstrip("\r\n")
    return "".join(letter if letter.isprintable() else "." for letter in text)


def _compute_mac(key: bytes, challenge: bytes) -> bytes:
    return hmac.new(key, challenge, hashlib.sha256).hexdigest().encode()


def _read_line(link: socket.socket) -> bytes:
    """Read up to the newline or 200 bytes, with a peek first, so that the bulk data stays in the socket."""
    got = b""
    while not got.endswith(b"\n") and len(got) < 200:
        seen = link.recv(200 - len(got), socket.MSG_PEEK)
        if not seen:
            break
        got += link.recv(seen.find(b"\n") + 1 or len(seen))
    return got


def _send_bytes(link: socket.socket, size: int) -> None:
    while size > 0:
        link.sendall(_BLOCK[:size])
        size -= len(_BLOCK)


def _receive_bytes(link: socket.socket, size: int) -> None:
    while size > 0:
        got = link.recv_into(_SINK, min(size, len(_SINK)))
        if not got:
            raise OSError(errno.ECONNRESET, "closed before all bytes arrived")
        size -= got


def _elapsed_since(began: float) -> float:
    return round(time.monotonic() - began, 4)


# -- the port's owner


def find_owner(port: int) -> dict[str, Any]:
    """Return the owner of ``port``: the user always, the process if it is ours (or this user is root)."""
    for family in ("tcp", "tcp6"):
        for line in _read_table(family).splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) != port or fields[3] not in ("0A", "01"):
                continue
            uid, inode = int(fields[7]), fields[9]
            about: dict[str, Any] = {"uid": uid, "user": _find_user(uid), "listening": fields[3] == "0A"}
            pid = _find_owner_pid(inode)
            if pid is not None:
                command = read_or_empty("/proc/%d/cmdline" % pid).replace("\0", " ").strip()
                about.update(
                    pid=pid, command=command[:160], age=read_age(pid), run=read_mark(pid)[0], kept=is_kept(pid)
                )
            return about
    return {}


def _read_table(family: str) -> str:
    """Return the kernel's socket table, which may be long on a busy host."""
    try:
        return read_start("/proc/net/" + family, 1 << 24)
    except OSError:
        return ""


def _find_user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _find_owner_pid(inode: str) -> int | None:
    """Return the pid that began first of those that have the socket: a child that inherited it is not the owner.

    A child's pid may be smaller, because pids start again after ``kernel.pid_max``.
    """
    owners = [(read_stat(pid), pid) for pid in list_pids() if "socket:[%s]" % inode in list_sockets(pid)]
    return min(((seen[3], pid) for seen, pid in owners if seen), default=(0, None))[1]
