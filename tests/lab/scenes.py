"""One scene of the campaign: a fault strikes a run in one of its phases, and an outside observer checks the result.

The observer sees what fanout cannot touch: the process table of every machine, what the ranks wrote into files of their
own beside their output, a mark for every start, the exit status and the words on the screen.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.lab import ns, proofs
from tests.lab.drive import Done, Project, Running
from tests.lab.lab import Lab
from tests.lab.machines import Host
from tests.lab.misfortunes import FAULTS, Fault, list_relays
from tests.lab.oracle import leftover_directories, leftover_processes, wait_quiet

GRACE, LEASE = 3.0, 5.0
TRAIN_SH = """\
echo x >> "ran.$NODE_RANK"
say() { echo "$1"; echo "$1" >> "wrote.$NODE_RANK"; }
trap 'told=yes' TERM
setsid sleep 1007 &
say "start $NODE_RANK"
n=0
until [ -e stop ]; do
  n=$((n + 1))
  say "$NODE_RANK line $n"
  [ -z "$told" ] || { say "told $NODE_RANK"; told=; }
  sleep 0.05
done
exit 0
"""
LATE = "until [ -e /home/lab/shared/open ]; do sleep 0.05; done\n"  # a login that lasts until the test ends it
PHASES = ("connecting", "starting", "running", "stopping")
WHERE = ("one", "master", "all", "launcher")
BLOWS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGKILL", "SIGKILL with its guardian", "frozen 3 s", "frozen beyond the lease")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """Facts that must hold afterwards. ``starts`` is how often the struck hosts started train.sh, the others' is any.

    ``logs`` is "whole" or, for hosts that took bytes with them, "prefix"; the output has ``words`` about each struck host.
    """

    codes: tuple[int, ...]
    words: str = ""
    starts: tuple[int, ...] = (1,)
    logs: str = "whole"
    quiet: float = 2.0  # seconds after the end of fanout by which every machine is empty
    keeps: bool = False  # the hosts keep the record of its end, for the next launcher

    @property
    def text(self) -> str:
        words = f", says {self.words!r}" if self.words else ""
        starts = "/".join(map(str, self.starts))
        return f"exit {'/'.join(map(str, self.codes))}, {starts} start, log {self.logs}, nothing left{words}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A fault, the phase that it strikes in, and the hosts that it strikes. The fault "launcher" is a list of signals (see ``Blow``)."""

    fault: str
    phase: str  # connecting, starting, running, stopping
    where: str  # one, master, all, launcher
    promise: Promise
    flags: tuple[str, ...] = ()
    slow: bool = False

    @property
    def name(self) -> str:
        return f"{self.fault} | {self.phase} | {self.where}"


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the observer saw; ``broken`` are the promises that were not kept."""

    code: int = 0
    seconds: float = 0.0
    starts: list[int] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        starts = "".join(map(str, self.starts))
        logs = self.logs[0] if len(set(self.logs)) == 1 else " ".join(self.logs)
        return f"exit {self.code} in {self.seconds:.1f} s, starts {starts}, log {logs}" + "".join(
            f"; BROKEN: {one}" for one in self.broken
        )


class Stage:
    """A lab of four hosts on which scenes are played one after the other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._held: list[ns.Process] = []

    def play_scene(self, scene: Scene) -> Seen:
        """Play one scene, from four empty machines to four empty machines."""
        self.lab.reset_machines()
        with contextlib.closing(Project(self.lab)) as project:
            project.write_train_script(TRAIN_SH)
            run, done = self._act_on_scene(project, scene)
            return self._judge_run(project, scene, run, done)

    # -- the action

    def _act_on_scene(self, project: Project, scene: Scene) -> tuple[Running, Done]:
        struck = self.list_struck_hosts(scene)
        if scene.phase == "starting":
            self.lab["h3"].write_file("/home/lab/.bashrc", LATE, user="lab")
        if scene.phase == "connecting" and scene.where != "launcher":
            FAULTS[scene.fault](struck)
        run = project.begin_training(*("--grace", str(GRACE), "--connect-timeout", "20", *scene.flags))
        self._come_to(project, run, scene)
        if scene.where == "launcher":
            strike_launcher(self.lab, run, scene.fault)
        elif scene.phase != "connecting":
            fault = FAULTS[scene.fault]
            fault(struck)
            self._undo_fault(run, fault, struck)
        if scene.phase == "starting":
            ns.signal_all(self._held, signal.SIGCONT)
        self._let_end(project, run, scene)
        return run, run.wait_for_end(150)

    def list_struck_hosts(self, scene: Scene) -> list[Host]:
        """Return the hosts that it strikes; in the phase of starting the fourth host is the one that the others wait for."""
        hosts = self.lab.hosts[:3] if scene.phase == "starting" else self.lab.hosts
        return {"one": hosts[1:2], "master": hosts[:1], "all": hosts, "launcher": []}[scene.where]

    def _come_to(self, project: Project, run: Running, scene: Scene) -> None:
        """Wait until the run is in the scene's phase."""
        if scene.phase == "connecting":
            run.wait_for_output("^fanout: run ")
        elif scene.phase == "starting":
            self._hold_start(project)
            for host in self.lab.hosts[:3]:
                ns.wait_until(lambda host=host: _is_prepared(host), 30.0, f"{host.name} is prepared")  # type: ignore[misc]
        else:
            run.wait_for_output(*(f"start {rank}$" for rank in range(4)))
        if scene.phase == "stopping":
            run.send_signal(signal.SIGINT)
            run.wait_for_output(*(f"told {rank}$" for rank in range(4)))

    def _hold_start(self, project: Project) -> None:
        """Prepare three hosts that wait for the fourth: its agent was stopped while the third logged in."""
        connected = re.compile(r'"type": ?"connected".*"h4"|"h4".*"type": ?"connected"')
        ns.wait_until(lambda: bool(connected.search(_read_events(project))), 30.0, "h4 is connected")
        self._held = list_relays(self.lab["h4"])
        ns.signal_all(self._held, signal.SIGSTOP)
        self.lab.launcher.write_file("/home/lab/shared/open", "", user="lab")

    def _undo_fault(self, run: Running, fault: Fault, struck: Sequence[Host]) -> None:
        if fault.undo is None:
            return
        if isinstance(fault.lasts, str):
            run.wait_for_output(*(fault.lasts.format(host=host.name) for host in struck), timeout=60)
        else:
            threading.Event().wait(fault.lasts)  # how long the fault lasts, not how long we wait for something
        fault.assert_met(struck)
        for host in struck:
            fault.undo(host)

    def _let_end(self, project: Project, run: Running, scene: Scene) -> None:
        """End a run that survives the fault: two more lines from every host over the new link, then the end."""
        if scene.promise.codes == (0,):
            run.wait_for_output(*(f"start {rank}$" for rank in range(4)))
            for rank in range(4):
                before = len(re.findall(rf"\| {rank} line", run.texts["out"]))
                run.wait_for_output(rf"\| {rank} line {before + 2}$")
        if scene.promise.codes == (0,) or scene.phase == "stopping":
            project.write_file("stop", "")

    # -- the judgement

    def _judge_run(self, project: Project, scene: Scene, run: Running, done: Done) -> Seen:
        promise, struck = scene.promise, self.list_struck_hosts(scene)
        if FAULTS.get(scene.fault) and FAULTS[scene.fault].undo is None:
            _restore_hosts(struck, FAULTS[scene.fault].after)
        seen = Seen(code=done.code, seconds=done.seconds)
        for rank, host in enumerate(self.lab.hosts):
            starts = starts_of(project, rank)
            seen.starts.append(starts)
            wanted = promise.starts if host in struck or scene.where == "launcher" else (0, 1)
            if starts not in wanted:
                seen.broken.append(f"{host.name} started {starts} times")
            if host in struck and promise.words and not _names_host(done.err, host.name, promise.words):
                seen.broken.append(f"nothing like {promise.words!r} is said of {host.name}: {done.err[-600:]}")
        if not wait_quiet(self.lab, promise.quiet):
            seen.broken += [f"{node.name}: left: {one}" for node, one in leftover_processes(self.lab)]
        if not promise.keeps:
            seen.broken += [f"{node.name}: left: {path}" for node, path in leftover_directories(self.lab)]
        for rank, host in enumerate(self.lab.hosts):
            seen.logs.append(compare_log(project, rank, host.name))
            if not (seen.logs[-1] == "whole" or (promise.logs == "prefix" and seen.logs[-1] == "prefix")):
                seen.broken.append(f"the log of {host.name} is {seen.logs[-1]}")
        if done.code not in promise.codes:
            seen.broken.append(f"exit {done.code}: {done.err[-900:]}")
        if "Traceback" in done.err:
            seen.broken.append(f"a traceback: {done.err[-900:]}")
        return seen


def _restore_hosts(hosts: Sequence[Host], after: Callable[[Host], object] | None) -> None:
    """Start and heal hosts whose fault lasts: the guardian, which waits for them, can then verify them and exit."""
    for host in hosts:
        host.power_on()
        host.stop_dropping()
        host.thaw_processes()
        if after is not None:
            after(host)


def compare_log(project: Project, rank: int, name: str) -> str:
    """Compare the record of a host with the file that its script wrote itself.

    A script that is killed between its two writes has printed one line more than it noted.
    """
    path = project.get_path(f"wrote.{rank}")
    wrote = path.read_bytes() if path.exists() else b""
    try:
        log = project.read_log(name)
    except (OSError, IndexError):
        log = b""
    log = log.replace(b"Terminated\n", b"")
    if log == wrote or (log.startswith(wrote) and log[len(wrote) :].count(b"\n") <= 1):
        return "whole"
    return "prefix" if wrote.startswith(log) else "WRONG"


def _read_events(project: Project) -> str:
    """Return the events recorded so far; the last line may be incomplete."""
    try:
        return (project.list_records()[-1] / "events.jsonl").read_text()
    except (OSError, IndexError):
        return ""


def _is_prepared(host: Host) -> bool:
    return any(host.get_path("/var/tmp").glob("fanout-*/*.[0-9]"))


def starts_of(project: Project, rank: int) -> int:
    """Return how often a host started train.sh."""
    path = project.get_path(f"ran.{rank}")
    return path.read_text().count("x") if path.exists() else 0


def _names_host(text: str, host: str, words: str) -> bool:
    """Return whether a line about the host, alone or in a group (``h[1-4]``), has the words."""
    number = host[1:]
    named = rf"(\b{host}\b|h\[[^\]]*\])"
    return any(
        re.search(words, line) and re.search(named, line) and _is_in_group(line, number) for line in text.splitlines()
    )


def _is_in_group(line: str, number: str) -> bool:
    folded = re.findall(r"h\[([\d,-]+)\]", line)
    if re.search(rf"\bh{number}\b", line):
        return True
    for spans in folded:
        for span in spans.split(","):
            first, _, last = span.partition("-")
            if int(first) <= int(number) <= int(last or first):
                return True
    return False


def strike_launcher(lab: Lab, run: Running, kind: str) -> None:
    """Apply the scene's blow to the launcher: a signal, killing its guardian too, or a suspension."""
    if kind == "frozen 3 s":
        run.send_signal(signal.SIGSTOP)
        ns.wait_until(lambda: proofs.state_of(run.child.pid) == "T", proofs.PATIENCE, "the launcher is stopped")
        threading.Event().wait(3.0)
        run.send_signal(signal.SIGCONT)
        return
    if kind == "frozen beyond the lease":
        run.send_signal(signal.SIGSTOP)
        ns.wait_until(
            lambda: not any(one for host in lab.hosts for one in host.list_processes() if "sleep" in one.argv),
            40.0,
            "the lease ends",
        )
        run.send_signal(signal.SIGCONT)
        return
    if kind == "SIGKILL with its guardian":
        guardians = [one for one in lab.launcher.list_processes() if "fanout.run.guardian" in one.argv]
        proofs.kill_all(lab.launcher, guardians, "guardian")
    run.send_signal(signal.Signals[kind.split()[0]])
