"""Connections that break while a check asks its questions: it goes on over new ones, and it always ends."""

from __future__ import annotations

import signal
from functools import partial

import pytest

from tests.lab import ns
from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.machines import Host
from tests.lab.misfortunes import cut_sessions, list_relays


def _is_answering(host: Host) -> bool:
    """Return whether the agent there is answering a question. A child of the relay answers each."""
    parents = {one.pid for one in list_relays(host)}
    return any(one.parent in parents for one in host.list_processes())


def _signal_relay(host: Host, number: int) -> None:
    """Send a signal to its relay, and not to the children that answer."""
    parents = {one.pid for one in list_relays(host)}
    ns.signal_all([one for one in list_relays(host) if one.parent not in parents], number)


def _stop_answering(waiting: set[Host]) -> bool:
    """Stop the relays that answer a question now, and take their hosts from the set. Return whether it is empty."""
    for host in sorted(waiting, key=lambda each: each.name):
        if _is_answering(host):
            _signal_relay(host, signal.SIGSTOP)
            waiting.discard(host)
    return not waiting


@pytest.mark.parametrize("verb", ["check", "run"])
def test_returning_link_does_not_block_questions_to_other_hosts(project: Project, lab4: Lab, verb: str) -> None:
    """h2's answer is still open when h1's connection breaks; h1 is asked again, and h2 answers later."""
    project.write_train_script("echo trained\n")
    project.write_hostfile("h1 slots=1\nh2 slots=1\n")
    asked = project.start_command(verb, "hosts.txt", "task.py")
    try:
        waiting = {lab4["h1"], lab4["h2"]}  # one may have answered before the other is asked
        ns.wait_until(partial(_stop_answering, waiting), 20.0, "both are asked")
        before = list_relays(lab4["h1"])
        cut_sessions(lab4["h1"])
        ns.signal_all(before, signal.SIGKILL)  # one that is stopped does not see that its connection ended
        ns.wait_until(lambda: bool(list_relays(lab4["h1"])), 20.0, "h1 is dialled again")
    finally:
        _signal_relay(lab4["h2"], signal.SIGCONT)
    done = asked.wait_for_end(timeout=90.0)
    assert done.code == 0, done.all
    assert "No check failed" in done.out if verb == "check" else "trained" in done.all
