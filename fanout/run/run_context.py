"""Context of a command with hosts: which hosts it selects, and how fanout connects to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import field

from fanout import hostfile
from fanout.model.connection_options import IMAGE_COMMANDS
from fanout.model.containers import assign_containers, check_image_options
from fanout.model.errors import UsageError
from fanout.model.frozen import frozen
from fanout.model.host_count import HostCount, parse_host_count
from fanout.model.host_facts import HostFacts
from fanout.model.hosts import Host
from fanout.model.request import Request
from fanout.record.run_handle import RunHandle
from fanout.remote.transports.select import TransportSelector, resolve_addresses
from fanout.run.argument_order import resolve_hosts
from fanout.run.command_context import CommandContext, load_command_context
from fanout.run.process_context import ProcessContext
from fanout.text.units import count_noun


@frozen
class RunContext(CommandContext):
    """Input of a command that uses hosts. ``hosts`` are in rank order; ``notes`` are warnings about the hostfile.

    ``spares`` are the hosts of the file that may replace another one. ``count`` is the value of --nnodes.
    ``creations`` are the scripts that create the containers of hosts with an image.
    """

    hosts: tuple[Host, ...]
    selector: TransportSelector
    notes: tuple[str, ...] = ()
    spares: tuple[Host, ...] = ()
    count: HostCount | None = None
    creations: Mapping[str, str] = field(default_factory=dict)

    @property
    def host_names(self) -> tuple[str, ...]:
        return tuple(host.name for host in self.hosts)

    def print_notices(self) -> None:
        """Print the notices of the logins, each once."""
        for notice in self.selector.notices.take_new():
            self.process.print_message(notice)


def load_run_context(request: Request, process: ProcessContext) -> RunContext:
    """Return the context of a command with HOSTS. Raises HostfileError, UsageError."""
    return select_hosts(load_command_context(request, process))


def select_hosts(command: CommandContext) -> RunContext:
    """Return the context with the selected hosts. Raises HostfileError, UsageError."""
    settings, process = command.settings, command.process
    request = resolve_hosts(command.request, settings.hosts)
    file = hostfile.read_host_list(request.hosts, stdin=process.stdin, environ=process.environ)
    filters = request.filters
    count = parse_host_count(filters.nnodes) if filters.nnodes else None
    picks = bool(request.given.get("pick"))
    if picks and count is None:
        raise UsageError("--pick free: the number of hosts is missing", hint="--nnodes 4 --pick free")
    hosts = hostfile.select_hosts(
        file,
        include=filters.include,
        exclude=filters.exclude,
        nodes=filters.nodes,
        without=filters.without,
        nnodes=count.most if count and not picks else None,
        least=count.least if count and count.least < count.most and not picks else None,
        tag=filters.tag,
        nproc_per_node=settings.nproc_per_node,
    )
    spares = hostfile.select_spares(file, hosts, without=filters.without, nproc_per_node=settings.nproc_per_node)
    every = assign_containers((*hosts, *spares), settings)
    hosts, spares = every[: len(hosts)], every[len(hosts) :]
    if request.verb in IMAGE_COMMANDS.split():
        check_image_options(every, settings, picks=picks)
    if picks and count is not None:
        hosts = _list_candidates(file.source, (*hosts, *spares), count)
    path = settings.ssh_config  # ssh takes "none" for no file
    if path not in ("", "none") and (os.path.isdir(path) or not os.path.exists(path)):
        raise UsageError(f"--ssh-config {path}: no such file")
    selector = TransportSelector(settings, user=process.user, agent=process.has_ssh_agent)
    return RunContext(
        process=process,
        request=request,
        settings=settings,
        hosts=hosts,
        selector=selector,
        notes=tuple(file.notes),
        spares=spares,
        count=count,
    )


def _list_candidates(source: str, hosts: tuple[Host, ...], count: HostCount) -> tuple[Host, ...]:
    """Return the hosts to choose from, spares last. Raises UsageError if they can never be enough."""
    if len(hosts) < count.least:
        message = f"--nnodes {count.least} --pick free: {source} and the filters leave {count_noun(len(hosts), 'host')}"
        raise UsageError(message, hint=f"add hosts, or run on fewer: --nnodes {len(hosts)}")
    return hosts


def open_recorded_run(command: CommandContext, handle: RunHandle) -> RunContext:
    """Return the context of a recorded run: its own hosts, its own settings and the user who started it."""
    selector = TransportSelector(handle.settings, user=handle.user, agent=command.process.has_ssh_agent)
    return RunContext(
        process=command.process,
        request=command.request,
        settings=handle.settings,
        hosts=handle.hosts,
        selector=selector,
    )


def resolve_first_host(context: RunContext) -> HostFacts:
    """Return the facts that this machine can find without a check: the address of the first host."""
    first = context.hosts[0]
    if len(context.hosts) == 1 or first.addr or context.settings.master_addr:
        return HostFacts()
    name = context.selector.resolve_address(first)
    found = sorted(
        resolve_addresses(name), key=lambda address: ":" in address
    )  # scripts write HOST:PORT without brackets
    return HostFacts(addresses={first.name: found[0] if found else name})
