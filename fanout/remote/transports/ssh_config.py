"""ssh configuration: resolve the options of each host with ``ssh -G``, which is the reference.

One process per host costs as much as its login. So ssh is asked for one host of each kind. Hosts are of one kind if the
same lines apply to them, except for names, users, ports, keys and jumps, which ssh_config_reader.py reads from the files. If its
result differs from that of ssh for the host that ssh was asked for, ssh is asked for every host.

A configuration that ssh refuses is a UsageError with the message of ssh, which names the file and the line.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shlex
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace

from fanout.model.errors import FanoutError, Unreachable, UsageError
from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.remote.transports.config_without_ssh import parse_values
from fanout.remote.transports.ssh_config_reader import ConfigReader, HostConfig, UnsupportedLine, render_ssh_g
from fanout.remote.transports.ssh_options import InvalidOption, SshOptions, UserContext, build_options, parse_ssh_g

ASKED_AT_ONCE = 4
KILL_SECONDS = 2.0
ANSWER_SECONDS = 20.0  # `Match exec` and CanonicalizeHostname may take their time
MOST_JUMPS = 16


@frozen
class ConfigQuery:
    """One login to resolve: the arguments that ``ssh`` would get. ``options`` are those of -o, only for the target."""

    name: str
    user: str = ""
    port: int | None = None
    hostname: str = ""
    options: tuple[str, ...] = ()

    def to_argv(self) -> list[str]:
        """Return the arguments of the ssh command line, without the program."""
        words = [word for option in self.options for word in ("-o", option)]
        words += ["-o", f"HostName={self.hostname}"] if self.hostname else []
        words += ["-p", str(self.port)] if self.port is not None else []
        words += ["-l", self.user] if self.user else []
        return [*words, "--", self.name]

    def given_options(self) -> tuple[str, ...]:
        """Return all values of the command line, as options."""
        given = [f"HostName={self.hostname}"] if self.hostname else []
        given += [f"Port={self.port}"] if self.port is not None else []
        given += [f"User={self.user}"] if self.user else []
        return (*self.options, *given)

    def login_command(self, file: str, jumps: Sequence[str] = ()) -> str:
        """Return the command that makes this login in a terminal; ssh-copy-id takes the same arguments."""
        words = ["ssh", *(["-F", file] if file else []), *(["-J", ",".join(jumps)] if jumps else [])]
        where = f"{self.user}@{self.name}" if self.user else self.name
        return shlex.join([*words, *replace(self, user="").to_argv()[:-2], where])


class SshProgramMissing(Exception):
    """There is no ssh program, or it refuses to work for a user without an entry in passwd."""


_READ = "Reading configuration data "


def _same_login(ours: SshOptions, theirs: SshOptions) -> bool:
    """Compare all values of a login; ssh prints the entries of ProxyJump in a form of its own."""

    def plain(options: SshOptions) -> SshOptions:
        return replace(options, values={}, proxy_jump=())

    jumps = [[parse_jump(spec) for spec in options.proxy_jump] for options in (ours, theirs)]
    return plain(ours) == plain(theirs) and jumps[0] == jumps[1]


class SshConfig:
    """Resolve the options that ssh would use for a host. Safe to use from many threads at once."""

    def __init__(self, *, file: str = "", options: Sequence[str] = (), user: str = "", program: str = "ssh") -> None:
        """Use ``file`` of -F, ``options`` of -o, and ``user`` as the login name if the hostfile has none."""
        self.file = file
        self.options = tuple(options)
        self._user = user
        self._program = program
        self._here: UserContext | None = None
        self._lock = threading.Lock()
        self._answers: dict[ConfigQuery, SshOptions] = {}
        self._asking: dict[object, threading.Lock] = {}
        self._kinds: dict[object, Mapping[str, tuple[str, ...]]] = {}  # what ssh printed for a host of each kind
        self._begun: dict[ConfigQuery, subprocess.Popen[bytes]] = {}
        self._reader: ConfigReader | None = None
        self._has_read = False
        self._distrusted = False
        self._places = threading.BoundedSemaphore(ASKED_AT_ONCE)

    def resolve_host(self, host: Host) -> SshOptions:
        """Return how ssh would log in to ``host``. Raises UsageError if ssh refuses the configuration."""
        return self.resolve_query(self.build_query(host))

    def build_query(self, host: Host) -> ConfigQuery:
        """Return the query for one host. Values of the hostfile and the flags override the configuration."""
        return ConfigQuery(
            name=host.ssh_name,
            user=host.user or self._user,
            port=host.port,
            hostname=host.hostname or "",
            options=self.options,
        )

    def connect_path(self, host: Host) -> tuple[SshOptions, ...]:
        """Return the same as ``resolve_path``, for use during logins. Raises Unreachable."""
        try:
            return self.resolve_path(host)
        except FanoutError as error:
            raise Unreachable(str(error), hint=error.hint) from error

    def resolve_path(self, host: Host) -> tuple[SshOptions, ...]:
        """Return every login on the way, in order; the last one is the host itself."""
        return self._resolve_path(self.build_query(host), ())

    def check(self, hosts: Sequence[Host]) -> None:
        """Find every login for all the hosts. Raises UsageError for the first host whose lines are wrong."""
        try:
            for at in range(0, len(hosts), ASKED_AT_ONCE):
                some = hosts[at : at + ASKED_AT_ONCE]
                for host in some:
                    if self._must_ask(self.build_query(host)):
                        self.start_query(host)
                for host in some:
                    self.resolve_path(host)
        finally:
            for child in self._begun.values():  # asked, and not needed after an error
                _discard_query(child)
            self._begun.clear()

    def _must_ask(self, question: ConfigQuery) -> bool:
        """Return whether only ssh itself can determine how it would log in to this host."""
        known = question in self._answers or question in self._begun
        return not known and self.read_files(question) is None

    def _resolve_path(self, asked: ConfigQuery, after: tuple[ConfigQuery, ...]) -> tuple[SshOptions, ...]:
        """Resolve a machine and the jump hosts before it. Only the first jump host may have jump hosts of its own."""
        if asked in after or len(after) > MOST_JUMPS:
            way = " <- ".join(one.name for one in (*after, asked))
            raise UsageError(
                f"ssh_config: the jump hosts form a loop: {way}", hint=f"`ProxyJump none` for {asked.name}"
            )
        target = self.resolve_query(asked)
        if not target.proxy_jump:
            return (target,)
        questions = [parse_jump(spec) for spec in target.proxy_jump]
        first = self._resolve_path(questions[0], (*after, asked))
        later = [
            replace(
                self.resolve_query(question),
                proxy_jump=(),
                proxy_command="",
                by_hand=question.login_command(self.file, target.proxy_jump[:number]),
            )
            for number, question in enumerate(questions[1:], 1)
        ]
        return (*first, *later, target)

    def resolve_query(self, question: ConfigQuery) -> SshOptions:
        """Return the options for one query. ssh is asked once, even if many threads need it."""
        with self._lock:
            if question in self._answers:
                return self._answers[question]
        reading = self.read_files(question)
        kind = question if reading is None else reading.equivalence_key
        with self._lock:
            asking = self._asking.setdefault(kind, threading.Lock())
        with asking:
            if question not in self._answers:
                answer = self._resolve_uncached(question, reading)
                with self._lock:
                    self._answers[question] = answer
            return self._answers[question]

    def _resolve_uncached(self, question: ConfigQuery, reading: HostConfig | None) -> SshOptions:
        """Ask ssh, or derive the options from its answer for a host of the same kind."""
        like = self._kinds.get(reading.equivalence_key) if reading is not None else None
        if reading is not None and like is not None and not self._distrusted:
            return self._derive_options(question, reading, like)
        try:
            with self._places:
                answer, files = self._query_ssh(question)
        except SshProgramMissing:
            return self._read_without_ssh(question)
        if reading is not None and not self._distrusted:
            ours = self._derive_options(question, reading, answer.values)
            read = self._reader.files if self._reader is not None else ()
            if _same_login(ours, answer) and set(read) == set(files):
                self._kinds[reading.equivalence_key] = answer.values
            else:  # this ssh reads the configuration differently, so it is asked for every host
                self._distrusted = True
        return answer

    def _derive_options(
        self, question: ConfigQuery, reading: HostConfig, like: Mapping[str, tuple[str, ...]]
    ) -> SshOptions:
        here = self._user_context()
        try:
            found = build_options(question.name, render_ssh_g(reading, question.name, like, here.user), here)
        except InvalidOption as error:
            raise UsageError(f"ssh_config, for {question.name}: {error}") from None
        return replace(found, by_hand=question.login_command(self.file), config_file=self.file)

    def start_query(self, host: Host) -> None:
        """Start ``ssh -G`` for one host early, so that its answer is ready when it is needed."""
        question = self.build_query(host)
        with contextlib.suppress(SshProgramMissing):
            self._begun[question] = self._start_ssh_g(question)

    def _start_ssh_g(self, question: ConfigQuery) -> subprocess.Popen[bytes]:
        """Start ``ssh -G``; with ``-v`` it prints the names of the files that it reads."""
        argv = [self._program, "-v", *self._build_argv(question)]
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            raise SshProgramMissing from None

    def _build_argv(self, question: ConfigQuery) -> list[str]:
        return ["-G", *(["-F", self.file] if self.file else []), *question.to_argv()]

    def _query_ssh(self, question: ConfigQuery) -> tuple[SshOptions, list[str]]:
        """Return the answer of ``ssh -G``: the options, and the files that it read."""
        child = self._begun.pop(question, None) or self._start_ssh_g(question)
        try:
            out, reason = child.communicate(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise UsageError(
                f"`ssh -G {question.name}` gave no answer within {ANSWER_SECONDS:g} s",
                hint="a command of `Match exec` or a name server hangs",
            ) from None
        finally:
            _discard_query(child)
        errors = reason.decode("utf-8", "replace")
        if child.returncode != 0 and "No user exists for uid" in errors:  # a container without an entry for this user
            raise SshProgramMissing
        if child.returncode != 0:
            raise UsageError(_format_refusal(question, errors), hint=shlex.join(["ssh", *self._build_argv(question)]))
        try:
            found = parse_ssh_g(question.name, out.decode("utf-8", "surrogateescape"), self._user_context())
        except InvalidOption as error:
            raise UsageError(f"ssh_config, for {question.name}: {error}") from None
        files = [line.partition(_READ)[2].strip() for line in errors.splitlines() if _READ in line]
        return replace(found, by_hand=question.login_command(self.file), config_file=self.file), files

    def read_files(self, question: ConfigQuery) -> HostConfig | None:
        """Return the lines that apply, read without ssh; None if a line needs ssh itself."""
        with self._lock:
            if not self._has_read:
                self._has_read = True
                with contextlib.suppress(UnsupportedLine):
                    self._reader = ConfigReader(self.file, self._user_context())
        if self._reader is None or self._distrusted:
            return None
        try:
            return self._reader.read_host(question.name, question.given_options())
        except UnsupportedLine:
            return None

    def _read_without_ssh(self, question: ConfigQuery) -> SshOptions:
        """Read the configuration without ssh. Raises UsageError for a line that needs ssh itself."""
        try:
            reading = ConfigReader(self.file, self._user_context(), comments=True).read_host(
                question.name, question.given_options()
            )
            return self._derive_options(question, reading, parse_values(reading))
        except UnsupportedLine as error:
            raise UsageError(
                f"{error}: there is no `ssh` program on this machine, and fanout does not read this line by itself",
                hint="install OpenSSH's client",
            ) from None

    def _user_context(self) -> UserContext:
        if self._here is None:
            self._here = find_user_context()
        return self._here


def find_user_context() -> UserContext:
    """Return the values for the tokens of a configuration. OpenSSH takes home and user from passwd."""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
        user, home = entry.pw_name, entry.pw_dir
    except KeyError:  # a container without an entry for this user
        user, home = f"uid-{uid}", os.path.expanduser("~")
    return UserContext(user=user, home=home, uid=uid, machine=socket.gethostname(), variable=_read_variable)


def _read_variable(name: str) -> str | None:
    """Return an environment variable through os.path.expandvars, because this package must not read os.environ."""
    text = f"${{{name}}}"
    value = os.path.expandvars(text)
    return None if value == text else value


def _discard_query(child: subprocess.Popen[bytes]) -> None:
    """End a query. A command of `Match exec` may hold its pipes, and a file server that hangs the process itself."""
    child.kill()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(KILL_SECONDS)


def _format_refusal(question: ConfigQuery, text: str) -> str:
    """Return the message of ssh in one line; it names file and line."""
    ignored = re.compile(r"^debug\d|^OpenSSH_|^Pseudo-terminal will not|terminating, \d+ bad configuration option")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not ignored.search(line)]
    reason = "; ".join(lines) or "ssh gave no reason"
    if "jumphost loop" in reason:
        return f"ssh_config: {question.name} is its own jump host ({reason})"
    return f"ssh refuses its configuration for {question.name}: {reason}"


_URI = re.compile(r"ssh://", re.IGNORECASE)


def parse_jump(spec: str) -> ConfigQuery:
    """Return the question for one entry of ProxyJump: ``[user@]host[:port]`` or ``ssh://[user@]host[:port]``."""
    text = _URI.sub("", spec.strip(), count=1).rstrip("/") if _URI.match(spec.strip()) else spec.strip()
    user, _, where = text.rpartition("@")
    host, port = where, ""
    if where.startswith("["):
        host, _, rest = where[1:].partition("]")
        port = rest.removeprefix(":")
    elif where.count(":") == 1:
        host, _, port = where.partition(":")
    if not host or (port and not port.isdecimal()):
        raise UsageError(f"ssh_config: `{spec}` is no jump host", hint="ProxyJump is [user@]host[:port]")
    return ConfigQuery(name=host, user=user, port=int(port) if port else None)
