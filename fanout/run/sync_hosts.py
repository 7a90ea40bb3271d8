"""Sync of all hosts: find shared directories, compare, send what differs, and report each host."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fanout.model.frozen import frozen
from fanout.remote.pool import ConnectionPool
from fanout.run.session import Session
from fanout.run.sync_exchange import HostExchange, SyncExchanges, build_piece
from fanout.sync import upload
from fanout.sync.directory_groups import DirectoryGroup, group_hosts
from fanout.sync.host_changes import HostChanges, HostResult, SyncOutcome, parse_comparison
from fanout.sync.manifest import encode_path
from fanout.sync.project_files import Project

WINDOW_BYTES = 4 << 20  # sent to a host ahead of what it has processed


@frozen
class SyncOptions:
    """Options of one sync; ``by`` is the user and the machine, for messages on other machines."""

    by: str
    dry_run: bool = False
    delete: bool = False
    yes: bool = False

    @property
    def needs_confirmation(self) -> bool:
        """Return whether a large deletion is refused."""
        return self.delete and not self.yes and not self.dry_run


@frozen
class SyncProgress:
    """Progress of the transfer, for the progress bar."""

    step: str
    hosts: int
    done_hosts: int = 0
    done_bytes: int = 0
    total_bytes: int = 0


class _Upload:
    """The files for one host: the pieces that it shares with others, and where its part of the stream began."""

    def __init__(self, exchange: HostExchange, changes: HostChanges, pieces: upload.PieceBuffer) -> None:
        self.exchange, self.changes, self.pieces = exchange, changes, pieces
        self.begin_bytes = exchange.sent_bytes
        self.is_committed = False


class HostSync:
    """One sync of a project to connected hosts. ``targets``: host -> directory on it."""

    def __init__(
        self,
        session: Session,
        pool: ConnectionPool,
        project: Project,
        targets: Mapping[str, str],
        options: SyncOptions,
        show_progress: Callable[[SyncProgress], None] = lambda progress: None,
    ) -> None:
        self._exchanges = SyncExchanges(session, pool)
        self._project, self._targets, self._options = project, targets, options
        self._show = show_progress

    def run(self) -> list[HostResult]:
        """Carry out the sync; return the result of each host, in order."""
        args = {
            host: {"target": target, "dry_run": self._options.dry_run, "by": self._options.by}
            for host, target in self._targets.items()
        }
        everyone = self._exchanges.open(args)
        try:
            groups = self._find_groups(everyone)
            by_host = {exchange.host: exchange for exchange in everyone}
            first = [by_host[group.hosts[0]] for group in groups if not group.is_source]
            changes = self._compare(first)
            if not self._options.dry_run:
                self._send_files([each for each in first if each.host in changes], changes)
        finally:
            self._exchanges.close(everyone)
        return self._collect_results(by_host, groups, changes)

    def _find_groups(self, everyone: Sequence[HostExchange]) -> list[DirectoryGroup]:
        """Return the hosts that can be synced, grouped by directory. Only the first of each group keeps its question."""
        self._show(SyncProgress(step="comparing directories", hosts=len(everyone)))
        ready = self._exchanges.wait_for("ready", everyone)
        tokens = {each.host: str(each.answers["ready"]["token"]) for each in ready}
        top = self._project.top
        own = {
            host
            for host, token in tokens.items()
            if token and "/" not in token and os.path.lexists(encode_path(f"{top}/{token}"))
        }
        record = build_piece(upload.pack_tokens(list(tokens.values())))
        for exchange in ready:
            self._exchanges.send_piece(exchange, record)
        shared = self._exchanges.wait_for("shared", ready)
        names = list(tokens)
        seen = {
            each.host: [names[number] for number in each.answers["shared"]["seen"] if number < len(names)]
            for each in shared
        }
        groups = group_hosts(seen, frozenset(own))
        writers = {group.hosts[0] for group in groups if not group.is_source}
        for exchange in shared:
            self._exchanges.send_piece(exchange, build_piece(upload.pack_roles(writes=exchange.host in writers)))
        others = [each for each in everyone if each.host not in writers]
        self._exchanges.wait_for("left", [each for each in others if not each.error])
        self._exchanges.close(others)
        return groups

    def _compare(self, exchanges: Sequence[HostExchange]) -> dict[str, HostChanges]:
        """Send the manifest; return the changes of each host that answered and may be written to."""
        self._show(SyncProgress(step="comparing files", hosts=len(exchanges)))
        for piece in map(build_piece, upload.iter_manifest_pieces(self._project.manifest)):
            for exchange in exchanges:
                self._exchanges.send_piece(exchange, piece)
        found = {}
        for exchange in self._exchanges.wait_for("compared", exchanges):
            try:
                changes = parse_comparison(exchange.answers["compared"], self._project.manifest, self._project.rules)
            except ValueError as error:
                exchange.set_error(str(error))
                continue
            found[exchange.host] = changes
            if changes.problems:
                more = f", … {changes.problem_count} in all" if changes.problem_count > 3 else ""
                exchange.set_error("; ".join(changes.problems[:3]) + more)
            elif changes.is_deletion_large and self._options.needs_confirmation:
                exchange.set_error(
                    f"--delete would delete {changes.gone_count} of {changes.earlier_count} files that earlier syncs "
                    "created: add --yes"
                )
        return found

    def _send_files(self, exchanges: Sequence[HostExchange], changes: Mapping[str, HostChanges]) -> None:
        """Send the files, each piece to all hosts that need it, and wait until each host has published them."""
        deletes = self._options.delete
        wanted = [
            each
            for each in exchanges
            if not each.error and (changes[each.host].listed or (deletes and changes[each.host].gone_count))
        ]
        buffers: dict[tuple[int, ...], upload.PieceBuffer] = {}
        uploads = []
        for exchange in wanted:
            rows = changes[exchange.host].rows
            if rows not in buffers:
                pieces = upload.iter_file_pieces(self._project.top, self._project.manifest, rows)
                buffers[rows] = upload.PieceBuffer(map(build_piece, pieces))
            buffers[rows].add_reader(exchange.host)
            uploads.append(_Upload(exchange, changes[exchange.host], buffers[rows]))

        def work() -> None:
            for each in uploads:
                self._fill_window(each)
            self._show(_measure_progress(uploads))

        self._exchanges.wait_for("done", wanted, work)

    def _fill_window(self, one: _Upload) -> None:
        """Send pieces until the window of the host is full, then the last record."""
        exchange, pieces = one.exchange, one.pieces
        if exchange.error:
            pieces.remove_reader(exchange.host)
            one.is_committed = True
        while not one.is_committed and exchange.sent_bytes - exchange.received_bytes < WINDOW_BYTES:
            piece = pieces.read_piece(exchange.host)
            if piece is not None:
                self._exchanges.send_piece(exchange, piece)
            elif pieces.has_ended(exchange.host):
                pieces.remove_reader(exchange.host)
                one.is_committed = True
                self._exchanges.send_piece(exchange, build_piece(upload.pack_commit(delete=self._options.delete)))
            else:  # slower hosts have to read first: the host owes no answer meanwhile
                exchange.answered_at = self._exchanges.read_clock()
                return

    def _collect_results(
        self, by_host: Mapping[str, HostExchange], groups: Sequence[DirectoryGroup], changes: Mapping[str, HostChanges]
    ) -> list[HostResult]:
        results = {
            host: HostResult(
                host=host,
                outcome=SyncOutcome.LOST if exchange.is_lost else SyncOutcome.REFUSED,
                group=(host,),
                error=exchange.error,
            )
            for host, exchange in by_host.items()
        }
        for group in groups:
            first = by_host[group.hosts[0]]
            made = self._judge_group(group, first, changes.get(first.host, HostChanges()))
            for host in group.hosts:
                results[host] = replace(made, host=host, path=str(by_host[host].answers["ready"]["path"]))
        return [results[host] for host in by_host]

    def _judge_group(self, group: DirectoryGroup, first: HostExchange, changes: HostChanges) -> HostResult:
        """Return the result of the hosts of one directory. Equal is only what was compared or published."""
        done = first.answers.get("done", {})
        if group.is_source:
            outcome = SyncOutcome.EQUAL
        elif first.error:
            outcome = SyncOutcome.LOST if first.is_lost else SyncOutcome.REFUSED
        elif self._options.dry_run:
            outcome = SyncOutcome.COMPARED
        else:
            outcome = SyncOutcome.INCOMPLETE if done.get("changed") else SyncOutcome.EQUAL
        return HostResult(
            host=first.host,
            outcome=outcome,
            group=group.hosts,
            is_source=group.is_source,
            changes=changes,
            deleted=int(done.get("deleted", 0)),
            changed_here=tuple(done.get("changed", ())),
            error="" if group.is_source else first.error,
        )


def _measure_progress(uploads: Sequence[_Upload]) -> SyncProgress:
    done = 0
    for one in uploads:
        received = max(0, one.exchange.received_bytes - one.begin_bytes)
        is_over = "done" in one.exchange.answers or one.exchange.error
        done += one.changes.bytes_to_send if is_over else min(received, one.changes.bytes_to_send)
    return SyncProgress(
        step="sending",
        hosts=len(uploads),
        done_hosts=sum("done" in one.exchange.answers for one in uploads),
        done_bytes=done,
        total_bytes=sum(one.changes.bytes_to_send for one in uploads),
    )
