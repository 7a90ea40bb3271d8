"""The request of a check and its report, for ``fanout check`` and ``fanout run``."""

from __future__ import annotations

import ast
import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any, TextIO

from fanout.checks.engine import check_json, check_report
from fanout.checks.engine.definition import CheckRequest, UnreachableHost
from fanout.checks.software import task_imports
from fanout.model.credentials import is_secret
from fanout.model.engines import get_engine
from fanout.model.errors import FanoutError
from fanout.model.hosts import Host, fold_names
from fanout.model.state import HostState, Phase
from fanout.model.suggested_commands import CommandBuilder
from fanout.model.task_words import get_module
from fanout.preflight.run_checks import Preflight
from fanout.run.command_context import CommandContext
from fanout.run.run_context import RunContext
from fanout.run.session import Session
from fanout.run.task_files import TaskFiles
from fanout.text.paint import Painter, paint_check_report
from fanout.ui.display_mode import choose_text_style


def describe_exports(exports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return one line for each variable that fanout exports on some hosts because the check found it necessary."""
    hosts: dict[str, list[str]] = {}
    for name, pairs in exports.items():
        for variable, value in pairs.items():
            hosts.setdefault(f"{variable}={value}", []).append(name)
    reason = "the default interface does not reach the other hosts"
    return [f"exporting {pair} on {fold_names(names)}: {reason}" for pair, names in hosts.items()]


def render_report(
    title: str, result: Preflight, context: CommandContext, stream: TextIO, next_command: str = ""
) -> str:
    """Return the report as text for this terminal. In a file or a pipe, lines are not wrapped."""
    look = choose_text_style(context.process.environ, stream, context.settings)
    width = max(60, min(context.process.columns, 140)) if stream.isatty() else None
    verbose = bool(context.request.given.get("verbose"))
    style = check_report.ReportStyle(width=width, ascii=not look.unicode, verbose=verbose)
    case, findings, seconds = result.case, result.findings, result.seconds
    lines = check_report.render_check_report(title, case, findings, seconds, style, next_command)
    return "\n".join(paint_check_report(lines, Painter(look.colour))) + "\n"


def to_json(result: Preflight) -> str:
    """Return all findings as JSON; ``v`` is the version of the format."""
    table = check_json.build_check_record(result.case, result.findings, result.seconds)
    table["ok"] = result.ok
    table["learned"] = dataclasses.asdict(result.host_facts)
    return json.dumps(table, indent=2, default=str) + "\n"


def build_check_request(
    context: RunContext,
    files: TaskFiles,
    session: Session,
    *,
    only: frozenset[str] = frozenset(),
    skip: frozenset[str] = frozenset(),
    deep: bool = False,
    earlier_attempts: frozenset[str] = frozenset(),
) -> CheckRequest:
    """Return the input of the check, from a session that has connected to the hosts."""
    task, settings, directory = context.request.task, context.settings, files.directory
    states, read = session.state.hosts, _read_imports(files)
    return CheckRequest(
        hosts=context.hosts,
        workdir=directory,
        unreached={name: _to_unreachable(state) for name, state in states.items() if not state.connected},
        connected_addresses=_collect_texts(states, lambda state: state.hello.get("peer", "")),
        login_seconds={name: state.took for name, state in states.items() if state.connected},
        login_output=_collect_texts(states, lambda state: state.login_output.decode("utf-8", "replace").strip()),
        task=files.task_file,
        module=get_module(task),
        config=files.config,
        config_values=files.config_values,
        imports=read.names,
        members=read.members,
        unsure=read.unsure,
        own=_find_own_modules(read, files),
        script=settings.script,
        venv=settings.venv,
        venv_sure=settings.venv_sure,
        setup=settings.setup,
        env={name: "***" if is_secret(name, value) else value for name, value in settings.env},
        master_addr=settings.master_addr,
        master_port=settings.master_port,
        port_may_change=not settings.master_port_given,
        commands=_build_commands(context, states),
        only=only,
        skip=skip,
        deep=deep,
        earlier_attempts=earlier_attempts,
    )


def _build_commands(context: RunContext, states: Mapping[str, HostState]) -> CommandBuilder:
    """Return the builder of the commands in findings: each host as fanout reaches it, this machine without ssh."""
    settings, selector = context.settings, context.selector
    here, logins = set(), {}
    for host in context.hosts:
        try:
            if settings.transport == "local" or selector.is_here(host):
                here.add(host.name)
            else:
                logins[host.name] = selector.config.connect_path(host)[-1].by_hand
        except FanoutError:
            continue  # the ssh configuration of this host is invalid; another finding reports it
    return CommandBuilder(
        logins=logins,
        here=frozenset(here),
        containers={
            host.name: _build_entry(host, _find_engine(host, states)) for host in context.hosts if host.container
        },
        ssh_config=settings.ssh_config,
        ssh_option=settings.ssh_option,
        source=context.request.hosts,
    )


def _build_entry(host: Host, engine: str) -> str:
    """Return the command that enters the host's container, or a new one of its image, which ends with the command."""
    if host.image:
        return get_engine(engine).build_trial(host.image)
    return get_engine(engine).build_entry(host.container or "")


def _find_engine(host: Host, states: Mapping[str, HostState]) -> str:
    """Return the engine of the host's container: the given one, or the one that its agent saw."""
    return host.engine or str(states[host.name].hello.get("engine") or "docker")


def format_warnings(result: Preflight) -> list[str]:
    """Return one line for each warning of the check."""
    return [
        f"warning: {fold_names(finding.hosts)}: {finding.check}: {finding.saw}"
        for finding in check_report.merge_findings(result.warnings)
    ]


def _to_unreachable(state: HostState) -> UnreachableHost:
    if state.trouble is None:
        return UnreachableHost(message="no connection was made")
    return UnreachableHost(message=state.trouble.message, hint=state.trouble.hint, kind=state.trouble.kind)


def _collect_texts(states: Mapping[str, HostState], what: Any) -> dict[str, str]:
    notes = {name: what(state) for name, state in states.items() if state.phase is Phase.CONNECTED}
    return {name: text for name, text in notes.items() if text}


def _read_imports(files: TaskFiles) -> task_imports.ModuleImports:
    """Return the top-level imports of the task, if its file can be read here."""
    if not files.task_file.endswith(".py"):
        return task_imports.ModuleImports()

    def changes_path(name: str) -> bool:
        source = _read_source(_find_module(name, files))
        try:
            return bool(source) and task_imports.is_changing_search_path(ast.parse(source))
        except (SyntaxError, ValueError):
            return True

    return task_imports.find_imports(_read_source(os.path.join(files.directory, files.task_file)), changes_path)


def _find_own_modules(read: task_imports.ModuleImports, files: TaskFiles) -> dict[str, str]:
    """Return the local paths of the project's own modules that the task imports."""
    return {name: path for name in read.names if (path := _find_module(name, files))}


def _find_module(name: str, files: TaskFiles) -> str:
    """Return the path of the project's own package or module with this name, or ""."""
    for folder in (files.import_folder, "", "VeOmni"):
        place = os.path.join(files.directory, folder, name)
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
