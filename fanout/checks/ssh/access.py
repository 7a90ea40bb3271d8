"""Checks of the login: it works, has a recent Python, is fast, prints nothing, and may stay after the session ends."""

from __future__ import annotations

from collections.abc import Iterator

from fanout.checks.engine.comparison import compute_medians_of_others
from fanout.checks.engine.definition import Check, CheckContext, CheckResult, fail, info, ok, warn

_SLOW_LOGIN, _VERY_SLOW_LOGIN = 3.0, 15.0
_OLDEST_PYTHON = (3, 8)


def _judge_reached(case: CheckContext) -> Iterator[CheckResult]:
    for name, trouble in case.request.unreached.items():
        yield fail(name, trouble.message, trouble.hint or f"try:  {case.format_remote_command(name, 'true')}")
    for name in case.hosts:
        if not case.facts[name]:
            why = case.missing.get(name, {}).get("", "it did not answer")
            again = "run the check again"
            if case.reasons.get(name, {}).get("") == "connection-lost":  # the question is small, and the answer is not
                probe = case.format_remote_command(name, "head -c 1000000 /dev/zero")
                again += (
                    f"; packets of full size may be lost on the way (MTU) unless this prints 1000000:  {probe} | wc -c"
                )
            yield fail(name, f"the login works, but the host did not answer the first question: {why}", again)
    if case.slow:
        yield info(
            [name for name in case.hosts if case.facts[name]],
            f"all hosts answer equally slowly: the cause may be this machine, the network, or one machine behind all ({case.slow})",
        )


def _judge_python(case: CheckContext) -> Iterator[CheckResult]:
    for name, agent in case.get_section("agent").items():
        version = tuple(agent["version"])
        shown = ".".join(map(str, version))
        if version < _OLDEST_PYTHON:
            yield fail(
                name,
                f"{agent['executable']} is Python {shown}",
                f"fanout needs Python 3.8 or later: install it there, and write  {name} python=/path/to/python3  in the hostfile",
            )
        else:
            yield ok(name, shown)


def _judge_login_time(case: CheckContext) -> Iterator[CheckResult]:
    """Yield warnings for logins far slower than the others. If all are slow, only above 15 s: this machine may be slow."""
    took = {name: case.request.login_seconds[name] for name in case.hosts if name in case.request.login_seconds}
    usual = compute_medians_of_others(took)
    for name, seconds in took.items():
        if seconds > max(_SLOW_LOGIN, min(3 * usual.get(name, 0.0), _VERY_SLOW_LOGIN)):
            yield warn(
                name,
                f"the login took {seconds:.1f} s",
                f"see where it waits:  {case.commands.build_ssh_command(name, '-v')} true   (reverse DNS of sshd, a slow home directory, conda in the rc file)",
            )


def _judge_login_output(case: CheckContext) -> Iterator[CheckResult]:
    for name, text in case.request.login_output.items():
        if name in case.hosts and text.strip():
            first = text.strip().splitlines()[0][:60]
            yield info(
                name,
                f"the login prints {first!r} before a command runs",
                "fanout skips it, but scp and rsync break on it",
            )


def _judge_session(case: CheckContext) -> Iterator[CheckResult]:
    for name, session in case.get_section("session").items():
        wiped = session["remove_ipc"] and not session["system_user"]
        if not session["logind"] or session["linger"] or not (wiped or session["kill_user_processes"]):
            continue
        harm = "kills all processes" if session["kill_user_processes"] else "empties /dev/shm"
        saw = f"systemd-logind {harm} of this user when the last session there closes"
        cure = case.format_remote_command(name, "sudo loginctl enable-linger $(id -un)")
        if case.request.attached:
            yield info(name, saw, f"fanout keeps a session open during the run; for detached runs:  {cure}")
        else:
            yield warn(name, saw, f"a detached run would lose its data loaders:  {cure}")


CHECKS = (
    Check(
        name="reached", group="ssh", worst="fail", always=True,
        verifies="fanout can log in to the host, and its agent answers.",
        why="A run starts on all hosts or on none. The other hosts would wait for an unreachable one.",
        fix="Follow the hint of the finding. `ssh HOST true` must work in the same terminal without a question.",
        judge=_judge_reached,
    ),
    Check(
        name="python", group="ssh", worst="fail", needs=("agent",),
        verifies="The python3 that the login finds is 3.8 or later.",
        why="The agent that starts, watches and stops train.sh on the host needs it.",
        fix="Install a newer python3 there, or name one in the hostfile: HOST python=/path/to/python3.",
        judge=_judge_python,
    ),
    Check(
        name="login-time", group="ssh", worst="warn",
        verifies="The connection and the login take less than 3 seconds, or not much longer than on the other hosts.",
        why="Reverse DNS, a slow home directory or a slow rc file may cause it, and they delay every later command.",
        fix="`ssh -v HOST true` shows the step that waits. The most common fix is `UseDNS no` in sshd_config.",
        judge=_judge_login_time,
    ),
    Check(
        name="login-noise", group="ssh", worst="info",
        verifies="The login prints nothing before a command runs.",
        why="fanout skips such text, but scp, rsync and git over ssh break on it.",
        fix="Guard the line in ~/.bashrc with  [[ $- == *i* ]] || return.",
        judge=_judge_login_output,
    ),
    Check(
        name="session", group="ssh", worst="warn", needs=("session",),
        verifies="systemd-logind does not touch a user's processes and /dev/shm after the last session has closed.",
        why="With RemoveIPC=yes (the default), systemd-logind empties /dev/shm after the last ssh session. All data loaders "
        "of a detached run then die.",
        fix="Run sudo loginctl enable-linger USER, or set RemoveIPC=no in /etc/systemd/logind.conf.",
        judge=_judge_session,
    ),
)  # fmt: skip
