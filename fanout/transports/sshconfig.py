"""ssh configuration: resolve the options of each host with ``ssh -G``, which is the reference.

One process per host costs as much as its login. So ssh is asked for one host of each kind. Hosts are of one kind if the
same lines apply to them, except for names, users, ports, keys and jumps, which sshreader.py reads from the files. If its
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
from dataclasses import dataclass, replace

from fanout.errors import FanoutError, Unreachable, UsageError
from fanout.hosts import Host
from fanout.transports.sshless import values_of
from fanout.transports.sshoptions import BadOption, Here, SshOptions, options_of, parse
from fanout.transports.sshreader import NotRead, Reader, Reading, printed

ASKED_AT_ONCE = 4
ANSWER_SECONDS = 20.0  # `Match exec` and CanonicalizeHostname may take their time
MOST_JUMPS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One login to resolve: the arguments that ``ssh`` would get. ``options`` are those of -o, only for the target."""

    name: str
    user: str = ""
    port: int | None = None
    hostname: str = ""
    options: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Return the arguments of the ssh command line, without the program."""
        words = [word for option in self.options for word in ("-o", option)]
        words += ["-o", f"HostName={self.hostname}"] if self.hostname else []
        words += ["-p", str(self.port)] if self.port is not None else []
        words += ["-l", self.user] if self.user else []
        return [*words, "--", self.name]

    def given(self) -> tuple[str, ...]:
        """Return all values of the command line, as options."""
        given = [f"HostName={self.hostname}"] if self.hostname else []
        given += [f"Port={self.port}"] if self.port is not None else []
        given += [f"User={self.user}"] if self.user else []
        return (*self.options, *given)

    def by_hand(self, file: str, jumps: Sequence[str] = ()) -> str:
        """Return the command that makes this login in a terminal; ssh-copy-id takes the same arguments."""
        words = ["ssh", *(["-F", file] if file else []), *(["-J", ",".join(jumps)] if jumps else [])]
        where = f"{self.user}@{self.name}" if self.user else self.name
        return shlex.join([*words, *replace(self, user="").words()[:-2], where])


class NoSshProgram(Exception):
    """There is no ssh program, or it refuses to work for a user without an entry in passwd."""


_READ = "Reading configuration data "


def _same_login(ours: SshOptions, theirs: SshOptions) -> bool:
    """Compare all values of a login; ssh prints the entries of ProxyJump in a form of its own."""

    def plain(options: SshOptions) -> SshOptions:
        return replace(options, values={}, proxy_jump=())

    jumps = [[jump_question(spec) for spec in options.proxy_jump] for options in (ours, theirs)]
    return plain(ours) == plain(theirs) and jumps[0] == jumps[1]


class SshConfig:
    """Resolve the options that ssh would use for a host. Safe to use from many threads at once."""

    def __init__(self, *, file: str = "", options: Sequence[str] = (), user: str = "", program: str = "ssh") -> None:
        """Use ``file`` of -F, ``options`` of -o, and ``user`` as the login name if the hostfile has none."""
        self.file = file
        self.options = tuple(options)
        self._user = user
        self._program = program
        self._here: Here | None = None
        self._lock = threading.Lock()
        self._answers: dict[Question, SshOptions] = {}
        self._asking: dict[object, threading.Lock] = {}
        self._kinds: dict[object, Mapping[str, tuple[str, ...]]] = {}  # what ssh printed for a host of each kind
        self._begun: dict[Question, subprocess.Popen[bytes]] = {}
        self._reader: Reader | None = None
        self._has_read = False
        self._distrusted = False
        self._places = threading.BoundedSemaphore(ASKED_AT_ONCE)

    def resolve(self, host: Host) -> SshOptions:
        """Return how ssh would log in to ``host``. Raises UsageError if ssh refuses the configuration."""
        return self.ask(self.question(host))

    def question(self, host: Host) -> Question:
        """Return the query for one host. Values of the hostfile and the flags override the configuration."""
        return Question(
            name=host.ssh_name,
            user=host.user or self._user,
            port=host.port,
            hostname=host.hostname or "",
            options=self.options,
        )

    def way(self, host: Host) -> tuple[SshOptions, ...]:
        """Return the same as ``chain``, for use during logins. Raises Unreachable."""
        try:
            return self.chain(host)
        except FanoutError as error:
            raise Unreachable(str(error), hint=error.hint) from error

    def chain(self, host: Host) -> tuple[SshOptions, ...]:
        """Return every login on the way, in order; the last one is the host itself."""
        return self._way(self.question(host), ())

    def check(self, hosts: Sequence[Host]) -> None:
        """Find every login for all the hosts. Raises UsageError for the first host whose lines are wrong."""
        try:
            for at in range(0, len(hosts), ASKED_AT_ONCE):
                some = hosts[at : at + ASKED_AT_ONCE]
                for host in some:
                    if self._must_ask(self.question(host)):
                        self.begin(host)
                for host in some:
                    self.chain(host)
        finally:
            for child in self._begun.values():  # asked, and not needed after an error
                child.kill()
                child.communicate()
            self._begun.clear()

    def _must_ask(self, question: Question) -> bool:
        """Return whether only ssh itself can tell how it would log in to this host."""
        known = question in self._answers or question in self._begun
        return not known and self.reading(question) is None

    def _way(self, asked: Question, after: tuple[Question, ...]) -> tuple[SshOptions, ...]:
        """Resolve a machine and the jump hosts before it. Only the first jump host may have jump hosts of its own."""
        if asked in after or len(after) > MOST_JUMPS:
            way = " <- ".join(one.name for one in (*after, asked))
            raise UsageError(
                f"ssh_config: the jump hosts form a loop: {way}", hint=f"`ProxyJump none` for {asked.name}"
            )
        target = self.ask(asked)
        if not target.proxy_jump:
            return (target,)
        questions = [jump_question(spec) for spec in target.proxy_jump]
        first = self._way(questions[0], (*after, asked))
        later = [
            replace(
                self.ask(question),
                proxy_jump=(),
                proxy_command="",
                by_hand=question.by_hand(self.file, target.proxy_jump[:number]),
            )
            for number, question in enumerate(questions[1:], 1)
        ]
        return (*first, *later, target)

    def ask(self, question: Question) -> SshOptions:
        """Return the options for one query. ssh is asked once, even if many threads need it."""
        with self._lock:
            if question in self._answers:
                return self._answers[question]
        reading = self.reading(question)
        kind = question if reading is None else reading.kind
        with self._lock:
            asking = self._asking.setdefault(kind, threading.Lock())
        with asking:
            if question not in self._answers:
                answer = self._answered(question, reading)
                with self._lock:
                    self._answers[question] = answer
            return self._answers[question]

    def _answered(self, question: Question, reading: Reading | None) -> SshOptions:
        """Ask ssh, or derive the options from its answer for a host of the same kind."""
        like = self._kinds.get(reading.kind) if reading is not None else None
        if reading is not None and like is not None and not self._distrusted:
            return self._derived(question, reading, like)
        try:
            with self._places:
                answer, files = self._asked(question)
        except NoSshProgram:
            return self._without_ssh(question)
        if reading is not None and not self._distrusted:
            ours = self._derived(question, reading, answer.values)
            read = self._reader.files if self._reader is not None else ()
            if _same_login(ours, answer) and set(read) == set(files):
                self._kinds[reading.kind] = answer.values
            else:  # this ssh reads the configuration differently, so it is asked for every host
                self._distrusted = True
        return answer

    def _derived(self, question: Question, reading: Reading, like: Mapping[str, tuple[str, ...]]) -> SshOptions:
        here = self._known_here()
        try:
            found = options_of(question.name, printed(reading, question.name, like, here.user), here)
        except BadOption as error:
            raise UsageError(f"ssh_config, for {question.name}: {error}") from None
        return replace(found, by_hand=question.by_hand(self.file), config_file=self.file)

    def begin(self, host: Host) -> None:
        """Start ``ssh -G`` for one host early, so that its answer is ready when it is needed."""
        question = self.question(host)
        with contextlib.suppress(NoSshProgram):
            self._begun[question] = self._start(question)

    def _start(self, question: Question) -> subprocess.Popen[bytes]:
        """Start ``ssh -G``; with ``-v`` it prints the names of the files that it reads."""
        argv = [self._program, "-v", *self._words(question)]
        pipe = subprocess.PIPE
        try:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            raise NoSshProgram from None

    def _words(self, question: Question) -> list[str]:
        return ["-G", *(["-F", self.file] if self.file else []), *question.words()]

    def _asked(self, question: Question) -> tuple[SshOptions, list[str]]:
        """Return the answer of ``ssh -G``: the options, and the files that it read."""
        with self._begun.pop(question, None) or self._start(question) as child:
            try:
                out, told = child.communicate(timeout=ANSWER_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                raise UsageError(
                    f"`ssh -G {question.name}` gave no answer within {ANSWER_SECONDS:g} s",
                    hint="a command of `Match exec` or a name server hangs",
                ) from None
        errors = told.decode("utf-8", "replace")
        if child.returncode != 0 and "No user exists for uid" in errors:  # a container without an entry for this user
            raise NoSshProgram
        if child.returncode != 0:
            raise UsageError(_refusal(question, errors), hint=shlex.join(["ssh", *self._words(question)]))
        try:
            found = parse(question.name, out.decode("utf-8", "surrogateescape"), self._known_here())
        except BadOption as error:
            raise UsageError(f"ssh_config, for {question.name}: {error}") from None
        files = [line.partition(_READ)[2].strip() for line in errors.splitlines() if _READ in line]
        return replace(found, by_hand=question.by_hand(self.file), config_file=self.file), files

    def reading(self, question: Question) -> Reading | None:
        """Return the lines that apply, read without ssh; None if a line needs ssh itself."""
        with self._lock:
            if not self._has_read:
                self._has_read = True
                with contextlib.suppress(NotRead):
                    self._reader = Reader(self.file, self._known_here())
        if self._reader is None or self._distrusted:
            return None
        try:
            return self._reader.read(question.name, question.given())
        except NotRead:
            return None

    def _without_ssh(self, question: Question) -> SshOptions:
        """Read the configuration without ssh. Raises UsageError for a line that needs ssh itself."""
        try:
            reading = Reader(self.file, self._known_here(), comments=True).read(question.name, question.given())
            return self._derived(question, reading, values_of(reading))
        except NotRead as error:
            raise UsageError(
                f"{error}: there is no `ssh` program on this machine, and fanout does not read this line by itself",
                hint="install OpenSSH's client",
            ) from None

    def _known_here(self) -> Here:
        if self._here is None:
            self._here = find_here()
        return self._here


def find_here() -> Here:
    """Return the values for the tokens of a configuration. OpenSSH takes home and user from passwd."""
    uid = os.getuid()
    try:
        entry = pwd.getpwuid(uid)
        user, home = entry.pw_name, entry.pw_dir
    except KeyError:  # a container without an entry for this user
        user, home = f"uid-{uid}", os.path.expanduser("~")
    return Here(user=user, home=home, uid=uid, machine=socket.gethostname(), variable=_variable)


def _variable(name: str) -> str | None:
    """Return an environment variable through os.path.expandvars, because this package must not read os.environ."""
    text = f"${{{name}}}"
    value = os.path.expandvars(text)
    return None if value == text else value


def _refusal(question: Question, text: str) -> str:
    """Return the message of ssh in one line; it names file and line."""
    noise = re.compile(r"^debug\d|^OpenSSH_|^Pseudo-terminal will not|terminating, \d+ bad configuration option")
    lines = [line.strip() for line in text.splitlines() if line.strip() and not noise.search(line)]
    told = "; ".join(lines) or "ssh gave no reason"
    if "jumphost loop" in told:
        return f"ssh_config: {question.name} is its own jump host ({told})"
    return f"ssh refuses its configuration for {question.name}: {told}"


_URI = re.compile(r"ssh://", re.IGNORECASE)


def jump_question(spec: str) -> Question:
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
    return Question(name=host, user=user, port=int(port) if port else None)
