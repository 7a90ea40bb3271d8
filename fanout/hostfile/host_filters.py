"""Host filters: choose hosts by DeepSpeed filters, node sets, tags and counts, in file order."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Sequence

from fanout.hostfile.node_sets import expand_node_set, expand_ranges, split_list
from fanout.hostfile.problems import ParseError
from fanout.model.errors import UsageError
from fanout.model.hosts import Host, HostFile
from fanout.text.sanitize import escape_invisible
from fanout.text.suggest import suggest_nearest
from fanout.text.units import count_noun


def select_hosts(
    hostfile: HostFile,
    *,
    include: str = "",
    exclude: str = "",
    nodes: str = "",
    without: str = "",
    nnodes: int | None = None,
    least: int | None = None,
    tag: str = "",
    nproc_per_node: int | None = None,
) -> tuple[Host, ...]:
    """Return the hosts of a run in file order. Raise ``UsageError`` for a filter without a host.

    ``include``/``exclude`` are DeepSpeed's ``worker-0@worker-1:0,2``. ``nodes``/``without`` are node sets with
    wildcards and ``@tag``. ``tag`` is one tag or several; a host needs one of them. All filters may be combined.

    A spare is left out unless ``include`` or ``nodes`` names it. If ``nnodes`` is larger than the number of other
    hosts, the first spares fill the gap. ``nnodes`` takes the first hosts, with ``least`` fewer if the file has fewer.
    """
    named: set[str] = set()
    chosen = list(hostfile.hosts)
    if tag:
        chosen = _filter_by_tag(hostfile, tag)
    if nodes:
        wanted = _match_names(hostfile, nodes, "-w")
        named |= wanted
        chosen = [host for host in chosen if host.name in wanted]
    if include:
        parts = _parse_filter(hostfile, include, "--include")
        named |= parts.keys()
        chosen = [_keep_slots(host, parts[host.name], "--include") for host in chosen if host.name in parts]
    if without:
        unwanted = _match_names(hostfile, without, "-x")
        chosen = [host for host in chosen if host.name not in unwanted]
    if exclude:
        parts = _parse_filter(hostfile, exclude, "--exclude")
        left = (_remove_slots(host, parts[host.name]) if host.name in parts else host for host in chosen)
        chosen = [host for host in left if host is not None]
    chosen = _take_count(chosen, named, nnodes if least is None else max(least, min(nnodes or least, len(chosen))))
    if not chosen:
        raise UsageError(f"{hostfile.source}: the filters leave no host", hint=_list_hosts(hostfile))
    return (
        tuple(_set_processes(host, nproc_per_node) for host in chosen) if nproc_per_node is not None else tuple(chosen)
    )


def select_spares(
    hostfile: HostFile, chosen: Sequence[Host], *, without: str = "", nproc_per_node: int | None = None
) -> tuple[Host, ...]:
    """Return the spares of the file, in file order, that the run does not use and that ``without`` does not exclude."""
    used = {host.name for host in chosen} | (_match_names(hostfile, without, "-x") if without else set())
    spares = [host for host in hostfile.hosts if host.spare and host.name not in used]
    return tuple(_set_processes(host, nproc_per_node) if nproc_per_node is not None else host for host in spares)


def _take_count(chosen: list[Host], named: set[str], nnodes: int | None) -> list[Host]:
    regular = [host for host in chosen if not host.spare or host.name in named]
    if nnodes is None:
        return regular
    if nnodes < 1:
        raise UsageError(f"--nnodes {nnodes}: must be at least 1")
    if len(chosen) < nnodes:
        spares = len(chosen) - len(regular)
        also = f" and {count_noun(spares, 'spare')}" if spares else ""
        raise UsageError(
            f"--nnodes {nnodes}: the hostfile and the filters leave {count_noun(len(regular), 'host')}{also}",
            hint=f"add hosts, or run on fewer: --nnodes {len(chosen)}" if chosen else "add hosts",
        )
    lacking = nnodes - len(regular)
    filled = {host.name for host in [host for host in chosen if host not in regular][: max(lacking, 0)]}
    taken = {host.name for host in regular[:nnodes]} | filled
    return [host for host in chosen if host.name in taken]


def _filter_by_tag(hostfile: HostFile, tag: str) -> list[Host]:
    tags = {name.strip() for name in tag.split(",") if name.strip()}
    known = dict.fromkeys(name for host in hostfile.hosts for name in host.tags)
    for name in tags:
        if name not in known:
            hint = suggest_nearest(name, known) or (
                f"tags: {', '.join(known)}" if known else "no host of this file has a tag"
            )
            raise UsageError(f"--tag {escape_invisible(name)}: no host has this tag", hint=hint)
    return [host for host in hostfile.hosts if tags & set(host.tags)]


def _match_names(hostfile: HostFile, expression: str, flag: str) -> set[str]:
    """Return the host names of a node set: plain names, wildcards * and ?, and tags."""
    known = {host.name.casefold(): host.name for host in hostfile.hosts}
    found: dict[str, None] = {}
    spelled: dict[str, list[str]] = {}
    for _, _, part in split_list(expression, ",!&^"):
        word = part.strip()
        if word.startswith("@"):
            spelled[word] = [host.name for host in _filter_by_tag(hostfile, word[1:])]
        elif "*" in word or "?" in word:
            spelled[word] = [name for name in known.values() if fnmatch.fnmatchcase(name, word)]
            if not spelled[word]:
                raise UsageError(f"{flag} {escape_invisible(word)}: no host matches", hint=_list_hosts(hostfile))
    try:
        names = expand_node_set(expression, spelled)
    except ParseError as error:
        raise UsageError(f"{flag} {escape_invisible(expression)}: {error.what}", hint=error.fix) from None
    for name in names:
        found[_find_known(hostfile, known, name, flag)] = None
    return set(found)


def _parse_filter(hostfile: HostFile, text: str, flag: str) -> dict[str, tuple[str, ...]]:
    """Parse ``worker-0@worker-[1-2]:0,2`` into name -> ids; no ids: the whole host."""
    known = {host.name.casefold(): host.name for host in hostfile.hosts}
    parts: dict[str, tuple[str, ...]] = {}
    for piece in text.split("@"):
        word, colon, ids = _split_ids(piece.strip(), known)
        try:
            slots = tuple(dict.fromkeys(_parse_ids(ids))) if colon else ()
            names = [word] if word.casefold() in known else expand_node_set(word)
        except ParseError as error:
            raise UsageError(f"{flag} {escape_invisible(text)}: {error.what}", hint=error.fix) from None
        for name in names:
            real = _find_known(hostfile, known, name, flag)
            parts[real] = tuple(dict.fromkeys((*parts.get(real, ()), *slots)))
    return parts


def _split_ids(piece: str, known: Iterable[str]) -> tuple[str, str, str]:
    if piece.casefold() in known:  # a bare IPv6 address contains colons
        return piece, "", ""
    word, colon, ids = piece.rpartition(":")
    return (word, colon, ids) if colon else (piece, "", "")


def _parse_ids(text: str) -> list[str]:
    if not text.strip():
        raise ParseError("no slot after ':'", "write worker-0:0,2")
    ids: list[str] = []
    for part in text.split(","):
        word = part.strip()
        ids += expand_ranges(f"[{word}]") if word[:1].isdigit() else [word]
    return ids


def _find_known(hostfile: HostFile, known: dict[str, str], name: str, flag: str) -> str:
    real = known.get(name.casefold()) or known.get(name.casefold().rstrip("."))
    if real is None:
        raise UsageError(
            f"{flag}: {escape_invisible(name)!s} is not in {escape_invisible(hostfile.source)}",
            hint=suggest_nearest(name, known.values()) or _list_hosts(hostfile),
        )
    return real


def _list_slots(host: Host) -> tuple[str, ...] | None:
    """Return the ids that a filter may name: the GPU ids, else 0 … slots-1; None if neither is known."""
    if host.gpus:
        return host.gpus
    return tuple(str(number) for number in range(host.slots)) if host.slots is not None else None


def _check_slots(host: Host, ids: tuple[str, ...], flag: str) -> None:
    known = _list_slots(host)
    for each in ids:
        if known is not None and each not in known:
            raise UsageError(
                f"{flag}: {host.name} has no slot {escape_invisible(each)} ({host.origin})",
                hint=f"it has {', '.join(known)}",
            )


def _keep_slots(host: Host, ids: tuple[str, ...], flag: str) -> Host:
    if not ids:
        return host
    _check_slots(host, ids, flag)
    return dataclasses.replace(host, gpus=ids, slots=len(ids))


def _remove_slots(host: Host, ids: tuple[str, ...]) -> Host | None:
    if not ids:
        return None
    known = _list_slots(host)
    if known is None:
        raise UsageError(
            f"--exclude {host.name}:{','.join(ids)}: the number of slots of {host.name} is unknown ({host.origin})",
            hint="add slots=8 to its line, or name what to keep with --include",
        )
    _check_slots(host, ids, "--exclude")
    left = tuple(each for each in known if each not in ids)
    return dataclasses.replace(host, gpus=left, slots=len(left)) if left else None


def _set_processes(host: Host, count: int) -> Host:
    if count < 1:
        raise UsageError(f"--nproc-per-node {count}: must be at least 1")
    if host.gpus and count > len(host.gpus):
        raise UsageError(
            f"--nproc-per-node {count}: {host.name} has only {len(host.gpus)} (gpus={','.join(host.gpus)}, {host.origin})",
            hint=f"at most --nproc-per-node {len(host.gpus)}",
        )
    return dataclasses.replace(host, slots=count, gpus=host.gpus[:count])


def _list_hosts(hostfile: HostFile) -> str:
    names = [host.name for host in hostfile.hosts]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"the file has {', '.join(names[:8])}{more}"
