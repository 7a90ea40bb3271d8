"""``fanout hosts``: show how fanout reads a hostfile, and how it logs in to each host."""

from __future__ import annotations

import json
from collections.abc import Sequence

from fanout import hostfile
from fanout.model.exit_status import ExitStatus
from fanout.model.hosts import Host
from fanout.model.request import Request
from fanout.remote.transports.login_explanation import LoginExplainer, LoginReport
from fanout.run.argument_order import resolve_hosts
from fanout.run.command_context import CommandContext
from fanout.run.load_settings import load_settings
from fanout.run.process_context import ProcessContext
from fanout.run.run_context import select_hosts
from fanout.text.paint import BOLD, Painter
from fanout.ui.display_mode import choose_text_style


def run_hosts(request: Request, process: ProcessContext) -> int:
    """Run the command; return 0. It contacts no host and reads only HOSTS and ssh_config."""
    loaded = load_settings(request, process)
    if request.given["explain"]:
        hosts = resolve_hosts(request, loaded.settings.hosts).hosts
        source = hostfile.load_source(hosts, stdin=process.stdin, environ=process.environ)
        process.stdout.write(hostfile.explain_lines(source.data, hostfile.parse_source(source)).rstrip("\n") + "\n")
        return ExitStatus.SUCCESS
    context = select_hosts(CommandContext(process=process, request=request, settings=loaded.settings))
    chosen, selector = context.hosts, context.selector

    def resolve(host: Host) -> tuple[str, str, int]:
        options = selector.config.resolve_host(host)
        return options.hostname, options.user, options.port

    if request.given["ssh"]:
        selector.check_config(chosen)
        explainer = LoginExplainer(selector, loaded.settings, loaded.origins)
        logins = [explainer.explain_login(host) for host in chosen]
        shown = (
            json.dumps([_login_to_dict(login) for login in logins], indent=2)
            if request.given["as_json"]
            else render_logins(logins)
        )
        process.stdout.write(shown + "\n")
    elif request.given["as_json"]:
        process.stdout.write(json.dumps(hostfile.to_dicts(chosen, resolve), indent=2) + "\n")
    else:
        paint = Painter(choose_text_style(process.environ, process.stdout, loaded.settings).colour)
        header, _, rows = hostfile.render_hosts(chosen, resolve).rstrip("\n").partition("\n")
        process.stdout.write(f"{paint(BOLD, header)}\n{rows}\n")
        for note in context.notes:
            process.print_message(note)
    return ExitStatus.SUCCESS


def render_logins(logins: Sequence[LoginReport]) -> str:
    """Return the logins as text: one line for each value, with its source."""
    rows: list[tuple[str, str, str]] = []
    for login in logins:
        rows.append((login.host, "", ""))
        for fact in login.facts:
            values = (fact.value or ("none",)) if isinstance(fact.value, tuple) else (str(fact.value),)
            rows += [
                ("" if number else f"  {fact.name}", value, "" if number else fact.origin)
                for number, value in enumerate(values)
            ]
        if login.by_hand:
            rows.append(("  by hand", login.by_hand, ""))
    widths = [max(len(row[at]) for row in rows if row[2]) for at in (0, 1)]
    lines = (f"{name:{widths[0]}}  {value:{widths[1]}}  {origin}".rstrip() for name, value, origin in rows)
    return "\n".join(lines)


def _login_to_dict(login: LoginReport) -> dict[str, object]:
    facts = {
        fact.name.replace(" ", "_"): {
            "value": list(fact.value) if isinstance(fact.value, tuple) else fact.value,
            "from": fact.origin,
        }
        for fact in login.facts
    }
    return {"host": login.host, **facts, "by_hand": login.by_hand or None}
