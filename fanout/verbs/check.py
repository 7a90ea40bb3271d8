"""``fanout check``: check that the hosts can train; report each failing host, the cause and the fix."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from fanout import plan, preflight
from fanout.arguments import Request
from fanout.checks import explain, imports, record, report
from fanout.checks.catalogue import CATALOGUE
from fanout.checks.model import CheckRequest, Unreachable
from fanout.commands import Commands
from fanout.credentials import is_secret
from fanout.errors import FanoutError
from fanout.events import Event
from fanout.hosts import Host, fold
from fanout.launch import Session
from fanout.plan import LaunchPlan
from fanout.preflight import Learned, Preflight
from fanout.settings import Settings
from fanout.state import HostState, Phase, RunState
from fanout.transports.pick import Picker
from fanout.verbs.common import (
    Edge,
    config_values,
    fan_of,
    has_script_here,
    hosts_of,
    look_for_task,
    picker_of,
    settings_of,
    tell_notices,
    work_directory,
)
from fanout.verbs.deep import tester
from fanout.views.base import choose
from fanout.views.out import past
from fanout.views.sanitise import clean


class _Progress:
    """Progress line on a terminal while hosts answer; prints nothing in a pipe."""

    broken = False

    def __init__(self, edge: Edge) -> None:
        self._stderr = past(edge.stderr)
        self._shown = ""
        self._doing = False
        self._on = edge.stderr.isatty()

    def __call__(self, event: Event, state: RunState) -> None:
        if not self._doing:
            up = sum(host.linked for host in state.all)
            self._show(f"{up}/{len(state.all)} hosts answer …")

    def tell(self, text: str) -> None:
        """Show the current step instead of the number of hosts that answer."""
        self._doing = True
        self._show(f"{text} …")

    def _show(self, text: str) -> None:
        if self._on and text != self._shown:
            self._shown = text
            self._stderr.write(f"\r\x1b[K{clean(text, colour=False)}")
            self._stderr.flush()

    def close(self) -> None:
        if self._shown:
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()


def check(request: Request, edge: Edge) -> int:
    """Run the command; return the exit status."""
    given = request.given
    if given["listing"]:
        edge.stdout.write("\n".join(explain.listing(CATALOGUE, edge.columns)) + "\n")
        return 0
    if given["explain"]:
        edge.stdout.write("\n".join(explain.explained(explain.named(CATALOGUE, given["explain"]), edge.columns)) + "\n")
        return 0
    only, skip = (explain.chosen(CATALOGUE, _names(given[name])) for name in ("only", "skip"))
    deep = given["deep"] or any(name.split("-")[0] == "deep" for name in only)
    settings = settings_of(request, edge)
    hosts = hosts_of(request, settings, edge)[1]
    directory = work_directory(settings, edge)
    look_for_task(request.task, directory)
    config = config_values(request.task, directory)
    picker = picker_of(settings, edge)
    names = [host.name for host in hosts]
    progress = _Progress(edge)
    began = time.monotonic()
    with fan_of(hosts, settings, picker, edge) as fan:
        session = Session(fan, names, [progress])
        session.connect()
        tell_notices(picker, edge)
        result = None
        if not session.state.interrupts:
            asked = check_request(session, hosts, request.task, directory, settings, config)
            typed = commands_of(hosts, settings, picker, request.hosts or "")
            asked = dataclasses.replace(asked, only=only, skip=skip, deep=deep, commands=typed)
            test = tester(session, request.task, settings, directory, progress.tell) if deep else None
            planner = _planner(hosts, request.task, settings, directory)
            result = preflight.run(asked, session, plan=planner, deep=test, began=began)
        session.dismiss()
    progress.close()
    if session.state.interrupts or result is None:
        edge.say("interrupted")
        return 128 + session.state.interrupts[0]
    edge.stdout.write(
        as_json(result) if given["as_json"] else shown(f"fanout check {request.hosts}", result, edge, edge.stdout)
    )
    return result.exit_code(strict=given["strict"])


def _planner(
    hosts: tuple[Host, ...], task: tuple[str, ...], settings: Settings, directory: str
) -> Callable[[Learned], LaunchPlan]:
    """Return a function that makes the plan of `run` from the facts that the check found."""

    def made(learned: Learned) -> LaunchPlan:
        script = has_script_here(settings, directory)
        return plan.make(
            hosts, task, settings, run_id="check", cwd=directory, has_script=script, learned=for_plan(learned)
        )

    return made


def for_plan(learned: Learned) -> plan.Learned:
    """Return the facts that the check found, in the form that the plan takes."""
    return plan.Learned(
        master_addr=learned.master_addr, gpus=learned.gpus, env=learned.exports, address=learned.addresses
    )


def exported(exports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return one line for each variable that fanout exports on some hosts because the check found it necessary."""
    hosts: dict[str, list[str]] = {}
    for name, pairs in exports.items():
        for variable, value in pairs.items():
            hosts.setdefault(f"{variable}={value}", []).append(name)
    reason = "the default interface does not reach the other hosts"
    return [f"exporting {pair} on {fold(names)}: {reason}" for pair, names in hosts.items()]


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def shown(title: str, result: Preflight, edge: Edge, stream: TextIO) -> str:
    """Return the report as text for this terminal. In a file or a pipe, lines are not wrapped."""
    look = choose(edge.environ, isatty=stream.isatty(), encoding=getattr(stream, "encoding", None))
    width = max(60, min(edge.columns, 140)) if stream.isatty() else None
    style = report.Style(width=width, ascii=not look.unicode)
    return "\n".join(report.report(title, result.case, result.findings, result.seconds, style)) + "\n"


def as_json(result: Preflight) -> str:
    """Return all findings as JSON; ``v`` is the version of the format."""
    table = record.record(result.case, result.findings, result.seconds)
    table["ok"] = not result.failures and not result.case.request.unreached
    table["learned"] = dataclasses.asdict(result.learned)
    return json.dumps(table, indent=2, default=str) + "\n"


def check_request(
    session: Session,
    hosts: tuple[Host, ...],
    task: tuple[str, ...],
    directory: str,
    settings: Settings,
    config: tuple[str, Any],
) -> CheckRequest:
    """Return the input of the check, from a session that has connected to the hosts."""
    states, read = session.state.hosts, _imports(task, directory)
    return CheckRequest(
        hosts=hosts,
        workdir=directory,
        unreached={name: _unreachable(state) for name, state in states.items() if not state.linked},
        dialled=_told(states, lambda state: state.hello.get("peer", "")),
        login_seconds={name: state.took for name, state in states.items() if state.linked},
        noise=_told(states, lambda state: state.noise.decode("utf-8", "replace").strip()),
        task=task[0] if task else "",
        config=config[0],
        config_values=config[1],
        imports=read.names,
        unsure=read.unsure,
        own=_own(read, task, directory),
        script=settings.script,
        venv=settings.venv,
        venv_sure=settings.venv_sure,
        setup=settings.setup,
        env={name: "***" if is_secret(name, value) else value for name, value in settings.env},
        master_addr=settings.master_addr,
        master_port=settings.master_port,
    )


def commands_of(hosts: tuple[Host, ...], settings: Settings, picker: Picker, source: str) -> Commands:
    """Return the builder of the commands in findings: each host as fanout reaches it, this machine without ssh."""
    here, logins = set(), {}
    for host in hosts:
        try:
            if settings.transport == "local" or picker.is_here(host):
                here.add(host.name)
            else:
                logins[host.name] = picker.config.way(host)[-1].by_hand
        except FanoutError:
            continue  # the ssh configuration of this host is invalid; another finding reports it
    return Commands(
        logins=logins,
        here=frozenset(here),
        ssh_config=settings.ssh_config,
        ssh_option=settings.ssh_option,
        source=source,
    )


def warned(result: Preflight) -> list[str]:
    """Return one line for each warning of the check."""
    return [
        f"warning: {fold(finding.hosts)}: {finding.check}: {finding.saw}" for finding in report.merged(result.warnings)
    ]


def _unreachable(state: HostState) -> Unreachable:
    if state.trouble is None:
        return Unreachable(message="no connection was made")
    return Unreachable(message=state.trouble.message, hint=state.trouble.hint, kind=state.trouble.kind)


def _told(states: Mapping[str, HostState], what: Any) -> dict[str, str]:
    told = {name: what(state) for name, state in states.items() if state.phase is Phase.LINKED}
    return {name: text for name, text in told.items() if text}


def _imports(task: tuple[str, ...], directory: str) -> imports.Imports:
    """Return the top-level imports of the task, if its file can be read here."""
    if not task or not task[0].endswith(".py"):
        return imports.Imports()

    def changes_path(name: str) -> bool:
        source = _source(_module(name, task[0], directory))
        try:
            return bool(source) and imports.text_changes_path(ast.parse(source))
        except (SyntaxError, ValueError):
            return True

    return imports.of_source(_source(os.path.join(directory, task[0])), changes_path)


def _own(read: imports.Imports, task: tuple[str, ...], directory: str) -> dict[str, str]:
    """Return the local paths of the project's own modules that the task imports."""
    return {name: path for name in read.names if task and (path := _module(name, task[0], directory))}


def _module(name: str, task: str, directory: str) -> str:
    """Return the path of the project's own package or module with this name, or ""."""
    for folder in (os.path.dirname(task), "", "VeOmni"):
        place = os.path.join(directory, folder, name)
        for path in (place, f"{place}.py"):
            if os.path.isdir(path) or os.path.isfile(path):
                return path
    return ""


def _source(path: str) -> str:
    """Return the source of a module, or of a package's ``__init__.py``; "" if it cannot be read."""
    try:
        with open(os.path.join(path, "__init__.py") if os.path.isdir(path) else path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""
