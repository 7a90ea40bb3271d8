"""OpenSSH transport: the ssh program, for what paramiko cannot do (GSSAPI, FIDO keys, ``Match exec``, ControlMaster).

It needs one process for each host and is chosen with ``--transport openssh``. ssh writes its log to a pipe of its own.
The log shows when the login is complete, why it failed, and why a connection was lost. So neither the agent's frames nor
a command's output contain messages of ssh.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

from fanout.model.errors import HostKeyChanged, TransportError, Unreachable
from fanout.model.hosts import Host
from fanout.remote.transports.base import Channel, Deadline, HopLimiter
from fanout.remote.transports.notices import Notices, note_accepted_key
from fanout.remote.transports.openssh_errors import explain_refusal, explain_timeout
from fanout.remote.transports.openssh_log import SshLog
from fanout.remote.transports.openssh_process import LogPipe, SshProcess
from fanout.remote.transports.ssh_config import SshConfig
from fanout.remote.transports.ssh_options import SshOptions

VERSION_SECONDS = 5.0

#: Options that no ssh_config may change: one session without a terminal, with stdin and stdout only for the agent.
FIXED = (
    "BatchMode=yes",
    "LogLevel=DEBUG1",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ConnectionAttempts=1",
    "RemoteCommand=none",
    "RequestTTY=no",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    "ControlMaster=no",  # an open one is used; fanout's ssh never becomes one
    "UpdateHostKeys=no",  # ssh rewrites known_hosts for it, without a lock
    "VisualHostKey=no",
)
#: The same, for options that exist since OpenSSH 8.7; older versions refuse their names.
FIXED_SINCE_8_7 = ("SessionType=default", "ForkAfterAuthentication=no", "StdinNull=no")


class OpensshTransport:
    """One ``ssh`` process per host, without a terminal, a prompt or forwarding."""

    name = "openssh"
    open_files = 6  # pipes to the ssh process

    def __init__(
        self, config: SshConfig, *, accept_new_host_keys: bool = False, notices: Notices | None = None
    ) -> None:
        self._config = config
        self._notices = notices or Notices()
        self._accept_new = accept_new_host_keys
        self._hops = HopLimiter()
        self._lock = threading.Lock()
        self._taken: dict[str, str] = defaultdict(str)  # host keys that were new to ssh, by host

    @cached_property
    def _fixed(self) -> tuple[str, ...]:
        try:
            done = subprocess.run(["ssh", "-V"], capture_output=True, text=True, timeout=VERSION_SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return FIXED
        found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stderr + done.stdout)
        modern = found is not None and (int(found[1]), int(found[2])) >= (8, 7)
        return FIXED + FIXED_SINCE_8_7 if modern else FIXED

    def build_argv(self, host: Host, options: SshOptions, command: str, deadline: Deadline, log: str) -> list[str]:
        """Return the command line. Fixed options come first, because ssh keeps the first value of an option."""
        question = self._config.build_query(host)
        # the ssh of a jump host has no BatchMode: without a terminal it could still open an askpass window
        argv = ["env", "SSH_ASKPASS_REQUIRE=never", "ssh", "-T", "-E", log]
        argv += ["-F", self._config.file] if self._config.file else []
        strict = "accept-new" if self._accepts_new(options) else "yes"
        wanted = (
            f"ConnectTimeout={max(1, int(deadline.seconds_left))}",
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
        )
        for option in (*self._fixed, f"StrictHostKeyChecking={strict}", *question.options, *wanted):
            argv += ["-o", option]
        return [*argv, *replace(question, options=()).to_argv(), command]

    def _accepts_new(self, options: SshOptions) -> bool:
        """Return whether a new host key is accepted. A changed one never is, even with StrictHostKeyChecking no."""
        return self._accept_new or options.strict_host_key_checking in ("accept-new", "no")

    def open(self, host: Host, command: str, deadline: Deadline) -> Channel:
        if shutil.which("ssh") is None:
            raise Unreachable("there is no `ssh` program on this machine", hint="install OpenSSH's client")
        way = self._config.connect_path(host)
        with self._hops.hold_slot(way[0].hostname, way[0].port, deadline):
            return self._start_and_log_in(host, way, command, deadline)

    def _start_and_log_in(self, host: Host, way: Sequence[SshOptions], command: str, deadline: Deadline) -> Channel:
        options = way[-1]
        try:
            pipe = LogPipe()
            channel = SshProcess(
                self.build_argv(host, options, command, deadline, pipe.path), pipe, by_hand=options.by_hand
            )
        except OSError as error:
            raise Unreachable(f"cannot start ssh here: {error.strerror}", hint="ulimit -n; df -h /tmp") from error
        deadline.close_on_expiry(channel.close)
        try:
            if not channel.log_in(deadline):
                raise self._explain_refusal(way, channel, deadline)
            self._check_accepted_key(options, channel.log)
        except BaseException:
            channel.close()
            raise
        return channel

    def _explain_refusal(self, way: Sequence[SshOptions], channel: SshProcess, deadline: Deadline) -> TransportError:
        options = way[-1]
        if deadline.has_expired:
            return explain_timeout(
                channel.log, channel.stderr_lines, options.connect_address, deadline.seconds, by_hand=options.by_hand
            )
        channel.exit_status()  # its last messages are in the log once it has exited
        words = channel.stderr_lines
        for hop in way[:-1]:  # the ssh of a jump host prints messages of its own, which name the machine
            if any(hop.hostname in line for line in words):
                error = explain_refusal(SshLog(), words, by_hand=hop.by_hand, accept_new=False)
                return type(error)(f"jump host {hop.name}: {error}", hint=error.hint)
        error = explain_refusal(channel.log, words, by_hand=options.by_hand, accept_new=self._accepts_new(options))
        command = way[0].proxy_command
        if command and words and type(error) is Unreachable:  # a ProxyCommand that works prints nothing
            return Unreachable(f"the ProxyCommand `{command}` failed: {words[-1]}", hint=error.hint)
        return error

    def _check_accepted_key(self, options: SshOptions, log: SshLog) -> None:
        """Raise HostKeyChanged if ssh accepted a new key that differs from one accepted before in this process.

        If known_hosts is /dev/null, or cannot be written, every key is new to ssh every time.
        """
        if not log.added:
            return
        if not self._accept_new:
            note_accepted_key(options, self._notices)
        with self._lock:
            before = self._taken[options.connect_address] or log.host_key
            self._taken[options.connect_address] = before
        if before != log.host_key:
            raise HostKeyChanged(
                f"its host key has CHANGED since fanout first logged in: it now shows {log.host_key}, not {before}",
                hint=f"if the machine was not reinstalled, do not log in; otherwise run it again   {options.by_hand}",
            )
