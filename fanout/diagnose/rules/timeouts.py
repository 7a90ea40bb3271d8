"""Rules for timeouts and lost peers: the rank without one, the peer that the others name, or the network."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

from fanout.diagnose import last_lines, stack_groups
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.evidence_order import NOTICED, ORDER, PARTIAL, TWO_HOSTS
from fanout.diagnose.process_evidence import NEAR_SECONDS
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import first_failure
from fanout.diagnose.verdict import Cause
from fanout.text.units import count_noun, name_all

_ADDRESS = re.compile(r"(?!127\.|::1$)(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,8})$")
UNEVEN = (
    "uneven data: compare the number of batches of each rank (drop_last, a sampler that pads, the join context)",
    "a rank that leaves the loop early (break, return, sys.exit(0)) leaves the others waiting",
)
LOOK = "check what it did at that time: a data loader, a checkpoint, a lock, or another branch of the code"


def describe_location(case: RuleContext) -> str:
    """Return where the victims were: ``in all_reduce (train.py:14)``; "" if no traceback shows it."""
    for each in case.victim_matches:
        frames = stack_groups.parse_frames(each.traceback)
        if frames and stack_groups.locate_frames(frames).waits:
            there = stack_groups.locate_frames(frames)
            return f"in {there.what} ({there.where})"
    return ""


def find_silent_rank(case: RuleContext) -> RuleResult | None:
    """Return the rank without a timeout if all other ranks timed out in a collective."""
    timed_out = [each for each in case.victim_matches if each.kind == "timeout"]
    everyone = case.world.all_ranks()
    if not timed_out or not everyone or not case.world.has_all(case.evidence.hosts):
        return None
    marked = {each.rank for each in timed_out if each.rank is not None}
    vague = {each.host for each in timed_out if each.rank is None}  # some rank of these reported it
    spoke = {each.rank for each in case.processes if each.sightings and each.rank is not None}
    quiet = {rank: host for rank, host in everyone.items() if rank not in spoke and host not in vague}
    if not quiet or len(marked) + len(vague) < 1:
        return None
    hosts = list(dict.fromkeys(quiet.values()))
    evidence = f"{count_noun(len(timed_out), 'process')} reported a timeout"
    if len(quiet) == 1:
        ((rank, host),) = quiet.items()
        found = Cause(signature="silent", says=_SILENT, host=host, rank=rank, ranks=(rank,), hosts=(host,))
        doubts = () if len(marked) == len(everyone) - 1 else (PARTIAL,)
        only = f"only {found.subject} did not"
        return RuleResult(cause=found, evidence=(evidence, only), doubts=doubts, advice=(LOOK,))
    whole = len(hosts) == 1 and len(quiet) == len(case.world.ranks[hosts[0]])
    if whole and len(case.evidence.hosts) > 1:
        found = Cause(signature="silent", says=_SILENT, host=hosts[0], ranks=tuple(sorted(quiet)), hosts=tuple(hosts))
        doubts = () if len(case.evidence.hosts) > 2 else (TWO_HOSTS,)
        none = f"no rank of {hosts[0]} did"
        return RuleResult(cause=found, evidence=(evidence, none), doubts=doubts, advice=(LOOK,))
    if len(quiet) > 4 or len(quiet) * 2 > len(everyone):
        return None
    causes = [
        Cause(signature="silent", says=_SILENT, host=host, rank=rank, ranks=(rank,), hosts=(host,))
        for rank, host in sorted(quiet.items())
    ]
    note = "torchrun may have stopped some of them before they could report a timeout"
    return RuleResult(
        cause=causes[0], doubts=(ORDER,), also=tuple(causes[1:]), evidence=(evidence, note), advice=(LOOK,)
    )


_SILENT = "reported no error while the others timed out"


def find_lost_failure(case: RuleContext) -> RuleResult | None:
    """Return the error of the host that the others lost, if the error may be a cause or a consequence."""
    found = _find_error_of_sink(case)
    return None if found is None or NOTICED in found.doubts else found


def find_noticed_mismatch(case: RuleContext) -> RuleResult | None:
    """Return the mismatch that a rank of the lost host noticed. Another rank of the host may be the wrong one.

    Rules about the places of the ranks come first.
    """
    found = _find_error_of_sink(case)
    return found if found is not None and NOTICED in found.doubts else None


def _find_error_of_sink(case: RuleContext) -> RuleResult | None:
    host, _ = _find_sink(case)
    if host is None:
        return None
    own = [each for each in case.suspects if each.host == host and each.level == "either"]
    return first_failure.find_first_of(case, own)


def find_sole_error(case: RuleContext) -> RuleResult | None:
    """Return the error that may be a consequence, if it is the only one and all other hosts only waited."""
    own = [each for each in case.suspects if each.level == "either"]
    hosts = {each.host for each in own}
    waited = {each.host for each in case.victim_matches if each.host not in hosts}
    lost = any(each.kind == "closed" for each in case.victim_matches)
    if len(hosts) != 1 or lost or not waited or waited != {*case.evidence.hosts} - hosts:
        return None
    found = first_failure.find_first_of(case, own)
    return replace(found, doubts=(*found.doubts, TWO_HOSTS)) if found is not None and len(waited) == 1 else found


def find_disconnected_host(case: RuleContext) -> RuleResult | None:
    """Return the host that all others lost, or that left without a failure while the others lost it."""
    host, named = _find_sink(case)
    if host is None:
        return None
    others = len({*case.evidence.hosts} - {host})  # if no log belongs to the host, one log may name another peer
    whole = named >= max(2, others if host in case.evidence.hosts else others - 1)
    closed = all(each.kind == "closed" for each in case.victim_matches)
    return _build_blamed(case, host, named) if whole or (closed and _has_no_failure(case, host)) else None


def find_blamed_host(case: RuleContext) -> RuleResult | None:
    """Return the host whose address some of the other hosts lost and that itself names no peer."""
    host, named = _find_sink(case)
    return _build_blamed(case, host, named) if host is not None else None


def _find_sink(case: RuleContext) -> tuple[str | None, int]:
    """Return the one host that other hosts lost and that itself names no peer, and how many hosts lost it."""
    edges: dict[str, str] = {}
    for seen in sorted(case.victim_matches, key=lambda each: each.at):
        peer = _find_peer(case, seen)
        if peer is not None and peer != seen.host and not _is_followup(case, seen):
            edges.setdefault(seen.host, peer)  # the earliest of each: later ones name other victims
    named = Counter(edges.values())
    sinks = [host for host in named if host not in edges]
    if len(sinks) > 1:  # of addresses that no host is known to have, several hosts must have lost the same one
        most = max(named[host] for host in sinks)
        sinks = [host for host in sinks if named[host] == most > 1]
    if len(sinks) != 1:
        return None, 0
    (sink,) = sinks
    if sink in case.evidence.hosts:
        return sink, named[sink]
    others = [host for host in case.evidence.hosts if host not in edges]
    behind = _find_host_behind(case)  # no host is known to have this address
    return (others[0] if len(others) == 1 else behind if behind in others else sink), named[sink]


def _find_host_behind(case: RuleContext) -> str | None:
    """Return the host whose logged steps end before those of all other hosts. It stopped first if ranks step together."""
    reached = {host: last_lines.find_last_step(case.evidence.tails, host) for host in case.evidence.hosts}
    steps = [step for step in reached.values() if step is not None]
    last = [host for host, step in reached.items() if step == min(steps, default=None)]
    return last[0] if len(last) == 1 and len(steps) == len(reached) > 1 else None


def _build_blamed(case: RuleContext, host: str, named: int) -> RuleResult:
    says = "disconnected from all the others"
    advice: tuple[str, ...] = (f"check `dmesg` and the uptime of {host}",)
    if _has_no_failure(case, host):
        at = last_lines.find_last_step(case.evidence.tails, host)
        there = describe_location(case)
        says = f"left the run{f' at step {at}' if at is not None else ''} while the others {f'were {there}' if there else 'continued'}"
        says += "; its torchrun reported no failure"
        advice = (*UNEVEN, *advice)
    cause = Cause(signature="blamed", says=says, host=host, hosts=(host,))
    lost_it = f"{named} of the other hosts" if named > 1 else "1 of the other hosts"
    evidence = [f"{lost_it} lost {'their' if named > 1 else 'its'} connection to {host}, which itself names no peer"]
    if not case.evidence.live and _find_host_behind(case) == host:
        evidence.append(f"the steps in the log of {host} end before those of all other hosts")
    lost = {seen.rank for seen in case.victim_matches if seen.host == host}
    others = [rank for rank in case.world.ranks.get(host, ()) if rank not in lost]
    if lost and len(others) == 1:  # it ended without an error, or with the beginning of one
        cause = replace(cause, rank=others[0], ranks=(others[0],))
        evidence.append(f"all other ranks on {host} lost a peer themselves")
    return RuleResult(cause=cause, evidence=tuple(evidence), advice=advice)


def _has_no_failure(case: RuleContext, host: str) -> bool:
    """Return whether the host was connected until its end and none of its processes is known to have failed.

    torchrun reports every process that exits with another status than 0. A host that was lost cannot report.
    """
    end = case.evidence.ends.get(host)
    died = any(death.host == host and not death.was_stopped for death in case.evidence.deaths)
    silent = any(silence.host == host for silence in case.evidence.silences)
    return case.evidence.live and end is not None and end.kind != "lost" and not died and not silent


def _find_peer(case: RuleContext, seen: LogMatch) -> str | None:
    """Return the host that a victim lost; its address if no log of another launcher belongs to that host."""
    address = seen.fields.get("peer", "")
    known = case.evidence.addresses.get(address)
    if known is not None or case.evidence.live or not _ADDRESS.match(address):
        return known
    return address


def _is_followup(case: RuleContext, seen: LogMatch) -> bool:
    """Return whether the lost peer had itself timed out and therefore exited. Such a loss is no evidence."""
    peer = case.evidence.addresses.get(seen.fields.get("peer", ""))
    return any(
        each.kind == "timeout" and each.host == peer and each.at <= seen.at + NEAR_SECONDS
        for each in case.victim_matches
    )


def find_network_failure(case: RuleContext) -> RuleResult | None:
    """Return the network, or an incomplete rendezvous, if ranks on all hosts timed out."""
    hosts = {each.host for each in case.victim_matches}
    meeting = [each for each in case.victim_matches if each.kind in ("meeting", "names")]
    if len(case.evidence.hosts) < 2 or hosts != set(case.evidence.hosts):
        return None
    count = f"{count_noun(len(case.victim_matches), 'process')} on {name_all(len(hosts), 'host')} timed out"
    if meeting:
        cause = Cause(
            signature="meeting",
            says="never completed the rendezvous: some rank is not where the others wait",
            host=None,
        )
        compare = (
            "compare WORLD_SIZE, NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT on all hosts",
            "fanout check HOSTS",
        )
        return RuleResult(cause=cause, evidence=(count,), advice=compare)
    if any(each.kind != "timeout" and not _is_followup(case, each) for each in case.victim_matches):
        return None
    says = "stopped carrying data, or the code deadlocked on all of them"
    cause = Cause(signature="network", says=says, host=None, hosts=tuple(case.evidence.hosts))
    refute = "a mesh test between these hosts that passes now: then check the stacks of a run that hangs"
    advice = ("fanout check HOSTS --only network",)
    return RuleResult(cause=cause, evidence=(count, "no rank is silent"), refutes=(refute,), advice=advice)
