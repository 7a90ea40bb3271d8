"""Context that the commands share: this process as a value, settings, hosts, and connections."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, TextIO

from fanout import hostfile
from fanout.model.errors import UsageError
from fanout.model.events import Interrupted
from fanout.model.hosts import Host, HostFile
from fanout.model.request import Request
from fanout.model.settings import LoadedSettings, Settings, merge_settings
from fanout.model.suggested_commands import CommandBuilder
from fanout.remote.fd_limit import raise_file_limit
from fanout.remote.login import HEARTBEAT_SECONDS, ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.select import TransportSelector
from fanout.run.env_file import read_env_file

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOP_INSTEAD = signal.SIGUSR2  # ``fanout stop`` sends it to a launcher that ignores SIGTERM
Handler = Callable[[int, FrameType | None], None]


def filter_handled_signals(numbers: Iterable[int]) -> list[int]:
    """Return the signals that were not ignored when this process started (nohup, ``trap '' INT``, ``&`` in a script)."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def choose_stop_signal() -> int:
    """Return the signal that makes this launcher end its run."""
    return int(signal.SIGTERM if filter_handled_signals([signal.SIGTERM]) else STOP_INSTEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessContext:
    """Context of this process, as main.py found it: environment, directory, streams, user, terminal."""

    environ: Mapping[str, str]
    cwd: str
    cwd_exists: bool = True  # it may have been deleted
    stdout: TextIO
    stderr: TextIO
    stdin: Callable[[int], bytes]  # at most so many bytes, as from a file; b"" at the end
    user: str
    machine: str
    prefix: str  # the virtual environment that fanout itself runs in, "" if none
    columns: int
    line: Callable[[], str] = str  # reads one line of stdin, the answer to a question; by default an empty line
    keyboard: int | None = None  # the descriptor of stdin, if it is a terminal

    def print_message(self, text: str) -> None:
        """Print one message of fanout on stderr."""
        self.stderr.write(f"fanout: {text}\n")
        self.stderr.flush()


def read_settings(request: Request, edge: ProcessContext) -> Settings:
    """Return all settings, checked. Raises UsageError."""
    return load_settings(request, edge).settings


def load_settings(request: Request, edge: ProcessContext) -> LoadedSettings:
    """Load all settings, checked, with the source of each. Raises UsageError."""
    flags = dict(request.flags)
    pairs = [_parse_env_flag(text, edge.environ) for text in request.given.get("env") or flags.pop("env", None) or ()]
    for path in request.given.get("env_file") or ():
        file = read_env_file(path)
        pairs = [*file.pairs, *pairs]  # the command line has priority
        for warning in file.warnings:
            edge.print_message(warning)
    flags.pop("env", None)
    flags["env"] = tuple(pairs)
    flags.update(_choose_venv(flags.get("venv") or edge.environ.get("FANOUT_VENV"), edge))
    loaded = merge_settings(flags, edge.environ, _find_config_files(edge))
    settings = loaded.settings
    if settings.ssh_config not in ("", "none"):  # the guardian and `stop` may run in another directory
        path = os.path.abspath(os.path.join(edge.cwd, os.path.expanduser(settings.ssh_config)))
        loaded = dataclasses.replace(loaded, settings=dataclasses.replace(settings, ssh_config=path))
    return loaded


def _parse_env_flag(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if equals:
        return name, value
    if name not in environ:
        raise UsageError(f"--env {name}: this variable is not set in this shell", hint=f"--env {name}=VALUE")
    return name, environ[name]


def _choose_venv(given: str | None, edge: ProcessContext) -> dict[str, Any]:
    """Return the settings for the environment on PATH. ``auto`` is the one active here, if a host has it too."""
    if given == "none":
        return {"venv": ""}
    if given not in (None, "", "auto"):
        return {"venv": os.path.abspath(os.path.join(edge.cwd, os.path.expanduser(given))), "venv_sure": True}
    active = edge.environ.get("VIRTUAL_ENV") or ""
    conda = "" if active else edge.environ.get("CONDA_PREFIX", "")
    own = edge.prefix if edge.prefix and os.path.exists(os.path.join(edge.prefix, "bin", "torchrun")) else ""
    return {"venv": active or conda or own, "venv_sure": False, "venv_is_conda": bool(conda)}


def _find_config_files(edge: ProcessContext) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the nearest fanout.toml (or [tool.fanout]) at or above the working directory, then the user's own."""
    found: list[tuple[str, Mapping[str, Any]]] = []
    directory = edge.cwd
    while not found:
        for name in ("fanout.toml", "pyproject.toml"):
            path = os.path.join(directory, name)
            table = _read_toml(path)
            table = table.get("tool", {}).get("fanout") if table is not None and name == "pyproject.toml" else table
            if table is not None and not found:
                found.append((path, table))
        if directory == os.path.dirname(directory):
            break
        directory = os.path.dirname(directory)
    config = edge.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = os.path.join(config, "fanout", "config.toml")
    table = _read_toml(path) if os.path.isabs(path) else None
    return found + ([(path, table)] if table is not None else [])


def _read_toml(path: str) -> Mapping[str, Any] | None:
    """Return the table of a TOML file, or None without one. Ignore a pyproject.toml without [tool.fanout]."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if path.endswith("pyproject.toml") and b"[tool.fanout]" not in data:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: Mapping[str, Any] = tomllib.loads(data.decode())
        return table
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    except ValueError as error:  # from tomllib, or from a number with thousands of digits
        raise UsageError(f"{path}: {error}") from None


def read_hosts(request: Request, settings: Settings, edge: ProcessContext) -> tuple[HostFile, tuple[Host, ...]]:
    """Return the hostfile and the selected hosts, in rank order. Raises HostfileError, UsageError."""
    if not request.hosts:
        raise UsageError(f"{request.verb}: HOSTS is missing", hint=f"fanout {request.verb} --help")
    file = hostfile.read_host_list(request.hosts, stdin=edge.stdin, environ=edge.environ)
    filters = request.filters
    hosts = hostfile.select_hosts(
        file,
        include=filters.include,
        exclude=filters.exclude,
        nodes=filters.nodes,
        without=filters.without,
        nnodes=filters.nnodes,
        tag=filters.tag,
        nproc_per_node=settings.nproc_per_node,
    )
    return file, hosts


def build_selector(settings: Settings, edge: ProcessContext) -> TransportSelector:
    path = settings.ssh_config  # ssh takes "none" for no file
    if path not in ("", "none") and (os.path.isdir(path) or not os.path.exists(path)):
        raise UsageError(f"--ssh-config {path}: no such file")
    return TransportSelector(settings, user=edge.user, agent="SSH_AUTH_SOCK" in edge.environ)


def print_notices(picker: TransportSelector, edge: ProcessContext) -> None:
    """Print the notices of the logins, each once."""
    for notice in picker.notices.take_new():
        edge.print_message(notice)


@contextmanager
def open_connections(
    hosts: Sequence[Host],
    settings: Settings,
    picker: TransportSelector,
    edge: ProcessContext,
    command: str = "",
    *,
    hung_up: Callable[[], None] | None = None,
    before: Callable[[ConnectionPool], None] | None = None,
    once: Callable[[Handler], Handler] | None = None,
) -> Iterator[ConnectionPool]:
    """Yield the started connections, with this process's signals as events; undo both at the end.

    ``hung_up`` handles SIGHUP if a closed terminal must not stop the run. ``before`` gets the connections before they
    start. ``once`` wraps a handler so that it handles each signal once. Raises UsageError, LauncherError.
    """
    picker.check_config(hosts)
    raise_file_limit(len(hosts), by_program=settings.transport == "openssh")
    options = ConnectionOptions(
        dials=settings.fanout,
        connect_timeout=settings.connect_timeout,
        by=f"{edge.user}@{edge.machine}",
        beat=min(HEARTBEAT_SECONDS, settings.lease / 3) if settings.lease else HEARTBEAT_SECONDS,
        command=command,
    )
    clock = Clock()
    fan = ConnectionPool(hosts, picker, options, clock)
    if before is not None:
        before(fan)

    def handle_signal(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and hung_up is not None:
            hung_up()
        else:
            fan.post_event(Interrupted(at=clock(), signal=number))

    handler = once(handle_signal) if once is not None else handle_signal
    wanted = dict.fromkeys(filter_handled_signals(SIGNALS), handler)
    if choose_stop_signal() == STOP_INSTEAD:
        wanted[STOP_INSTEAD] = lambda number, frame: handle_signal(signal.SIGTERM, frame)
    handlers = {number: signal.signal(number, action) for number, action in wanted.items()}
    try:
        fan.start()
        yield fan
    finally:
        fan.close()
        for number, before_us in handlers.items():
            signal.signal(number, before_us)


def read_task_config(task: Sequence[str], directory: str) -> tuple[str, Any]:
    """Return the path and the content of the task's config, its first YAML argument; ("", None) without one.

    fanout reads the config only to check that it parses, and to find the paths in it. Raises UsageError.
    """
    path = next((word for word in task[1:] if word.endswith((".yaml", ".yml"))), "")
    if not path:
        return "", None
    try:
        with open(os.path.join(directory, path), encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise UsageError(f"no config {path} in {directory}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot read it: {error}") from None
    import yaml

    try:
        return path, yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else path
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{where}: not valid YAML: {problem}", hint="indent YAML with spaces, not with tabs") from None
    except RecursionError:
        raise UsageError(f"{path}: nested too deeply for a config") from None


def find_work_directory(settings: Settings, edge: ProcessContext) -> str:
    """Return the absolute path of the work directory on every host. Raises UsageError if it cannot be known."""
    if not edge.cwd_exists and not os.path.isabs(settings.chdir):
        raise UsageError(
            f"the working directory {edge.cwd} was deleted",
            hint="cd to the project's directory, or give its absolute path with --chdir",
        )
    return os.path.normpath(os.path.join(edge.cwd, settings.chdir))


def has_script_here(settings: Settings, directory: str) -> bool:
    """Return whether the project has the script. If the directory is not on this machine, assume that hosts have it."""
    return not os.path.isdir(directory) or os.path.isfile(os.path.join(directory, settings.script))


def build_command_for_hosts(request: Request, settings: Settings, verb: str, *words: str) -> str:
    """Return a fanout command for the same HOSTS and the same ssh configuration."""
    made = CommandBuilder(ssh_config=settings.ssh_config, ssh_option=settings.ssh_option, source=request.hosts)
    return made.build_fanout_command(verb, *words, hosts=True)


def find_runs_directory(settings: Settings, edge: ProcessContext) -> str:
    """Return the directory of recorded runs. Raises UsageError if the user has no home directory."""
    if settings.log_dir:
        return os.path.abspath(os.path.join(edge.cwd, settings.log_dir))
    state = edge.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    if state.startswith("~"):
        raise UsageError(
            f"no directory for the record of runs: {edge.user} has no home directory, and HOME is not set",
            hint="set HOME, or choose a directory with --log-dir DIR",
        )
    return os.path.abspath(os.path.join(edge.cwd, state, "fanout", "runs"))


def check_task_exists(task: Sequence[str], directory: str) -> None:
    """Check that the task exists. Paths are the same on all hosts, so a local directory must contain the task."""
    if task and os.path.isdir(directory) and not os.path.isfile(os.path.join(directory, task[0])):
        raise UsageError(
            f"no task {task[0]} in {directory}",
            hint="run fanout in the project's directory, or give its path with --chdir",
        )
