"""Answers of the hosts after a failure: stacks of ranks, kernel log lines, notes about the host.

The answers come from hosts, so the parsers check the shape of every value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fanout.diagnose.evidence import Sighting, Stand
from fanout.diagnose.signatures import Book, fields_of, filled

FULL = 0.98
_LONGEST = 300
_RAS = re.compile(  # its ranks are those of a communicator, not of the run: only a hint
    r"(?i)missing|\bdead\b|launched up to operation|on node \S+ managing GPU|managed by process \d+ on node"
)
_MOST_NOTES = 12


def stands(host: str, entries: Any) -> Iterator[Stand]:
    """Parse the stacks in an answer to ``stacks``, or under ``stacks`` and ``ends`` of an answer to ``aftermath``."""
    for entry in _objects(entries):
        try:
            rank = entry.get("rank")
            yield Stand(
                host=host,
                rank=None if rank is None else int(rank),
                pid=int(entry["pid"]),
                state=str(entry.get("state", "?"))[:1],
                frames=_frames(entry["stack"]),
                wchan=str(entry.get("wchan", ""))[:80],
                moved=entry.get("moved"),
                crash=str(entry.get("crash", ""))[:80],
                way=str(entry.get("way", ""))[:20],
                untold=str(entry.get("untold", ""))[:_LONGEST],
                native=_frames(entry.get("native", ())),
            )
        except (KeyError, TypeError, ValueError):
            continue


def _frames(entries: Any) -> tuple[tuple[str, int, str], ...]:
    return tuple((str(file), int(line), str(name)) for file, line, name in entries)


def sightings(host: str, value: Mapping[str, Any], at: float, book: Book) -> Iterator[Sighting]:
    """Yield the kernel log lines that match a signature of role proof or root."""
    for number, text in enumerate(_strings(value.get("kernel")), 1):
        found = book.look(text)
        if found is None or found[0].role not in ("proof", "root"):
            continue
        signature, match = found
        fields = fields_of(match)
        yield Sighting(
            at=at, host=host, rank=None, signature=signature.id, role="proof", kind=signature.kind,
            says=filled(signature.says, fields), advice=filled(signature.advice, fields), text=text.strip(),
            fields=fields, file=f"kernel of {host}", line=number,
        )  # fmt: skip


def errors(host: str, value: Mapping[str, Any], at: float, book: Book, base: int | None) -> Iterator[Sighting]:
    """Parse the errors in torch's error files. Their times are whole seconds."""
    for entry in _objects(value.get("errors")):
        local, text = entry.get("local_rank"), str(entry.get("message", "")).partition("\n")[0]
        found = book.named(text) if text else None
        if found is None or found[0].role == "noise":
            continue
        signature, fields = found
        yield Sighting(
            at=at - _number(entry.get("age")), host=host, signature=signature.id, role=signature.role,
            rank=base + local if base is not None and isinstance(local, int) else None, kind=signature.kind,
            says=filled(signature.says, fields), advice=filled(signature.advice, fields), text=text, fields=fields,
            file=str(entry.get("path", "")), line=0, traceback=tuple(str(entry.get("stack", "")).splitlines()),
        )  # fmt: skip


def notes(host: str, value: Mapping[str, Any], *, boot_id: str = "") -> tuple[str, ...]:
    """Return unusual facts about the host as sentences; usually none."""
    out: list[str] = []
    if boot_id and value.get("boot_id") and value["boot_id"] != boot_id:
        out.append(f"{host} was rebooted during the run: its boot id changed")
    out += [f"{host}'s kernel: {text}" for text in _strings(value.get("kernel"))[-4:]]
    for space in _objects(value.get("space")):
        for key, word in (("used", "full"), ("inodes", "out of inodes")):
            if _number(space.get(key)) >= FULL:
                share = 100 * _number(space.get(key))
                out.append(f"{host}: {space.get('path')} is {share:.0f} % {word} ({space.get('free_mb')} MB free)")
    memory = value.get("memory")
    if isinstance(memory, Mapping) and _number(memory.get("MemTotal")):
        share = _number(memory.get("MemAvailable")) / _number(memory.get("MemTotal"))
        if share < 0.03:
            out.append(f"{host}: {100 * share:.0f} % of its memory is available")
    for process in _objects(value.get("stuck")):
        doing = "waits in the kernel" if process.get("state") == "D" else "is stopped"
        out.append(f"{host}: pid {process.get('pid')} {doing} {process.get('wchan') or ''}: {process.get('cmd')}")
    out += [
        f"{host}: InfiniBand {port.get('port')} counted {port.get('more')} more of {port.get('counter')} during the run: "
        "its cable, optics or switch port"
        for port in _objects(value.get("ports"))
    ]
    out += [f"{host}: NCCL reports: {text.strip()}" for text in _strings(value.get("ras")) if _RAS.search(text)]
    found = [str(dump.get("path")) for dump in _objects(value.get("flights"))]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        out.append(f"{host}: a dump of torch's flight recorder: {found[0]}{more} (torchfrtrace reads them)")
    return tuple(text[:_LONGEST] for text in out[:_MOST_NOTES])


def addresses(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses by which other hosts may name this host."""
    return tuple(_strings(value.get("addresses")))


def _strings(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
