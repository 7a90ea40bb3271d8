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
import re
import signal
import socket
import struct

from ..spawn import LIBC, PR_SET_PDEATHSIG
from . import overlays
from .files import list_mount_points
from .probe_tools import FactUnavailable, read_or_empty

TYPE_CHECKING = False  # for type checkers only: importing typing on a host takes time
if TYPE_CHECKING:
    from typing import Any, Callable

_NEW_USER, _NEW_MOUNT, _NEW_NET, _NEW_PID, _NEW_IPC = 0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000
_READ_ONLY, _RECURSIVE, _PRIVATE = 1, 16384, 1 << 18
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000  # the same on every architecture; Linux 5.12
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # linux/sockios.h, net/if.h
_NIXOS = "/run/current-system"  # on NixOS the programs are in /run
INSIDE = "/dev/shm/fanout-box"  # the sandbox's own directory, in its own tmpfs


def run_sandboxed(writable: list[str], act: Callable[[], Any], send: Callable[[Any], None]) -> None:
    """Fork the first process of a new sandbox, which calls ``send(act())``; return when it ends.

    ``writable`` are the directories that the script may write to; the first one must be writable. Raises FactUnavailable
    if the sandbox cannot be made.
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
        _run_first_process(writable, act, send, write_end)
    os.close(write_end)
    with open(read_end, "rb") as file:
        reason, _, trouble = file.read().decode("utf-8", "replace").partition("\n")
    os.waitpid(first, 0)
    if trouble:
        raise FactUnavailable(trouble, reason)


def _run_first_process(
    writable: list[str], act: Callable[[], Any], send: Callable[[Any], None], write_end: int
) -> None:
    """Run the first process; report every failure as a line with its reason and a text, and never return."""
    try:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        _set_up_mounts(writable)
        send(act())
    except FactUnavailable as error:
        os.write(write_end, ("%s\n%s" % (error.reason, error)).encode())
    except Exception as error:
        os.write(write_end, ("failed\n%s: %s" % (type(error).__name__, error)).encode())
    finally:
        os._exit(0)


def _set_up_mounts(writable: list[str]) -> None:
    """Make every file system read-only, and cover the directories that the script writes to. Raises FactUnavailable."""
    places = {os.path.realpath(path) for path in (*writable, "/tmp", "/var/tmp") if os.path.isdir(path)} - {"/"}
    outer = sorted(path for path in places if not any(path.startswith(other + "/") for other in places))
    opened = {path: os.open(path, os.O_PATH) for path in outer}
    points = list_mount_points()
    try:
        overlays.mount_at("", "/", flags=_RECURSIVE | _PRIVATE)
        _make_read_only()
        for path in ("/dev/shm",) if os.path.isdir(_NIXOS) else ("/dev/shm", "/run"):  # /run has sockets of services
            overlays.mount_at("tmpfs", path, "tmpfs", overlays.NO_SUID | overlays.NO_DEV, "mode=1777,size=256m")
    except OSError as error:
        raise _explain_refusal(error) from None
    os.makedirs(INSIDE)
    covers = overlays.OverlaySet(INSIDE, points)
    for path, descriptor in opened.items():
        covers.cover_directory(descriptor, path)
        os.close(descriptor)
    if os.statvfs(writable[0]).f_flag & os.ST_RDONLY:
        refused = covers.error or OSError(errno.EROFS, "no overlay of this directory is possible", writable[0])
        raise _explain_refusal(refused)
    _enable_loopback()
    for capability in range(64):
        LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def cover_program(program: str, by: str) -> bool:
    """Mount ``by`` over ``program`` in the sandbox; return whether that succeeded.

    A program outside the sandbox's file systems is left as it is.
    """
    try:
        overlays.mount_over_file(by, os.path.realpath(program))
    except OSError:
        return False
    return True


def _make_read_only() -> None:
    attributes = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    number, where, flags = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD), ctypes.c_uint(_AT_RECURSIVE)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _check_result("mount_setattr", LIBC.syscall(number, where, b"/", flags, ctypes.byref(attributes), size))


def _enable_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh22x", b"lo", 0)
        flags = struct.unpack("16sh22x", fcntl.ioctl(any_socket, _GET_FLAGS, request))[1]
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh22x", b"lo", flags | _UP))


def _check_result(doing: str, result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise _explain_refusal(OSError(number, os.strerror(number), doing))


def _explain_refusal(error: OSError) -> FactUnavailable:
    """Return the reason: the kernel is too old, a setting forbids namespaces, or a directory cannot be covered.

    ``error.filename`` is the system call or the directory that was refused.
    """
    release = os.uname().release
    if error.errno in (errno.ENOSYS, errno.EINVAL) and _read_version(release) < (5, 12):
        return FactUnavailable(
            "this kernel (%s) cannot isolate a rehearsal: Linux 5.12 or later is needed" % release, "no-sandbox"
        )
    doing = str(error.filename or "unshare")
    if doing.startswith("/") and not doing.startswith("/proc/"):
        why = "a rehearsal cannot be isolated here: %s cannot be made writable in memory (%s)" % (doing, error.strerror)
    elif read_or_empty("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").strip() == "1":
        why = "a rehearsal cannot be isolated here: kernel.apparmor_restrict_unprivileged_userns=1"
    else:
        why = "a rehearsal cannot be isolated here: user namespaces are not allowed (%s: %s)" % (doing, error.strerror)
    return FactUnavailable(why, "no-sandbox")


def _read_version(release: str) -> tuple[int, ...]:
    """Return the first two numbers of a kernel's release."""
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])
