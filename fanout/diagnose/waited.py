"""Rules over those who waited in vain, or lost a peer: who did not, whom they name, and what it means if nobody is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from fanout.diagnose import lastlines, stacks
from fanout.diagnose.case import Case, Finding
from fanout.diagnose.evidence import Sighting
from fanout.diagnose.processes import NEAR_SECONDS
from fanout.diagnose.verdict import Cause, Confidence

UNEVEN = (
    "uneven data: compare the number of batches of each rank (drop_last, a sampler that pads, the join context)",
    "a rank that leaves the loop early (break, return, sys.exit(0)) leaves the others waiting",
)
LOOK = "see what it did at that time: a loader, a checkpoint, a lock, another branch of the code"


def where(case: Case) -> str:
    """Return where the victims were: ``in all_reduce (train.py:14)``; "" where no traceback shows it."""
    for each in case.waited:
        frames = stacks.frames_of(each.traceback)
        if frames and stacks.place(frames).waits:
            there = stacks.place(frames)
            return f"in {there.what} ({there.where})"
    return ""


def silent(case: Case) -> Finding | None:
    """All others timed out in a collective; the one that did not was somewhere else."""
    timed_out = [each for each in case.waited if each.kind == "timeout"]
    everyone = case.world.all()
    if not timed_out or not everyone or not case.world.complete(case.evidence.hosts):
        return None
    marked = {each.rank for each in timed_out if each.rank is not None}
    vague = {each.host for each in timed_out if each.rank is None}  # some rank of these said it
    spoke = {each.rank for each in case.processes if each.sightings and each.rank is not None}
    quiet = {rank: host for rank, host in everyone.items() if rank not in spoke and host not in vague}
    if not quiet or len(marked) + len(vague) < 1:
        return None
    hosts = list(dict.fromkeys(quiet.values()))
    told = f"{len(timed_out)} processes say that they waited in vain"
    if len(quiet) == 1:
        ((rank, host),) = quiet.items()
        found = Cause(signature="silent", says=_SILENT, host=host, rank=rank, ranks=(rank,), hosts=(host,))
        sure: Confidence = "medium" if len(marked) == len(everyone) - 1 else "low"
        return Finding(cause=found, confidence=sure, evidence=(told, f"only {found.who} does not"), advice=(LOOK,))
    whole = len(hosts) == 1 and len(quiet) == len(case.world.ranks[hosts[0]])
    if whole and len(case.evidence.hosts) > 1:
        found = Cause(signature="silent", says=_SILENT, host=hosts[0], ranks=tuple(sorted(quiet)), hosts=tuple(hosts))
        sure = "medium" if len(case.evidence.hosts) > 2 else "low"
        return Finding(cause=found, confidence=sure, evidence=(told, f"no rank of {hosts[0]} does"), advice=(LOOK,))
    if len(quiet) > 4 or len(quiet) * 2 > len(everyone):
        return None
    causes = [
        Cause(signature="silent", says=_SILENT, host=host, rank=rank, ranks=(rank,), hosts=(host,))
        for rank, host in sorted(quiet.items())
    ]
    note = "torchrun may have ended some of them before they could say that they waited"
    return Finding(cause=causes[0], confidence="low", also=tuple(causes[1:]), evidence=(told, note), advice=(LOOK,))


_SILENT = "said nothing while the others waited"


def blamed(case: Case) -> Finding | None:
    """Edges from victims to the addresses that they lost; the host that all name and that names none."""
    edges: dict[str, str] = {}
    for seen in sorted(case.waited, key=lambda each: each.at):
        peer = _peer(case, seen)
        if peer is not None and peer != seen.host and not _followed(case, seen):
            edges.setdefault(seen.host, peer)  # the earliest of each: later ones name other victims
    named = Counter(edges.values())
    sinks = [host for host in named if host not in edges]
    if len(sinks) != 1:
        return None
    host = sinks[0]
    witnesses = len({*case.evidence.hosts} - {host})  # where no log is the host's own, one may name another peer
    whole = named[host] >= max(2, witnesses if host in case.evidence.hosts else witnesses - 1)
    says = "went away from all the others"
    advice: tuple[str, ...] = (f"see `dmesg` and the uptime of {host}",)
    if _no_failure_there(case, host):
        at = lastlines.step(case.evidence.tails, host)
        there = where(case)
        says = f"left{f' at step {at}' if at is not None else ''} while the others {f'were {there}' if there else 'went on'}"
        says += "; its torchrun reported no failure"
        advice = (*UNEVEN, *advice)
    cause = Cause(signature="blamed", says=says, host=host, hosts=(host,))
    told = [f"{named[host]} of the other hosts lost their connection to {host}, which names nobody"]
    lost = {seen.rank for seen in case.waited if seen.host == host}
    others = [rank for rank in case.world.ranks.get(host, ()) if rank not in lost]
    if lost and len(others) == 1:  # it has come to its end without a word, or with the beginning of one
        cause = replace(cause, rank=others[0], ranks=(others[0],))
        told.append(f"all other ranks on {host} lost a peer themselves")
    closed = all(each.kind == "closed" for each in case.waited)
    sure: Confidence = "medium" if whole or (closed and _no_failure_there(case, host)) else "low"
    return Finding(cause=cause, confidence=sure, evidence=tuple(told), advice=advice)


def _no_failure_there(case: Case, host: str) -> bool:
    """Return whether the host was linked to its end and no process of it is known to have failed.

    torchrun reports every process that ends with another status than 0. A host that was lost cannot report.
    """
    end = case.evidence.ends.get(host)
    died = any(death.host == host and not death.told for death in case.evidence.deaths)
    silent = any(silence.host == host for silence in case.evidence.silences)
    return case.evidence.live and end is not None and end.kind != "lost" and not died and not silent


def _peer(case: Case, seen: Sighting) -> str | None:
    """Return the host that a victim lost: in the logs of other launchers its address, where no log is named for it."""
    address = seen.fields.get("peer", "")
    known = case.evidence.addresses.get(address)
    if known is not None or case.evidence.live or not address[:1].isdigit() or address.startswith("127."):
        return known
    return address


def _followed(case: Case, seen: Sighting) -> bool:
    """Did it lose a peer that had waited in vain itself, and so had ended? Then its loss speaks against nobody."""
    peer = case.evidence.addresses.get(seen.fields.get("peer", ""))
    return any(
        each.kind == "timeout" and each.host == peer and each.at <= seen.at + NEAR_SECONDS for each in case.waited
    )


def nobody(case: Case) -> Finding | None:
    """Everybody waited for somebody, and nobody is missing."""
    hosts = {each.host for each in case.waited}
    meeting = [each for each in case.waited if each.kind == "meeting" or each.role == "pointer"]
    if len(case.evidence.hosts) < 2 or hosts != set(case.evidence.hosts):
        return None
    count = f"{len(case.waited)} processes on all {len(hosts)} hosts waited in vain"
    if meeting:
        cause = Cause(
            signature="meeting", says="never came together: some rank is not where the others wait", host=None
        )
        compare = (
            "compare WORLD_SIZE, NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on all hosts",
            "fanout check HOSTS",
        )
        return Finding(cause=cause, confidence="low", evidence=(count,), advice=compare)
    if any(each.kind != "timeout" and not _followed(case, each) for each in case.waited):
        return None
    says = "stopped carrying data, or the code deadlocked on all of them"
    cause = Cause(signature="network", says=says, host=None, hosts=tuple(case.evidence.hosts))
    refute = "a mesh test between these hosts that passes now: then look at the stacks of a run that hangs"
    advice = ("fanout check HOSTS --only network",)
    return Finding(cause=cause, confidence="low", evidence=(count, "none is silent"), refutes=(refute,), advice=advice)
