"""Containers of an image: name and create one on each host for a run, a check or a command, and remove them afterwards.

A login creates the container of its host before the agent starts, so before anything of a run starts on any host. If the
launcher cannot remove a container, its first process ends it when the run there is over.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from fanout.agent.bundle import read_container_holder
from fanout.model.container_creation import ContainerPlan, build_creation
from fanout.model.container_events import ContainerLeft
from fanout.model.containers import get_engines, note_engine
from fanout.model.engines import APPTAINER
from fanout.model.hosts import Host, fold_names
from fanout.model.instance_creation import build_instance_creation
from fanout.model.mounts import Mount, check_mount_path, parse_mounts
from fanout.model.outcome import outcome_of
from fanout.model.settings import Settings
from fanout.record.index import make_run_id
from fanout.remote.container_entry import build_removal
from fanout.remote.login import ConnectionOptions
from fanout.remote.pool import Clock, ConnectionPool
from fanout.remote.transports.select import TransportSelector
from fanout.run.run_context import RunContext
from fanout.run.session import Session

REMOVAL_SECONDS = 30.0  # for the engine, after the login
LEAST_EMPTY, MOST_EMPTY = 10.0, 60.0  # seconds: a connection that broke must find the container again


def plan_containers(context: RunContext, run_id: str, directory: str = "") -> dict[str, ContainerPlan]:
    """Return host -> the container to create there. ``directory`` is the work directory to mount. Raises UsageError."""
    settings, hosts = context.settings, (*context.hosts, *context.spares)
    return {host.name: _plan_container(host, settings, run_id, directory) for host in hosts if host.image}


def _plan_container(host: Host, settings: Settings, run_id: str, directory: str) -> ContainerPlan:
    assert host.image is not None
    mounts = parse_mounts(settings.mount)
    workdir = host.workdir or directory
    if directory and workdir not in [mount.target for mount in mounts]:
        check_mount_path(workdir, f"{host.name}: work directory {workdir}")
        mounts = (Mount(source=workdir, target=workdir), *mounts)
    return ContainerPlan(
        name=f"fanout-{run_id}",
        run_id=run_id,
        image=host.image,
        engine=host.engine,
        mounts=mounts,
        arguments=settings.container_arg,
        python=host.python or "python3",
        empty_seconds=min(max(settings.lease or MOST_EMPTY, LEAST_EMPTY), MOST_EMPTY),
    )


def _build_creation(plan: ContainerPlan, holder: str) -> str:
    is_instance = plan.engine == APPTAINER.name
    return build_instance_creation(plan, holder) if is_instance else build_creation(plan, holder)


def use_images(context: RunContext, run_id: str, directory: str = "") -> RunContext:
    """Return the context in which each host with an image has a container to create. Raises UsageError."""
    plans = plan_containers(context, run_id, directory)
    if not plans:
        return context
    holder = read_container_holder()

    def name_container(host: Host) -> Host:
        return replace(host, container=plans[host.name].name) if host.name in plans else host

    return replace(
        context,
        hosts=tuple(map(name_container, context.hosts)),
        spares=tuple(map(name_container, context.spares)),
        creations={name: _build_creation(plan, holder) for name, plan in plans.items()},
    )


@contextmanager
def open_images(context: RunContext, what: str, directory: str = "") -> Iterator[RunContext]:
    """Yield the context of a command with a container on each host with an image; remove the containers at the end."""
    own = use_images(context, f"{what}-{make_run_id()}", directory)
    try:
        yield own
    finally:
        left = remove_containers(own.hosts, own.settings, own.selector, own.process.login)
        if left:
            context.process.print_message(describe_left(left))


def remove_after_run(context: RunContext, session: Session, hosts: Sequence[Host]) -> list[Host]:
    """Remove the containers of a run, except on hosts that it never reached; return the hosts where one may be left."""
    never = [
        host.name for host in session.state.all_hosts if host.trouble is not None and host.trouble.kind == "Unreachable"
    ]
    reached = [name_known_engine(session, host) for host in hosts if host.name not in never]
    left = remove_containers(reached, context.settings, context.selector, context.process.login)
    report_left(session, left)
    return left


def name_known_engine(session: Session, host: Host) -> Host:
    """Return the host with the engine in which its container was entered, if it was."""
    state = session.state.hosts.get(host.name)
    return note_engine(host, state.hello) if state is not None else host


def remove_containers(hosts: Sequence[Host], settings: Settings, selector: TransportSelector, by: str) -> list[Host]:
    """Remove the containers of images on these hosts, and look again; return the hosts where one may be left."""
    groups: dict[tuple[str, ...], list[Host]] = {}
    for host in hosts:
        if host.image and host.container:
            groups.setdefault(get_engines(host), []).append(host)
    removals = (_remove_group(group, engines, settings, selector, by) for engines, group in groups.items())
    return [host for left in removals for host in left]


def _remove_group(
    made: Sequence[Host], engines: Sequence[str], settings: Settings, selector: TransportSelector, by: str
) -> list[Host]:
    """Remove the containers on hosts with the same engines; return the hosts where one may be left."""
    name = made[0].container or ""
    options = ConnectionOptions(
        dials=settings.fanout,
        connect_timeout=settings.connect_timeout,
        by=by,
        command=build_removal(name, engines),
    )
    pool = ConnectionPool([replace(host, container=None, image=None) for host in made], selector, options, Clock())
    session = Session(pool, [host.name for host in made], [])
    until = pool.clock() + settings.connect_timeout + REMOVAL_SECONDS
    pool.start()
    while not session.state.is_over and session.state.now < until:
        session.run_step()
    pool.close()
    left = {host.host for host in outcome_of(session.state).hosts if host.code != 0}
    return [host for host in made if host.name in left]


def describe_left(hosts: Sequence[Host]) -> str:
    """Return the message about hosts where the container may be left."""
    names = fold_names(host.name for host in hosts)
    text = f"{names}: could not verify that container {hosts[0].container} is removed"
    return f"{text}. It ends by itself when its run has ended there"


def report_left(session: Session, hosts: Sequence[Host]) -> None:
    """Report each host where the container may be left as an event, except hosts that a restart has replaced."""
    for host in hosts:
        if host.name in session.state.hosts:
            session.add_event(ContainerLeft(at=session.state.now, host=host.name, container=host.container or ""))
