"""Answers of hosts after a failure, as evidence: what each host and its machine reported, and what the kernel logs prove.

If the agent of a run is in a container, pids in the kernel log are those of the machine. No process of the run has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fanout.diagnose import failure_facts
from fanout.diagnose.evidence import LogMatch
from fanout.diagnose.signatures import SignatureSet
from fanout.model.process_names import get_container


class HostAnswers:
    """The answers so far: ``proofs`` are matches in kernel logs."""

    def __init__(self, book: SignatureSet) -> None:
        self._book = book
        self.proofs: list[LogMatch] = []
        self.answers: dict[str, tuple[Mapping[str, Any], float]] = {}  # host -> its answer, and when it arrived
        self._notes: dict[str, tuple[str, ...]] = {}
        self._contained: set[str] = set()  # hosts whose agent is in a container
        self.containers: dict[str, str] = {}  # host -> the name of that container, "" if there is none

    def note_connection(self, host: str, hello: Mapping[str, Any]) -> None:
        """Note in which container the agent of a host is."""
        self.containers[host] = get_container(hello)
        if self.containers[host] or hello.get("engine"):
            self._contained.add(host)

    def add_answer(self, host: str, value: Mapping[str, Any], at: float, boot_id: str) -> None:
        """Add the answer of the agent of the run."""
        self.answers[host] = value, at
        self._add_kernel_lines(host, value, at)
        self._notes[host] = failure_facts.describe_host(
            host, value, boot_id=boot_id, container=self.containers.get(host, "")
        )

    def add_machine(self, host: str, value: Mapping[str, Any], at: float) -> None:
        """Add the kernel log that the own agent of a host in a container read. It counts instead of the one inside."""
        log = {"kernel": value.get("kernel")}
        self._contained.add(host)
        self.proofs = [each for each in self.proofs if each.host != host]
        self._add_kernel_lines(host, log, at)
        inside = [note for note in self._notes.get(host, ()) if not note.startswith(f"{host}'s kernel: ")]
        self._notes[host] = (*inside, *failure_facts.describe_host(host, log))

    def _add_kernel_lines(self, host: str, value: Mapping[str, Any], at: float) -> None:
        found = failure_facts.match_kernel_lines(host, value, at, self._book)
        self.proofs += map(failure_facts.remove_pid, found) if host in self._contained else found

    def iter_notes(self) -> Iterator[str]:
        """Yield the unusual facts of all hosts."""
        for notes in self._notes.values():
            yield from notes
