"""Checks of the way in: reached at all, an interpreter that can carry us, a login that is quick and quiet."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks.compare import usual_beside
from fanout.checks.model import Case, Check, Verdict, fail, info, ok, warn
from fanout.events import BROKE

_SLOW_LOGIN, _VERY_SLOW_LOGIN = 3.0, 15.0
_OLDEST_PYTHON = (3, 8)


def _reached(case: Case) -> Iterator[Verdict]:
    for name, trouble in case.request.unreached.items():
        yield fail(name, trouble.message, trouble.hint or f"try:  {case.on(name, 'true')}")
    for name in case.hosts:
        if not case.facts[name]:
            why = case.missing.get(name, {}).get("", "it did not answer")
            again = "run the check again"
            if BROKE in why:  # the question is small, and the answer is not
                probe = case.on(name, "head -c 1000000 /dev/zero")
                again += (
                    f"; packets of full size may be lost on the way (MTU) unless this prints 1000000:  {probe} | wc -c"
                )
            yield fail(name, f"logged in, but the host did not answer the first question: {why}", again)
    if case.slow:
        yield info(
            [name for name in case.hosts if case.facts[name]],
            f"the hosts answer slowly, all alike: it is this machine, the line, or one machine behind all ({case.slow})",
        )


def _python(case: Case) -> Iterator[Verdict]:
    for name, agent in case.of("agent").items():
        version = tuple(agent["version"])
        shown = ".".join(map(str, version))
        if version < _OLDEST_PYTHON:
            yield fail(
                name, f"{agent['executable']} is Python {shown}",
                f"fanout needs 3.8 or later there: install one and write  {name} python=/path/to/python3  in the hostfile",
            )  # fmt: skip
        else:
            yield ok(name, shown)


def _login_time(case: Case) -> Iterator[Verdict]:
    """Slower than the others by far; all alike may as well be this machine, unless it is out of all proportion."""
    took = {name: case.request.login_seconds[name] for name in case.hosts if name in case.request.login_seconds}
    usual = usual_beside(took)
    for name, seconds in took.items():
        if seconds > max(_SLOW_LOGIN, min(3 * usual.get(name, 0.0), _VERY_SLOW_LOGIN)):
            yield warn(
                name, f"the login took {seconds:.1f} s",
                f"see where it waits:  {case.commands.ssh(name, '-v')} true   (reverse DNS of sshd, a slow home directory, conda in the rc file)",
            )  # fmt: skip


def _noise(case: Case) -> Iterator[Verdict]:
    for name, text in case.request.noise.items():
        if name in case.hosts and text.strip():
            first = text.strip().splitlines()[0][:60]
            yield info(
                name, f"the login prints {first!r} before a command runs", "harmless here; it breaks scp and rsync"
            )


def _session(case: Case) -> Iterator[Verdict]:
    for name, session in case.of("session").items():
        wiped = session["remove_ipc"] and not session["system_user"]
        if not session["logind"] or session["linger"] or not (wiped or session["kill_user_processes"]):
            continue
        harm = "ends all processes" if session["kill_user_processes"] else "empties /dev/shm"
        saw = f"systemd-logind {harm} of this user when the last session there closes"
        cure = case.on(name, "sudo loginctl enable-linger $(id -un)")
        if case.request.attached:
            yield info(name, saw, f"fanout holds a session for the whole run; for detached runs:  {cure}")
        else:
            yield warn(name, saw, f"a detached run would lose its data loaders:  {cure}")


CHECKS = (
    Check(
        name="reached", group="ssh", worst="fail", always=True,
        verifies="fanout can log in to the host and its agent answers.",
        why="A run starts on all hosts or on none: one that cannot be reached would leave the others waiting.",
        fix="Follow the hint of the finding; `ssh HOST true` must work without a question from the same terminal.",
        judge=_reached,
    ),
    Check(
        name="python", group="ssh", worst="fail", needs=("agent",),
        verifies="The python3 that the login finds is 3.8 or later.",
        why="The agent that starts, watches and ends train.sh on the host is written for it.",
        fix="Install a newer python3 there, or name one in the hostfile: HOST python=/path/to/python3.",
        judge=_python,
    ),
    Check(
        name="login-time", group="ssh", worst="warn",
        verifies="Connecting and logging in takes less than 3 seconds, or no longer than on the other hosts.",
        why="A slow login points to reverse DNS, a slow home directory or a heavy rc file, and slows every later command.",
        fix="`ssh -v HOST true` shows at which step it waits; `UseDNS no` in sshd_config is the commonest cure.",
        judge=_login_time,
    ),
    Check(
        name="login-noise", group="ssh", worst="info",
        verifies="The login prints nothing before a command runs.",
        why="fanout skips such text, but scp, rsync and git over ssh break on it.",
        fix="Guard the line in ~/.bashrc with  [[ $- == *i* ]] || return.",
        judge=_noise,
    ),
    Check(
        name="session", group="ssh", worst="warn", needs=("session",),
        verifies="systemd-logind leaves a user's processes and /dev/shm alone after the last session has closed.",
        why="With RemoveIPC=yes (the default) the end of the last ssh session wipes /dev/shm under a detached training: "
        "all data loaders die.",
        fix="sudo loginctl enable-linger USER, or RemoveIPC=no in /etc/systemd/logind.conf.",
        judge=_session,
    ),
)  # fmt: skip
