"""``fanout hosts``: what was understood of a hostfile."""

from __future__ import annotations

import json

from fanout import hostfile
from fanout.arguments import Request
from fanout.hosts import Host
from fanout.verbs.common import Edge, hosts_of, picker_of, settings_of


def hosts(request: Request, edge: Edge) -> int:
    """The verb; no host is touched, only ssh_config is read."""
    settings = settings_of(request, edge)
    if request.given["explain"]:
        source = hostfile.load(request.hosts, stdin=edge.stdin, environ=edge.environ)
        edge.stdout.write(hostfile.explain(source.data, hostfile.parsed(source)).rstrip("\n") + "\n")
        return 0
    file, chosen = hosts_of(request, settings, edge)
    config = picker_of(settings, edge).config

    def resolve(host: Host) -> tuple[str, str, int]:
        options = config.resolve(host)
        return options.hostname, options.user, options.port

    if request.given["as_json"]:
        edge.stdout.write(json.dumps(hostfile.as_dicts(chosen, resolve), indent=2) + "\n")
    else:
        edge.stdout.write(hostfile.show(chosen, resolve).rstrip("\n") + "\n")
        for note in file.notes:
            edge.say(note)
    return 0
