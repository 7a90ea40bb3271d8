"""Launch plan as text: the output of a dry run, and the plan in the record. Pure.

The record contains no value that the user gave by --env, --env-file or env.X= in the hostfile. A dry run prints these
values, because the user pastes its blocks into a shell. It masks values that look like a credential.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from fanout.model.container_creation import ContainerPlan, build_block_start
from fanout.model.credentials import is_secret
from fanout.model.engines import APPTAINER, get_engine
from fanout.model.hosts import Host
from fanout.model.instance_creation import build_instance_block
from fanout.model.plan import Default, EnvValue, LaunchPlan, NodePlan

_END_OF_BLOCK = "END_OF_FANOUT_BLOCK"


def render_plan(
    plan: LaunchPlan, containers: Mapping[str, ContainerPlan] | None = None, *, secrets: bool = False
) -> str:
    """Return one block per host, ready to paste into a shell there. Mask secret values unless ``secrets``.

    ``containers`` are those that the blocks create, by host.
    """
    made = containers or {}
    blocks = [_render_node(node, made.get(node.host.name), secrets=secrets) for node in plan.nodes]
    return "\n\n".join(blocks) + "\n"


def _render_node(node: NodePlan, created: ContainerPlan | None, *, secrets: bool) -> str:
    host = node.host
    title = f"# {host.name}  (node rank {node.rank})"
    if not host.container and created is None:
        return "\n".join([title, *_render_commands(node, secrets=secrets)])
    *lines, last = _render_commands(node, secrets=secrets)
    if created is not None:
        is_instance = created.engine == APPTAINER.name
        *before, enter = build_instance_block(created) if is_instance else build_block_start(created, host.engine)
        start = [f"{title}, in a new container of image {created.image}", "(", *before]
    else:
        start, enter = [f"{title}, in container {host.container}"], f"{_build_entry(host)} bash -s"
    return "\n".join(
        [
            *start,
            f"{enter} <<'{_END_OF_BLOCK}'",
            *lines,
            f"{last} </dev/null",  # the shell reads the block from stdin, and the script must not
            _END_OF_BLOCK,
            *([")"] if created is not None else []),
        ]
    )


def _build_entry(host: Host) -> str:
    """Return the command that enters the container of the host, with the engine that the host has."""
    words = get_engine(host.engine).build_entry(host.container or "")
    return words if host.engine else f"$(command -v docker || command -v podman) {words.partition(' ')[2]}"


def _render_commands(node: NodePlan, *, secrets: bool) -> list[str]:
    """Return the lines of a shell: the work directory, the exports and the command."""
    lines = [f"cd {shlex.quote(node.cwd)}"]
    for name, value in node.env:
        text = "***" if isinstance(value, str) and is_secret(name, value) and not secrets else value
        lines.append(render_export(name, text))
        if name == "MASTER_PORT" and node.nproc is None:
            lines.append("export NPROC_PER_NODE=$(nvidia-smi --list-gpus | wc -l)  # no slots= for this host")
    return [*lines, shlex.join(node.argv)]


_PLAIN = re.compile(r"[\w./:,@%+=-]*")  # needs no quoting between double quotes, nor in ${…:-here}


def render_export(name: str, value: EnvValue) -> str:
    """Return the shell line that exports a variable in the work directory."""
    if isinstance(value, str):
        quoted = f'"{value}"' if _PLAIN.fullmatch(value) else shlex.quote(value)
        return f"export {name}={value if re.fullmatch(r'[0-9]+', value) else quoted}"
    condition = f"[ -e {shlex.quote(value.only_if)} ] && " if value.only_if else ""
    if isinstance(value, Default):
        if _PLAIN.fullmatch(value.value):
            return f'{condition}export {name}="${{{name}:-{value.value}}}"'
        return f'{condition}{{ [ -n "${{{name}:-}}" ] || export {name}={shlex.quote(value.value)}; }}'
    before = "".join(f"{_quote_directory(entry)}:" for entry in value.before)
    after = ":".join(_quote_directory(entry) for entry in value.after)
    if not after:
        return f'{condition}export {name}="{before[:-1]}${{{name}:+:${name}}}"'
    return f'{condition}export {name}="{before}${{{name}:+${name}:}}{after}"'


def _quote_directory(entry: str) -> str:
    """Return a directory for use between double quotes. A relative path is below the work directory."""
    text = re.sub(r'([\\"$`])', r"\\\1", entry)
    if entry.startswith("/"):
        return text
    return f"$(pwd)/{text}" if entry else "$(pwd)"


def plan_to_dict(plan: LaunchPlan) -> dict[str, object]:
    """Return the plan for the record: the command and the exports of each host. Mask the user's values."""
    return {
        "v": 1,
        "run": plan.run_id,
        "task": list(plan.task),
        "master_addr": plan.master_addr,
        "master_port": plan.master_port,
        "world_size": plan.world_size,
        "nodes": [
            {
                "host": node.host.name,
                "rank": node.rank,
                "nproc": node.nproc,
                "gpus": list(node.gpu_ids),
                "cwd": node.cwd,
                "argv": list(node.argv),
                "env": {
                    name: "***" if name in node.private or is_secret(name) else _value_to_json(value)
                    for name, value in node.env
                },
            }
            for node in plan.nodes
        ],
    }


def _value_to_json(value: EnvValue) -> object:
    if isinstance(value, str):
        return value
    if isinstance(value, Default):
        return {"default": value.value, "if": value.only_if}
    return {"before": list(value.before), "after": list(value.after), "if": value.only_if}
