"""First process of a lab machine: make the machine, run sshd, reap, and exit when the control socket closes.

Run as ``python -I -S init.py CONTROL_FD`` by a process that made a new pid namespace for its next child. One JSON line on
the socket specifies the machine; after it come one-word orders, each answered by one line (``done`` or ``error: …``).
When the socket closes this process exits, and the kernel ends everything else in the namespace: a crashed test run
leaves no machine behind.
"""

from __future__ import annotations

import ctypes
import fnmatch
import json
import os
import select
import signal
import socket
import subprocess
import sys
from typing import Any

LAB_DIR = "/run/lab"
SSHD_CONFIG = f"{LAB_DIR}/sshd_config"
PROGRAM_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")

_NEW_MOUNT, _NEW_UTS, _NEW_IPC, _NEW_NET = 0x00020000, 0x04000000, 0x08000000, 0x40000000
_READ_ONLY, _NO_SUID, _NO_DEV, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE = 442, -100, 0x8000

_libc = ctypes.CDLL(None, use_errno=True)


def _check_result(result: int, doing: str) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")


def mount_filesystem(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    texts = [text.encode() if text else None for text in (source, target, kind)]
    _check_result(
        _libc.mount(*texts, ctypes.c_ulong(flags), data.encode() or None), f"mount {source or kind} on {target}"
    )


def bind_directory(source: str, target: str, *, writable: bool) -> None:
    mount_filesystem(source, target, flags=_BIND | _RECURSIVE)
    mount_filesystem("", target, flags=_REMOUNT | _BIND | (0 if writable else _READ_ONLY))


def write_file(path: str, text: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, mode)
    os.chown(path, *owner)


def own_namespaces() -> None:
    """Leave every namespace of the machine below; its files stay in sight, read-only, so that no test can harm them."""
    _check_result(_libc.unshare(_NEW_MOUNT | _NEW_UTS | _NEW_IPC | _NEW_NET), "unshare")
    mount_filesystem("", "/", flags=_RECURSIVE | _PRIVATE)
    read_only = (ctypes.c_uint64 * 4)(_READ_ONLY, 0, 0, 0)
    number, where = ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(_AT_FDCWD)
    flags, size = ctypes.c_uint(_AT_RECURSIVE), ctypes.c_size_t(ctypes.sizeof(read_only))
    _check_result(_libc.syscall(number, where, b"/", flags, ctypes.byref(read_only), size), "make / read-only")


def own_directories(spec: dict[str, Any]) -> None:
    """Private tmpfs where machines keep private things, and what was asked for made visible again on top of them."""
    seen = [(os.open(source, os.O_PATH), target, writable) for source, target, writable in spec["binds"]]
    for path, mode in spec["private"]:
        if os.path.isdir(path):
            mount_filesystem("tmpfs", path, "tmpfs", _NO_SUID | _NO_DEV, f"mode={mode:o},size={spec['tmp_mb']}m")
    mount_filesystem("sysfs", "/sys", "sysfs")
    mount_filesystem("devpts", "/dev/pts", "devpts", data="newinstance,ptmxmode=0666,mode=620,gid=5")
    for fd, target, writable in seen:
        _make_mount_point(fd, target)
        bind_directory(f"/proc/self/fd/{fd}", target, writable=writable)
        os.close(fd)


def _make_mount_point(fd: int, target: str) -> None:
    if os.path.exists(target):
        return
    if os.path.isdir(f"/proc/self/fd/{fd}"):
        os.makedirs(target)
    else:
        write_file(target, "")


def own_identity(spec: dict[str, Any]) -> None:
    """Set name, users, hosts file and boot id: all data by which a program identifies its machine."""
    socket.sethostname(spec["hostname"])
    os.makedirs("/run/sshd", mode=0o755)
    write_file(f"{LAB_DIR}/host_key", spec["host_key"], 0o600)
    own_etc({path: text for path, text in spec["etc"].items() if path.startswith("/etc/")})
    for number, (path, text) in enumerate(sorted(spec["etc"].items())):
        if not path.startswith("/etc/"):
            write_file(f"{LAB_DIR}/files/{number}", text)
            mount_filesystem(f"{LAB_DIR}/files/{number}", path, flags=_BIND)


def own_etc(files: dict[str, str]) -> None:
    """Rebuild /etc: links to what this machine has there, and files of the lab's own, even if this machine lacks them."""
    real = f"{LAB_DIR}/etc"
    os.makedirs(real)
    mount_filesystem("/etc", real, flags=_BIND | _RECURSIVE)
    mount_filesystem("tmpfs", "/etc", "tmpfs", data="mode=755")
    for name in os.listdir(real):
        if f"/etc/{name}" not in files:
            os.symlink(f"{real}/{name}", f"/etc/{name}")
    for path, text in files.items():
        write_file(path, text, 0o600 if path == "/etc/shadow" else 0o644)


def without_programs(patterns: list[str]) -> None:
    """Rebuild each program directory out of links to all but the unwanted: they are then not found, as if never installed."""
    for number, directory in enumerate(sorted({os.path.realpath(path) for path in PROGRAM_DIRS})):
        names = os.listdir(directory) if os.path.isdir(directory) else []
        kept = [name for name in names if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
        if len(kept) == len(names):
            continue
        real = f"{LAB_DIR}/programs/{number}"
        os.makedirs(real)
        mount_filesystem(directory, real, flags=_BIND)
        mount_filesystem("tmpfs", directory, "tmpfs", data="mode=755")
        for name in kept:
            os.symlink(f"{real}/{name}", f"{directory}/{name}")


def seed_homes(homes: list[Any]) -> None:
    for home, uid, files in homes:
        for name, (text, mode) in files.items():
            path = f"{home}/{name}"
            write_file(path, text, mode, (uid, uid))
            parent = os.path.dirname(path)
            while parent.startswith(home):
                os.chown(parent, uid, uid)
                parent = os.path.dirname(parent)
        os.makedirs(home, exist_ok=True)
        os.chown(home, uid, uid)
        os.chmod(home, 0o711 if uid == 0 else 0o755)


def empty_directory(directory: str) -> None:
    """Remove what was put there, but never what is mounted there."""
    here = os.stat(directory).st_dev
    for entry in os.scandir(directory):
        if not entry.is_dir(follow_symlinks=False):
            os.unlink(entry.path)
        elif entry.stat(follow_symlinks=False).st_dev == here:
            empty_directory(entry.path)
            if not os.listdir(entry.path):
                os.rmdir(entry.path)


class Machine:
    """The loop of the first process: orders from the owner, log lines from sshd, dead children to reap."""

    def __init__(self, spec: dict[str, Any], control: socket.socket) -> None:
        self.spec, self.control = spec, control
        self.sshd: subprocess.Popen[bytes] | None = None
        self.orders = {"sshd-start": self.start_sshd, "sshd-stop": self.stop_sshd, "wipe": self.wipe_files}

    def send_line(self, line: str) -> None:
        self.control.sendall(line.encode() + b"\n")

    def make_filesystems(self) -> None:
        mount_filesystem("proc", "/proc", "proc", _NO_SUID | _NO_DEV)
        own_directories(self.spec)
        own_identity(self.spec)
        without_programs(self.spec["without"])
        seed_homes(self.spec["homes"])

    def join_network(self) -> None:
        ip = subprocess.run(
            ["ip", "-batch", "-"], input=self.spec["network"], text=True, capture_output=True, check=False
        )
        if ip.returncode:
            raise OSError(f"ip: {ip.stderr.strip()}")

    def start_sshd(self) -> None:
        """Return once the sockets listen: sshd reports it on stderr, once for IPv4 and once for IPv6."""
        if self.spec["sshd"] is None or (self.sshd and self.sshd.returncode is None):
            return
        write_file(SSHD_CONFIG, self.spec["sshd"])
        argv = [self.spec["sshd_path"], "-D", "-e", "-f", SSHD_CONFIG]
        self.sshd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd="/")
        output, pipe = b"", self._sshd_stderr()
        while output.count(b"Server listening") < 2:
            chunk = os.read(pipe, 65536)
            if not chunk:
                raise OSError(f"sshd did not start: {output.decode(errors='replace').strip()}")
            output += chunk
        self._write_log(output)

    def _sshd_stderr(self) -> int:
        assert self.sshd is not None
        assert self.sshd.stderr is not None
        return self.sshd.stderr.fileno()

    def stop_sshd(self) -> None:
        if self.sshd and self.sshd.returncode is None:
            self.sshd.terminate()
            self.sshd.wait(20)

    def wipe_files(self) -> None:
        for path, _ in self.spec["private"]:
            if path != "/run" and os.path.isdir(path):
                empty_directory(path)
        seed_homes(self.spec["homes"])

    def reap_children(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if self.sshd and pid == self.sshd.pid:
                self.sshd.returncode = os.waitstatus_to_exitcode(status)

    def serve_orders(self, lines: bytes, wakeup: int) -> None:
        """Until the owner is gone; ``lines`` is what of its orders has been read already."""
        while True:
            while b"\n" in lines:
                order, _, lines = lines.partition(b"\n")
                self.carry_out(order.decode())
            log = self._sshd_stderr() if self.sshd and self.sshd.stderr and not self.sshd.stderr.closed else -1
            watched = [self.control.fileno(), wakeup, *([log] if log >= 0 else [])]
            ready, _, _ = select.select(watched, [], [])
            if wakeup in ready:
                os.read(wakeup, 4096)
                self.reap_children()
            if log in ready:
                self._drain_pipe(log)
            if self.control.fileno() in ready:
                chunk = self.control.recv(4096)
                if not chunk:
                    return
                lines += chunk

    def carry_out(self, order: str) -> None:
        try:
            self.orders[order]()
        except OSError as error:
            self.send_line(f"error: {error}".replace("\n", " | "))
        else:
            self.send_line("done")

    def _drain_pipe(self, pipe: int) -> None:
        chunk = os.read(pipe, 65536)
        if chunk:
            self._write_log(chunk)
        elif self.sshd and self.sshd.stderr:
            self.sshd.stderr.close()

    def _write_log(self, output: bytes) -> None:
        with open(f"{LAB_DIR}/sshd.log", "ab") as file:
            file.write(output)


def receive_line(control: socket.socket, lines: bytes) -> tuple[str, bytes]:
    while b"\n" not in lines:
        chunk = control.recv(65536)
        if not chunk:
            os._exit(0)
        lines += chunk
    line, _, rest = lines.partition(b"\n")
    return line.decode(), rest


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    os.umask(0o022)
    line, lines = receive_line(control, b"")
    machine = Machine(json.loads(line), control)
    readable, wakeup = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        own_namespaces()
        machine.send_line("apart")
        machine.make_filesystems()
        _, lines = receive_line(control, lines)  # "plugged": the cable is in
        machine.join_network()
        machine.start_sshd()
    except OSError as error:
        machine.send_line(f"error: {error}".replace("\n", " | "))
        return
    machine.send_line("up")
    os.chdir("/")
    machine.serve_orders(lines, readable)


if __name__ == "__main__":
    main()
