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
from fanout.checks.model import CheckRequest, UnreachableHost
from fanout.commands import CommandBuilder
from fanout.credentials import is_secret
from fanout.errors import FanoutError
from fanout.events import Event
from fanout.hosts import Host, fold_names
from fanout.launch import Session
from fanout.plan import LaunchPlan
from fanout.preflight import Preflight, PreflightFacts
from fanout.settings import Settings
from fanout.state import HostState, Phase, RunState
from fanout.transports.pick import TransportSelector
from fanout.verbs.common import (
    ProcessContext,
    build_selector,
    check_task_exists,
    find_work_directory,
    has_script_here,
    open_connections,
    print_notices,
    read_hosts,
    read_settings,
    read_task_config,
)
from fanout.verbs.deep import build_torch_test
from fanout.views.base import choose_display_mode
from fanout.views.out import unwrap_stream
from fanout.views.sanitise import sanitize_line


class _ProgressLine:
    """Progress line on a terminal while hosts answer; prints nothing in a pipe."""

    broken = False

    def __init__(self, edge: ProcessContext) -> None:
        self._stderr = unwrap_stream(edge.stderr)
        self._shown = ""
        self._doing = False
        self._on = edge.stderr.isatty()

    def __call__(self, event: Event, state: RunState) -> None:
        if not self._doing:
            up = sum(host.linked for host in state.all_hosts)
            self._print_line(f"{up}/{len(state.all_hosts)} hosts answer …")

    def show_step(self, text: str) -> None:
        """Show the current step instead of the number of hosts that answer."""
        self._doing = True
        self._print_line(f"{text} …")

    def _print_line(self, text: str) -> None:
        if self._on and text != self._shown:
            self._shown = text
            self._stderr.write(f"\r\x1b[K{sanitize_line(text, colour=False)}")
            self._stderr.flush()

    def close(self) -> None:
        if self._shown:
            self._stderr.write("\r\x1b[K")
            self._stderr.flush()


def run_check(request: Request, edge: ProcessContext) -> int:
    """Run the command; return the exit status."""
    given = request.given
    if given["listing"]:
        edge.stdout.write("\n".join(explain.render_check_list(CATALOGUE, edge.columns)) + "\n")
        return 0
    if given["explain"]:
        edge.stdout.write(
            "\n".join(explain.render_check(explain.find_check(CATALOGUE, given["explain"]), edge.columns)) + "\n"
        )
        return 0
    only, skip = (explain.validate_check_names(CATALOGUE, _split_names(given[name])) for name in ("only", "skip"))
    deep = given["deep"] or any(name.split("-")[0] == "deep" for name in only)
    settings = read_settings(request, edge)
    hosts = read_hosts(request, settings, edge)[1]
    directory = find_work_directory(settings, edge)
    check_task_exists(request.task, directory)
    config = read_task_config(request.task, directory)
    picker = build_selector(settings, edge)
    names = [host.name for host in hosts]
    progress = _ProgressLine(edge)
    began = time.monotonic()
    with open_connections(hosts, settings, picker, edge) as fan:
        session = Session(fan, names, [progress])
        session.connect_hosts()
        print_notices(picker, edge)
        result = None
        if not session.state.interrupts:
            asked = build_check_request(session, hosts, request.task, directory, settings, config)
            typed = build_commands(hosts, settings, picker, request.hosts or "")
            asked = dataclasses.replace(asked, only=only, skip=skip, deep=deep, commands=typed)
            test = build_torch_test(session, request.task, settings, directory, progress.show_step) if deep else None
            planner = _build_planner(hosts, request.task, settings, directory)
            result = preflight.run(asked, session, plan=planner, deep=test, began=began)
        session.release_hosts()
    progress.close()
    if session.state.interrupts or result is None:
        edge.print_message("interrupted")
        return 128 + session.state.interrupts[0]
    edge.stdout.write(
        to_json(result)
        if given["as_json"]
        else render_report(f"fanout check {request.hosts}", result, edge, edge.stdout)
    )
    return result.compute_exit_code(strict=given["strict"])


def _build_planner(
    hosts: tuple[Host, ...], task: tuple[str, ...], settings: Settings, directory: str
) -> Callable[[PreflightFacts], LaunchPlan]:
    """Return a function that makes the plan of `run` from the facts that the check found."""

    def made(learned: PreflightFacts) -> LaunchPlan:
        script = has_script_here(settings, directory)
        return plan.make_plan(
            hosts, task, settings, run_id="check", cwd=directory, has_script=script, learned=to_plan_facts(learned)
        )

    return made


def to_plan_facts(learned: PreflightFacts) -> plan.HostFacts:
    """Return the facts that the check found, in the form that the plan takes."""
    return plan.HostFacts(
        master_addr=learned.master_addr, gpus=learned.gpus, env=learned.exports, address=learned.addresses
    )


def describe_exports(exports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return one line for each variable that fanout exports on some hosts because the check found it necessary."""
    hosts: dict[str, list[str]] = {}
    for name, pairs in exports.items():
        for variable, value in pairs.items():
            hosts.setdefault(f"{variable}={value}", []).append(name)
    reason = "the default interface does not reach the other hosts"
    return [f"exporting {pair} on {fold_names(names)}: {reason}" for pair, names in hosts.items()]


def _split_names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def render_report(title: str, result: Preflight, edge: ProcessContext, stream: TextIO) -> str:
    """Return the report as text for this terminal. In a file or a pipe, lines are not wrapped."""
    look = choose_display_mode(edge.environ, isatty=stream.isatty(), encoding=getattr(stream, "encoding", None))
    width = max(60, min(edge.columns, 140)) if stream.isatty() else None
    style = report.ReportStyle(width=width, ascii=not look.unicode)
    return "\n".join(report.render_check_report(title, result.case, result.findings, result.seconds, style)) + "\n"


def to_json(result: Preflight) -> str:
    """Return all findings as JSON; ``v`` is the version of the format."""
    table = record.build_check_record(result.case, result.findings, result.seconds)
    table["ok"] = not result.failures and not result.case.request.unreached
    table["learned"] = dataclasses.asdict(result.learned)
    return json.dumps(table, indent=2, default=str) + "\n"


def build_check_request(
    session: Session,
    hosts: tuple[Host, ...],
    task: tuple[str, ...],
    directory: str,
    settings: Settings,
    config: tuple[str, Any],
) -> CheckRequest:
    """Return the input of the check, from a session that has connected to the hosts."""
    states, read = session.state.hosts, _read_imports(task, directory)
    return CheckRequest(
        hosts=hosts,
        workdir=directory,
        unreached={name: _to_unreachable(state) for name, state in states.items() if not state.linked},
        dialled=_collect_texts(states, lambda state: state.hello.get("peer", "")),
        login_seconds={name: state.took for name, state in states.items() if state.linked},
        noise=_collect_texts(states, lambda state: state.noise.decode("utf-8", "replace").strip()),
        task=task[0] if task else "",
        config=config[0],
        config_values=config[1],
        imports=read.names,
        unsure=read.unsure,
        own=_find_own_modules(read, task, directory),
        script=settings.script,
        venv=settings.venv,
        venv_sure=settings.venv_sure,
        setup=settings.setup,
        env={name: "***" if is_secret(name, value) else value for name, value in settings.env},
        master_addr=settings.master_addr,
        master_port=settings.master_port,
    )


def build_commands(
    hosts: tuple[Host, ...], settings: Settings, picker: TransportSelector, source: str
) -> CommandBuilder:
    """Return the builder of the commands in findings: each host as fanout reaches it, this machine without ssh."""
    here, logins = set(), {}
    for host in hosts:
        try:
            if settings.transport == "local" or picker.is_here(host):
                here.add(host.name)
            else:
                logins[host.name] = picker.config.connect_path(host)[-1].by_hand
        except FanoutError:
            continue  # the ssh configuration of this host is invalid; another finding reports it
    return CommandBuilder(
        logins=logins,
        here=frozenset(here),
        ssh_config=settings.ssh_config,
        ssh_option=settings.ssh_option,
        source=source,
    )


def format_warnings(result: Preflight) -> list[str]:
    """Return one line for each warning of the check."""
    return [
        f"warning: {fold_names(finding.hosts)}: {finding.check}: {finding.saw}"
        for finding in report.merge_findings(result.warnings)
    ]


def _to_unreachable(state: HostState) -> UnreachableHost:
    if state.trouble is None:
        return UnreachableHost(message="no connection was made")
    return UnreachableHost(message=state.trouble.message, hint=state.trouble.hint, kind=state.trouble.kind)


def _collect_texts(states: Mapping[str, HostState], what: Any) -> dict[str, str]:
    told = {name: what(state) for name, state in states.items() if state.phase is Phase.CONNECTED}
    return {name: text for name, text in told.items() if text}


def _read_imports(task: tuple[str, ...], directory: str) -> imports.ModuleImports:
    """Return the top-level imports of the task, if its file can be read here."""
    if not task or not task[0].endswith(".py"):
        return imports.ModuleImports()

    def changes_path(name: str) -> bool:
        source = _read_source(_find_module(name, task[0], directory))
        try:
            return bool(source) and imports.is_changing_search_path(ast.parse(source))
        except (SyntaxError, ValueError):
            return True

    return imports.find_imports(_read_source(os.path.join(directory, task[0])), changes_path)


def _find_own_modules(read: imports.ModuleImports, task: tuple[str, ...], directory: str) -> dict[str, str]:
    """Return the local paths of the project's own modules that the task imports."""
    return {name: path for name in read.names if task and (path := _find_module(name, task[0], directory))}


def _find_module(name: str, task: str, directory: str) -> str:
    """Return the path of the project's own package or module with this name, or ""."""
    for folder in (os.path.dirname(task), "", "VeOmni"):
        place = os.path.join(directory, folder, name)
        for path in (place, f"{place}.py"):
            if os.path.isdir(path) or os.path.isfile(path):
                return path
    return ""


def _read_source(path: str) -> str:
    """Return the source of a module, or of a package's ``__init__.py``; "" if it cannot be read."""
    try:
        with open(os.path.join(path, "__init__.py") if os.path.isdir(path) else path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""
