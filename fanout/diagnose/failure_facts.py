"""Answers of the hosts after a failure: stacks of ranks, kernel log lines, notes about the host.

The answers come from hosts, so the parsers check the shape of every value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fanout.diagnose.evidence import LogMatch, StackSnapshot, describe_new_boot
from fanout.diagnose.exception_chain import assess_chain
from fanout.diagnose.signatures import SignatureSet, extract_fields, fill_template
from fanout.model.process_names import name_process

FULL = 0.98
_LONGEST = 300
_RAS = re.compile(  # its ranks are those of a communicator, not of the run: only a hint
    r"(?i)missing|\bdead\b|launched up to operation|on node \S+ managing GPU|managed by process \d+ on node"
)
_MOST_NOTES = 12


def parse_stacks(host: str, *lists: Any, container: str = "") -> Iterator[StackSnapshot]:
    """Parse the stacks in an answer to ``stacks``, or under ``stacks`` and ``ends`` of an answer to ``aftermath``."""
    for entry in (entry for entries in lists for entry in _filter_objects(entries)):
        try:
            rank = entry.get("rank")
            yield StackSnapshot(
                host=host,
                rank=None if rank is None else int(rank),
                pid=int(entry["pid"]),
                state=str(entry.get("state", "?"))[:1],
                frames=_parse_frames(entry["stack"]),
                wchan=str(entry.get("wchan", ""))[:80],
                moved=entry.get("moved"),
                crash=str(entry.get("crash", ""))[:80],
                way=str(entry.get("way", ""))[:20],
                untold=str(entry.get("untold", ""))[:_LONGEST],
                native=_parse_frames(entry.get("native", ())),
                container=container,
            )
        except (KeyError, TypeError, ValueError):
            continue


def _parse_frames(entries: Any) -> tuple[tuple[str, int, str], ...]:
    return tuple((str(file), int(line), str(name)) for file, line, name in entries)


def match_kernel_lines(host: str, value: Mapping[str, Any], at: float, book: SignatureSet) -> Iterator[LogMatch]:
    """Yield the kernel log lines that match a signature of role root."""
    for number, text in enumerate(_filter_strings(value.get("kernel")), 1):
        found = book.match_line(text)
        if found is None or found[0].role != "root":
            continue
        signature, match = found
        fields = extract_fields(match)
        yield LogMatch(
            at=at,
            host=host,
            rank=None,
            signature=signature.id,
            role="root",
            kind="kernel",
            says=fill_template(signature.says, fields),
            advice=fill_template(signature.advice, fields),
            text=text.strip(),
            fields=fields,
            file=f"kernel of {host}",
            line=number,
        )


def remove_pid(match: LogMatch) -> LogMatch:
    """Return the match without the pid in its fields: it belongs to another pid namespace than those of the run."""
    return replace(match, fields={name: text for name, text in match.fields.items() if name != "pid"})


def parse_error_files(
    host: str, value: Mapping[str, Any], at: float, book: SignatureSet, base: int | None
) -> Iterator[LogMatch]:
    """Parse the errors in torch's error files. Their times are whole seconds."""
    for entry in _filter_objects(value.get("errors")):
        local, text = entry.get("local_rank"), str(entry.get("message", "")).partition("\n")[0]
        found = book.match_exception(text) if text else None
        if found is None or found[0].role == "noise":
            continue
        signature, fields = found
        stack = tuple(str(entry.get("stack", "")).splitlines())
        match = LogMatch(
            at=at - _to_number(entry.get("age")),
            host=host,
            signature=signature.id,
            role=signature.role,
            rank=base + local if base is not None and isinstance(local, int) else None,
            kind=signature.kind,
            says=fill_template(signature.says, fields),
            advice=fill_template(signature.advice, fields),
            text=text,
            fields=fields,
            file=str(entry.get("path", "")),
            line=0,
            traceback=stack,
        )
        yield assess_chain(match, stack, book)


def describe_host(host: str, value: Mapping[str, Any], *, boot_id: str = "", container: str = "") -> tuple[str, ...]:
    """Return unusual facts about the host as sentences; usually none."""
    out: list[str] = []
    if boot_id and value.get("boot_id") and value["boot_id"] != boot_id:
        what = describe_new_boot(boot_id, str(value["boot_id"]))
        out.append(f"{host} {what}: its boot id changed")
    out += [f"{host}'s kernel: {text}" for text in _filter_strings(value.get("kernel"))[-4:]]
    for space in _filter_objects(value.get("space")):
        for key, word in (("used", "full"), ("inodes", "out of inodes")):
            if _to_number(space.get(key)) >= FULL:
                share = 100 * _to_number(space.get(key))
                out.append(f"{host}: {space.get('path')} is {share:.0f} % {word} ({space.get('free_mb')} MB free)")
    memory = value.get("memory")
    if isinstance(memory, Mapping) and _to_number(memory.get("MemTotal")):
        share = _to_number(memory.get("MemAvailable")) / _to_number(memory.get("MemTotal"))
        if share < 0.03:
            out.append(f"{host}: {100 * share:.0f} % of its memory is available")
    for process in _filter_objects(value.get("stuck")):
        doing = "waits in the kernel" if process.get("state") == "D" else "is stopped"
        who = name_process(str(process.get("pid")), container)
        out.append(f"{host}: {who} {doing} {process.get('wchan') or ''}: {process.get('cmd')}")
    out += [
        f"{host}: InfiniBand {port.get('port')} counted {port.get('more')} more of {port.get('counter')} during the run: "
        "its cable, optics or switch port"
        for port in _filter_objects(value.get("ports"))
    ]
    out += [f"{host}: NCCL reports: {text.strip()}" for text in _filter_strings(value.get("ras")) if _RAS.search(text)]
    found = [str(dump.get("path")) for dump in _filter_objects(value.get("flights"))]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        out.append(f"{host}: a dump of torch's flight recorder: {found[0]}{more} (torchfrtrace reads them)")
    return tuple(text[:_LONGEST] for text in out[:_MOST_NOTES])


def list_addresses(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the addresses by which other hosts may name this host."""
    return tuple(_filter_strings(value.get("addresses")))


def _filter_strings(value: Any) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _filter_objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _to_number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
