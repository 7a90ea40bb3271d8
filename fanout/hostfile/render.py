"""Hostfile output: the table, JSON, the explanation, and an equivalent plain hostfile."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from fanout.hostfile.line_tokens import quote_value, strip_comment
from fanout.hostfile.masking import mask_secrets
from fanout.hostfile.other_launchers import PEERS, PeerReading, detect_dialect
from fanout.hostfile.parse import detect_format
from fanout.model.credentials import is_secret
from fanout.model.hosts import Host, HostFile
from fanout.text.sanitize import escape_invisible
from fanout.text.table import format_table
from fanout.text.units import count_noun

COMMAND_LINE = "HOSTS"  # the file of a host that the command line names
Resolve = Callable[[Host], tuple[str, str, int]]  # host -> (address, user, port) by ssh_config

_NEWLINE = re.compile(r"\r\n|\n|\r")
_HEAD = ("node", "host", "address", "user", "port", "slots", "attributes", "from")


def render_hosts(hosts: Sequence[Host], resolve: Resolve) -> str:
    """Render the table of ``fanout hosts``: one row per host, by node rank; and the number of hosts and processes."""
    rows: list[tuple[str, ...]] = []
    for rank, host in enumerate(hosts):
        address, user, port = resolve(host)
        slots = "per GPU" if host.slots is None else str(host.slots)
        attributes = " ".join(_list_attributes(host))
        rows.append((str(rank), host.name, address, user, str(port), slots, attributes, _format_origin(host)))
    table = format_table([[escape_invisible(cell) for cell in row] for row in rows], header=_HEAD)
    return "\n".join([*table, "", _count_processes(hosts)])


def _format_origin(host: Host) -> str:
    """Return the file and line of a host."""
    return "command line" if host.origin.file == COMMAND_LINE else str(host.origin)


def _count_processes(hosts: Sequence[Host]) -> str:
    """Return the total: ``2 hosts, 16 processes``. A host without slots has one process per GPU."""
    total = sum(host.slots or 0 for host in hosts)
    unknown = sum(host.slots is None for host in hosts)
    if not unknown:
        return f"{count_noun(len(hosts), 'host')}, {count_noun(total, 'process')}"
    per_gpu = f"one process per GPU on {unknown if total else 'each'}"
    return f"{count_noun(len(hosts), 'host')}, " + (
        f"{count_noun(total, 'process')} and {per_gpu}" if total else per_gpu
    )


def to_dicts(hosts: Sequence[Host], resolve: Resolve | None = None) -> list[dict[str, object]]:
    """Return one object per host for ``--json``. Without ``resolve``, user and port come from the file, else null."""
    return [_to_dict(rank, host, resolve) for rank, host in enumerate(hosts)]


def _to_dict(rank: int, host: Host, resolve: Resolve | None) -> dict[str, object]:
    address, user, port = resolve(host) if resolve else (host.hostname, host.user, host.port)
    return {
        "rank": rank,
        "host": host.name,
        "address": address,
        "user": user,
        "port": port,
        "slots": host.slots,
        "gpus": list(host.gpus),
        "addr": host.addr,
        "iface": host.iface,
        "env": {name: _mask_secret(name, value) for name, value in host.env},
        "python": host.python,
        "workdir": host.workdir,
        "container": host.container,
        "image": host.image,
        "engine": host.engine,
        "type": host.kind,
        "spare": host.spare,
        "tags": list(host.tags),
        "extra": {name: _mask_secret(name, value) for name, value in host.extra},
        "file": host.origin.file,
        "line": host.origin.line,
    }


def _list_attributes(host: Host) -> list[str]:
    """Return the attributes without a column of their own, secrets masked."""
    texts = [f"gpus={','.join(host.gpus)}"] if host.gpus else []
    texts += [f"{name}={quote_value(value)}" for name, value in _list_texts(host) if name != "hostname"]
    texts += [f"env.{name}={quote_value(_mask_secret(name, value))}" for name, value in host.env]
    texts += ["spare"] if host.spare else []
    texts += [f"tag={','.join(host.tags)}"] if host.tags else []
    return texts + [f"{name}={quote_value(_mask_secret(name, value))}" for name, value in host.extra]


def _list_texts(host: Host) -> list[tuple[str, str]]:
    named = (
        ("hostname", host.hostname),
        ("addr", host.addr),
        ("iface", host.iface),
        ("python", host.python),
        ("workdir", host.workdir),
        ("container", host.container),
        ("image", host.image),
        ("engine", host.engine),
        ("type", host.kind),
    )
    return [(name, value) for name, value in named if value is not None]


def _mask_secret(name: str, value: str) -> str:
    return "***" if is_secret(name, value) else value


def dump_hostfile(hostfile: HostFile) -> str:
    """Write a plain hostfile with the same hosts: one line each, all attributes (secrets too)."""
    return "".join(f"{_dump_line(host)}\n" for host in hostfile.hosts)


def _dump_line(host: Host) -> str:
    words = [f"{host.user}@{host.name}" if host.user is not None else host.name]
    if host.port is not None:
        words.append(f"port={host.port}")
    if host.slots is not None and host.slots != len(host.gpus):
        words.append(f"slots={host.slots}")
    if host.gpus:
        words.append(f"gpus=[{','.join(host.gpus)}]")
    words += [f"{name}={quote_value(value)}" for name, value in _list_texts(host)]
    words += [f"env.{name}={quote_value(value)}" for name, value in host.env]
    words += ["spare"] if host.spare else []
    words += [f"tag={','.join(host.tags)}"] if host.tags else []
    words += [f"{name}={quote_value(value)}" for name, value in host.extra]
    return " ".join(words)


def explain_lines(data: bytes, hostfile: HostFile) -> str:
    """Explain each line: its dialect, how fanout reads it, and how other launchers would read it.

    In YAML and JSON, only the lines with a host are explained. No other launcher reads these files as a list of hosts.
    """
    lines: list[str] = []
    by_line: dict[int, list[Host]] = {}
    for host in hostfile.hosts:
        if host.origin.file == hostfile.source:
            by_line.setdefault(host.origin.line, []).append(host)
    text = data.decode("utf-8-sig", "replace")
    if detect_format(text, file=hostfile.source) == "yaml":
        return _explain_tree(text, hostfile.source, by_line)
    for number, line in enumerate(_NEWLINE.split(text), 1):
        if not strip_comment(line).strip() and number not in by_line:
            continue
        line = mask_secrets(line).text
        lines.append(f"{hostfile.source}:{number}: {escape_invisible(line.strip())}")
        here = by_line.get(number, [])
        lines.append(f"  read as    {_describe_ours(here)}  [{detect_dialect(line)}]")
        lines += _describe_others(line, here)
    return "\n".join(lines)


def _explain_tree(text: str, source: str, by_line: Mapping[int, list[Host]]) -> str:
    """Explain the lines of a YAML or JSON file that contain hosts."""
    lines: list[str] = []
    for number, line in enumerate(_NEWLINE.split(text), 1):
        if number in by_line:
            lines.append(f"{source}:{number}: {escape_invisible(mask_secrets(line).text.strip())}")
            lines.append(f"  read as    {_describe_ours(by_line[number])}")
    kind = "JSON" if text.lstrip()[:1] in ("{", "[") else "YAML"
    return "\n".join([*lines, f"{', '.join(PEERS)} do not read {kind}"])


def _describe_ours(hosts: list[Host]) -> str:
    return _describe_hosts(tuple((host.name, host.slots) for host in hosts)) if hosts else "no host of its own"


def _describe_others(line: str, hosts: list[Host]) -> list[str]:
    """Return a row for each different reading, with the launchers that share it."""
    ours = tuple((host.name, host.slots) for host in hosts)
    bare = tuple((host.name, None) for host in hosts)
    phrases: dict[str, list[str]] = {}
    for peer, read in PEERS.items():
        reading = read(line)
        if reading == ours or (reading == bare and peer in ("pdsh", "clush")):
            continue
        phrases.setdefault(_describe_peer(peer, reading), []).append(peer)
    return [f"  {', '.join(peers)}: {phrase}" for phrase, peers in phrases.items()]


def _describe_peer(peer: str, reading: PeerReading) -> str:
    if reading is None:
        return "refused"
    if not reading:
        return "nothing"
    return _describe_hosts(reading, "all of its CPUs" if peer == "Open MPI" else "")


def _describe_hosts(reading: Iterable[tuple[str, int | None]], uncounted: str = "one process per GPU") -> str:
    pairs = list(reading)
    shown = []
    for name, slots in pairs[:4]:
        count = count_noun(slots, "slot") if slots is not None else uncounted
        shown.append(f"{escape_invisible(name)!r} ({count})" if count else f"{escape_invisible(name)!r}")
    more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
    return ", ".join(shown) + more
