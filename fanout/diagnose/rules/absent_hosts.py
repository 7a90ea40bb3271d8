"""Rules about absent hosts: exited with 0 too early, never joined, logged nothing, or unreachable."""

from __future__ import annotations

from fanout.diagnose import last_lines
from fanout.diagnose.evidence import Disconnection
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import outlier, timeouts
from fanout.diagnose.verdict import Cause
from fanout.model.hosts import fold_names
from fanout.text.units import count_noun

SILENT_SECONDS = 5.0  # a shorter break of the connection delays no rank


def find_early_exit(case: RuleContext) -> RuleResult | None:
    """Return the hosts whose script exited with 0 while the other hosts still worked with them."""
    ends = case.evidence.ends
    gone = [host for host, end in ends.items() if end.kind == "ended" and end.code == 0 and not end.why]
    left = [each for each in case.victim_matches if each.host not in gone]
    if not gone or not left or any(outlier.is_own_failure(each) for each in case.suspects):
        return None
    if any(each.death is not None or each.sightings for each in case.processes if each.host in gone):
        return None  # there is evidence about their ranks: other rules handle it
    ranks = [rank for host in gone for rank in case.world.ranks.get(host, ())]
    reached = last_lines.find_last_step(case.evidence.tails, gone[0], ranks)
    at = f" at step {reached}" if reached is not None else ""
    where = timeouts.describe_location(case)
    says = (
        f"exited with 0{at} while the others were {where}" if where else f"exited with 0{at} while the others continued"
    )
    one = ranks[0] if len(ranks) == 1 else None
    cause = Cause(
        signature="early-exit",
        says=says,
        host=gone[0],
        rank=one,
        code=0,
        ranks=tuple(ranks),
        hosts=tuple(gone),
        at=ends[gone[0]].at,
    )
    evidence = [f"{fold_names(gone)}: train.sh exited with 0, and the launcher had not stopped it"]
    evidence.append(
        f"{count_noun(len(left), 'process')} on {fold_names(dict.fromkeys(each.host for each in left))} lost a peer or timed out"
    )
    others = last_lines.find_last_step(case.evidence.tails, left[0].host)
    if reached is not None and others is not None and others > reached:
        evidence.append(f"{left[0].host} had reached step {others}")
    return RuleResult(cause=cause, evidence=tuple(evidence), advice=timeouts.UNEVEN)


def find_missing_node(case: RuleContext) -> RuleResult | None:
    """Return the node that torchrun's rendezvous waited for, from the keys of its store."""
    waits = [each for each in case.victim_matches if each.signature == "rendezvous-role-missing"]
    if not waits or len(waits) != len(case.victim_matches):
        return None
    node = waits[0].fields["node"]
    if any(each.fields["node"] != node for each in waits):
        return None
    host = next((name for name, (number, _) in case.evidence.ranks.items() if str(number) == node), None)
    says = (
        "never joined torchrun's rendezvous"
        if host
        else f"waited for node {node}, which never joined torchrun's rendezvous"
    )
    cause = Cause(
        signature="missing-node",
        says=says,
        host=host,
        hosts=(host,) if host else (),
        text=waits[0].text,
        file=waits[0].file,
        line=waits[0].line,
        at=waits[0].at,
    )
    return RuleResult(cause=cause, evidence=(f"{waits[0].host}: {waits[0].text}",), advice=(waits[0].advice,))


def find_quiet_host(case: RuleContext) -> RuleResult | None:
    """Return the one host that reported no failure while ranks of all other hosts timed out or lost a peer."""
    if not case.victim_matches:
        return None
    spoke = {each.host for each in case.processes if each.part in ("victim", "either")}
    known = {seen.host for seen in case.evidence.sightings} | {death.host for death in case.evidence.deaths}
    well = {host for host, end in case.evidence.ends.items() if end.kind == "ended" and end.code == 0}
    quiet = [host for host in case.evidence.hosts if host not in known | well]
    if len(quiet) != 1 or spoke != {*case.evidence.hosts} - {*quiet}:
        return None
    (host,) = quiet
    ranks = tuple(case.world.ranks.get(host, ()))
    cause = Cause(
        signature="quiet-host",
        says="reported no failure while the others timed out or lost a peer",
        host=host,
        ranks=ranks,
        hosts=(host,),
    )
    evidence = f"{count_noun(len(case.victim_matches), 'process')} on {fold_names(sorted(spoke))} timed out or lost a peer, and none of them failed first"
    return RuleResult(cause=cause, evidence=(evidence,), advice=(timeouts.LOOK,))


def find_unreachable_host(case: RuleContext) -> RuleResult | None:
    """Return the host that was unreachable for the launcher when the others began to fail."""
    if any(outlier.is_own_failure(each) for each in case.suspects):
        return None  # an error of its own, or a lost host, explains more
    found = [each for each in case.evidence.silences if _covers_first_error(each, case)]
    hosts = list(dict.fromkeys(each.host for each in found))
    if len(hosts) != 1 or len(case.evidence.hosts) < 2:
        return None  # several at once: the launcher's network, or the one between all
    silence = found[0]
    others = [each for each in case.victim_matches if each.host != silence.host]
    if not others:
        return None
    ranks = tuple(case.world.ranks.get(silence.host, ()))
    back = "it has not reconnected"
    if silence.end is not None:
        back = f"it reconnected after {silence.end - silence.last_contact:.0f} s"
    booted = case.evidence.rebooted.get(silence.host, "")
    says = booted or "was unreachable when the others began to fail"
    cause = Cause(
        signature="rebooted" if booted else "silent-host",
        says=says,
        host=silence.host,
        at=silence.last_contact,
        ranks=ranks,
        hosts=(silence.host,),
    )
    evidence = (
        f"{silence.host}: connection lost ({silence.why}) before any rank failed; {back}",
        f"{count_noun(len(others), 'process')} on the other hosts lost a peer or timed out",
    )
    look = f"on {silence.host}: `uptime`, `dmesg -T | tail`: was it frozen (a paused VM, a full disk, NFS) or disconnected?"
    refute = f"a failure of only the network between {silence.host} and this machine, which the other hosts do not use"
    return RuleResult(cause=cause, evidence=evidence, refutes=(refute,), advice=(look,))


def _covers_first_error(silence: Disconnection, case: RuleContext) -> bool:
    """Return whether the silence began before the other hosts' first error, and lasted until it."""
    others = [each.at for each in case.victim_matches if each.host != silence.host]
    if not others:
        return False
    first = min(others)
    end = silence.end if silence.end is not None else first
    long = end - silence.last_contact >= SILENT_SECONDS
    return long and silence.last_contact <= first and first <= end + case.evidence.error + SILENT_SECONDS
