"""The rules of the diagnosis in order. Each returns the cause, or None so that the next rule runs.

The order is that of the levels of evidence. The level of a rule and the doubts of its result give the confidence.
``make diagnosis`` writes this table into docs/diagnosis.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fanout.diagnose.evidence_order import LevelName
from fanout.diagnose.rule_context import RuleContext, RuleResult
from fanout.diagnose.rules import (
    absent_hosts,
    background_end,
    first_failure,
    lease_expired,
    named_ranks,
    node_rank,
    outlier,
    proof,
    timeouts,
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule with its id in ``verdict.json``, its level of evidence and its condition."""

    id: str
    level: LevelName
    find: Callable[[RuleContext], RuleResult | None]
    condition: str


RULES = (
    Rule("proof", "proof", proof.find_proof,
         "the kernel OOM-killed a process, or logged its crash, and its pid is that of a rank; or the run's cgroup counted "
         "an OOM kill and SIGKILL ended the process; or the first rank failed with an error of its GPU, and its kernel logged a "
         "fault of a GPU that names no process"),
    Rule("unheard", "own", lease_expired.find_expired_lease,
         "hosts ended the run by themselves when their lease expired, and no rank has an error of its own: the launcher was "
         "stopped, its machine slept, or it could not reach the hosts"),
    Rule("background", "own", background_end.find_ended_launcher,
         "train.sh returned while its launcher ran, the keeper ended the launcher (`--background end`), and no rank failed "
         "before"),
    Rule("numbers", "own", node_rank.find_wrong_number,
         "a host waited in the rendezvous for a key that only another node number waits for, or for another number of hosts; "
         "or two hosts waited for keys of the same node number"),
    Rule("pointed", "own", named_ranks.find_named_failure,
         "others name a rank that they waited for, it has an error of its own, and no other rank surely failed before"),
    Rule("pointed", "own", named_ranks.find_recorded_failure,
         "the flight recorders name a rank, and only that rank has an error of its own"),
    Rule("first", "own", first_failure.find_own_failure,
         "the earliest end that a shell or a launcher reports, or the earliest error or exit that no other failure explains"),
    Rule("apart", "own", outlier.find_hung_rank,
         "the stacks of all ranks are known, nothing moved, and one rank (or host) does not wait"),
    Rule("pointed", "named", named_ranks.find_named_rank,
         "ranks that waited name the rank that they waited for: a missing key of the store, a desync report, a barrier"),
    Rule("pointed", "named", named_ranks.find_recorded_rank, "the flight recorders of all ranks name it"),
    Rule("pointed", "named", timeouts.find_lost_failure,
         "other hosts lost one host, and it has an error that may be a cause"),
    Rule("missing-node", "named", absent_hosts.find_missing_node,
         "the ranks that waited at torchrun's rendezvous name the node that never joined"),
    Rule("proof", "absence", proof.find_unexplained_kill,
         "only in logs: the kernel of one host OOM-killed a Python process, and nothing else is known about the host"),
    Rule("apart", "absence", outlier.find_outlier,
         "nearly all ranks were at one place, or waited in a collective, and one rank (or host) was somewhere else"),
    Rule("pointed", "absence", timeouts.find_noticed_mismatch,
         "other hosts lost one host, and one of its ranks noticed a mismatch between two ranks"),
    Rule("early", "absence", absent_hosts.find_early_exit, "hosts exited with 0 while the others still worked with them"),
    Rule("cut-off", "absence", absent_hosts.find_unreachable_host,
         "one host was unreachable for the launcher when the others began to fail"),
    Rule("first", "absence", first_failure.build_level_rule("absence"),
         "the earliest lost host, abort, or exit of train.sh without an error"),
    Rule("first", "absence", timeouts.find_sole_error,
         "one host has an error that may be a consequence, and all other hosts only waited"),
    Rule("silent", "absence", timeouts.find_silent_rank, "all other ranks report a timeout, and one rank does not"),
    Rule("vanished", "absence", outlier.find_vanished_rank,
         "all other ranks lost a peer, and there is no evidence about one rank of a host with several"),
    Rule("blamed", "absence", timeouts.find_disconnected_host,
         "all other hosts lost the same host, which names no peer; or it left without a failure and others lost it"),
    Rule("vanished", "absence", outlier.find_vanished_host,
         "all other ranks lost a peer, and there is no evidence about one rank"),
    Rule("quiet-host", "absence", absent_hosts.find_quiet_host,
         "one host reported no failure while the ranks of all others timed out or lost a peer"),
    Rule("blamed", "blame", timeouts.find_blamed_host,
         "some hosts that lost a peer name the address of one host, which names no peer; if no host is known to have the "
         "address, the one whose logged steps end first"),
    Rule("first", "either", first_failure.build_level_rule("either"),
         "the earliest error that may be the cause or a consequence"),
    Rule("network", "either", timeouts.find_network_failure,
         "ranks on all hosts timed out, and none is missing: the network between them failed, or they started with wrong "
         "numbers"),
    Rule("left", "bare", first_failure.build_level_rule("bare"),
         "nothing else is known: exit 1 without an error, or an error long before the end"),
)  # fmt: skip
