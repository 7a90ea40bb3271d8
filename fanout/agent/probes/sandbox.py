"""Sandbox for a user's script: it sees the host as it is, and nothing that it does there remains.

The sandbox consists of unprivileged namespaces. Every file system is read-only; an overlay in memory covers the
directories that a script writes to. There is no network and no service. When the sandbox's first process ends, the
kernel kills all others. If the kernel does not allow that, FactUnavailable contains the reason: no script runs outside a
sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import signal
import socket
import struct

from ..spawn import LIBC, PR_SET_PDEATHSIG
from .probe_tools import FactUnavailable, read_or_empty, read_start

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

_NEW_USER, _NEW_MOUNT, _NEW_NET, _NEW_PID, _NEW_IPC = 0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000
_READ_ONLY, _NO_SUID, _NO_DEV, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 4096, 16384, 1 << 18
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # the same on every architecture; Linux 5.12
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # linux/sockios.h, net/if.h
_NIXOS = "/run/current-system"  # on NixOS the programs are in /run
INSIDE = "/dev/shm/fanout-box"  # the sandbox's own directory, in its own tmpfs


def run_sandboxed(layered: list[str], act: Callable[[], Any], send: Callable[[Any], None]) -> None:
    """Fork the first process of a new sandbox, which calls ``send(act())``; return when it ends.

    ``layered`` are the writable directories; the first one must be writable. Raises FactUnavailable if the sandbox cannot be
    made.
    """
    uid, gid = os.getuid(), os.getgid()
    _check_result("unshare", LIBC.unshare(_NEW_USER | _NEW_MOUNT | _NEW_NET | _NEW_PID | _NEW_IPC))
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", "%d %d 1" % (uid, uid)),
            ("gid_map", "%d %d 1" % (gid, gid)),
        ):
            with open("/proc/self/" + name, "w") as file:
                file.write(text)
    except OSError as error:
        raise _explain_refusal(error) from None
    read_end, write_end = os.pipe()
    first = os.fork()
    if first == 0:
        os.close(read_end)
        _run_first_process(layered, act, send, write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        reason, _, trouble = file.read().decode("utf-8", "replace").partition("\n")
    os.waitpid(first, 0)
    if trouble:
        raise FactUnavailable(trouble, reason)


def _run_first_process(layered: list[str], act: Callable[[], Any], send: Callable[[Any], None], write_end: int) -> None:
    """Run the first process; report every failure as a line with its reason and a text, and never return."""
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _set_up_mounts(layered)
        send(act())
    except FactUnavailable as error:
        os.write(write_end, ("%s\n%s" % (error.reason, error)).encode())
    except Exception as error:
        os.write(write_end, ("failed\n%s: %s" % (type(error).__name__, error)).encode())
    finally:
        os._exit(0)


def _set_up_mounts(layered: list[str]) -> None:
    places = [os.path.realpath(path) for path in (*layered, "/tmp", "/var/tmp") if os.path.isdir(path)]
    mounts = [point for point in _list_mount_points() if any(point.startswith(place + "/") for place in places)]
    opened = {path: os.open(path, os.O_PATH) for path in places + mounts if os.path.isdir(path)}
    _mount_at("", "/", flags=_RECURSIVE | _PRIVATE)
    _make_read_only()
    for path in ("/dev/shm",) if os.path.isdir(_NIXOS) else ("/dev/shm", "/run"):  # /run has sockets of services
        _mount_at("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEV, "mode=1777,size=256m")
    os.makedirs(INSIDE)
    for number, path in enumerate(sorted(opened, key=len)):
        if path in places:
            _mount_overlay(opened[path], path, number, must=path == places[0])
        else:
            _bind_former(opened[path], path)
    for descriptor in opened.values():
        os.close(descriptor)
    _enable_loopback()
    for capability in range(64):
        LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _mount_overlay(lower: int, path: str, number: int, must: bool) -> None:
    """Mount ``path`` again under an overlay in memory that takes the writes."""
    upper, work = INSIDE + "/%d-new" % number, INSIDE + "/%d-work" % number
    os.makedirs(upper)
    os.makedirs(work)
    os.chmod(upper, os.fstat(lower).st_mode & 0o7777)
    os.makedirs(path, exist_ok=True)
    try:
        _mount_at(
            "box",
            path,
            "overlay",
            0,
            "lowerdir=/proc/self/fd/%d,upperdir=%s,workdir=%s,userxattr" % (lower, upper, work),
        )
    except FactUnavailable:
        if must:
            raise
        _bind_former(lower, path)


def _bind_former(descriptor: int, path: str) -> None:
    """Mount the former content of ``path`` read-only; if that fails, it is absent in the sandbox."""
    try:
        os.makedirs(path, exist_ok=True)
        _mount_at("/proc/self/fd/%d" % descriptor, path, flags=_BIND | _RECURSIVE)
    except (FactUnavailable, OSError):
        pass


def cover_program(program: str, by: str) -> None:
    """Mount ``by`` over ``program`` in the sandbox. A program outside the sandbox's file systems is left as it is."""
    try:
        _mount_at(by, os.path.realpath(program), flags=_BIND)
    except FactUnavailable:
        pass


def _list_mount_points() -> list[str]:
    lines = read_start("/proc/self/mountinfo", 1 << 20).splitlines()
    return [line.split()[4].replace("\\040", " ") for line in lines]


def _make_read_only() -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    number, where, flags = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), ctypes.c_uint(_AT_RECURSIVE)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _check_result("mount_setattr", LIBC.syscall(number, where, b"/", flags, ctypes.byref(attributes), size))


def _mount_at(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [text.encode() if text else None for text in (source, target, kind)]
    _check_result("mount", LIBC.mount(*texts, ctypes.c_ulong(flags), data.encode() or None))


def _enable_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


def _check_result(doing: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise _explain_refusal(OSError(number, os.strerror(number)), doing)


def _explain_refusal(error: OSError, doing: str = "uid_map") -> FactUnavailable:
    """Return the reason: the kernel is too old, or a setting forbids this user to create namespaces."""
    if error.errno in (errno.ENOSYS, errno.EINVAL):
        return FactUnavailable(
            "this kernel (%s) cannot isolate a rehearsal: Linux 5.12 or later is needed" % os.uname().release,
            "no-sandbox",
        )
    if read_or_empty("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        return FactUnavailable(
            "a rehearsal cannot be isolated here: kernel.apparmor_restrict_unprivileged_userns=1", "no-sandbox"
        )
    return FactUnavailable(
        "a rehearsal cannot be isolated here: user namespaces are not allowed (%s: %s)" % (doing, error.strerror),
        "no-sandbox",
    )
