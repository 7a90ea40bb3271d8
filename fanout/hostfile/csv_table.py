"""CSV host tables with a header, from cloud consoles and spreadsheets; unclear columns are refused."""

from __future__ import annotations

import csv
import re

from fanout.hostfile.attributes import HostAttributes, read_attribute
from fanout.hostfile.host_list_builder import HostListBuilder
from fanout.hostfile.host_spec import HostSpecReader
from fanout.hostfile.masking import MASK
from fanout.hostfile.problems import ParseError, SourceSpan
from fanout.model.credentials import is_secret

_HOST = ("host", "hostname", "fqdn", "node", "nodename", "server", "machine", "name", "instancename", "vmname")
_DIAL = ("publicip", "publicipv4", "publicipaddress", "publicipv4address", "externalip", "publicdns", "publicipv4dns")
_ADDR = ("privateip", "privateipv4", "privateipaddress", "privateipv4address", "internalip", "addr")
_PLAIN_IP = ("ip", "ipaddress", "ipv4", "ipv4address", "address")
_ATTRIBUTES = {
    "slots": "slots", "nproc": "slots", "gpus": "gpus", "gpucount": "slots", "numgpus": "slots", "ngpus": "slots",
    "user": "user", "username": "user", "login": "user", "port": "port", "sshport": "port", "iface": "iface",
    "workdir": "workdir", "python": "python", "spare": "spare", "tag": "tag", "tags": "tag",
}  # fmt: skip
_KNOWN = {*_HOST, *_DIAL, *_ADDR, *_PLAIN_IP, *_ATTRIBUTES}


def detect_delimiter(lines: list[str], *, file: str) -> str:
    """Return the column separator if these lines are a table with a header, "" otherwise."""
    first_lines = [line for line in lines[:200] if line.strip() and not line.lstrip().startswith("#")][:2]
    if len(first_lines) < 2:
        return ""
    if file.lower().endswith(".csv"):
        return max(",;\t", key=first_lines[0].count)
    return next(
        (each for each in ",;\t" if _is_table(_split_cells(first_lines[0], each), _split_cells(first_lines[1], each))),
        "",
    )


def _is_table(head: list[str], body: list[str]) -> bool:
    """Return whether the head has two known titles, or one among three or more, or titles of several words."""
    if len(head) < 2 or len(head) != len(body) or any("=" in cell or "[" in cell for cell in head):
        return False
    known = sum(_normalize_title(cell) in _KNOWN for cell in head)
    return known >= 2 or (known == 1 and len(head) > 2) or (len(head) > 2 and sum(" " in cell for cell in head) > 1)


class TableReader:
    """Reader that adds the rows of one file to the host list."""

    def __init__(self, builder: HostListBuilder, file: str) -> None:
        self._builder = builder
        self._file = file
        self._entries = HostSpecReader(builder, ansible=True)  # ``host:N`` in a cell is never a slot count

    def read(self, lines: list[str], delimiter: str, section: str) -> None:
        rows = [(n, line) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
        number, header = rows[0]
        head = _split_cells(header, delimiter)
        span = SourceSpan(self._file, number, header, 0, len(header))
        try:
            columns = _map_columns(head)
        except ParseError as error:
            self._builder.problems.add_problem(span, error.what, error.fix)
            return
        unread = [cell for at, cell in enumerate(head) if at not in columns]
        if unread:
            self._builder.add_note("columns", span, f"columns that fanout ignores: {', '.join(unread)}")
        for number, line in rows[1:]:
            cells = _split_cells(line, delimiter)
            shown = _mask_row(line, head, cells)
            span = SourceSpan(self._file, number, shown, 0, len(shown))
            try:
                if len(cells) != len(head):
                    raise ParseError(f"{len(cells)} columns; the header has {len(head)}")
                self._read_row(cells, columns, span, section)
            except ParseError as error:
                self._builder.problems.add_problem(span, error.what, error.fix)

    def _read_row(self, cells: list[str], columns: dict[int, str], span: SourceSpan, section: str) -> None:
        reading = HostAttributes()
        host = ""
        for at, meaning in columns.items():
            if meaning == "host":
                host = cells[at]
            elif cells[at]:
                read_attribute(reading, meaning, cells[at])
        if not host:
            raise ParseError("no host in this row", "fill the cell or delete the row")
        column = max(span.text.find(host), 0)
        self._entries.add_hosts(host, column, reading, span, section)


def _map_columns(head: list[str]) -> dict[int, str]:
    """Return column -> meaning. Raise a parse error unless exactly one column can be the host."""
    plain = [_normalize_title(cell) for cell in head]
    columns = {at: _ATTRIBUTES[word] for at, word in enumerate(plain) if word in _ATTRIBUTES}
    found = {
        kind: [at for at, word in enumerate(plain) if word in words]
        for kind, words in {"host": _HOST, "dial": _DIAL, "addr": _ADDR, "ip": _PLAIN_IP}.items()
    }
    exact = [at for at in found["host"] if plain[at] in ("host", "hostname")]
    hosts = exact if len(exact) == 1 else found["host"]
    dial = found["dial"] or found["ip"]
    if not hosts:
        hosts, dial = (dial, []) if dial else (found["addr"], [])
    if len(hosts) != 1 or len(dial) > 1 or len(found["addr"]) > 1:
        listed = ", ".join(cell or "(no name)" for cell in head)
        raise ParseError(f"a table without a clear host column; its columns are {listed}", "name one column 'host'")
    columns[hosts[0]] = "host"
    columns |= dict.fromkeys(dial, "hostname")
    columns |= {at: "addr" for at in found["addr"] if at not in columns}
    return columns


def _mask_row(line: str, head: list[str], cells: list[str]) -> str:
    """Return the row for an error: without the cells of a column of passwords, or without any if columns are missing."""
    secret = [at for at, title in enumerate(head) if is_secret(title)]
    hidden = [cells[at] for at in secret] if len(cells) == len(head) else cells[min(secret, default=len(cells)) :]
    for cell in sorted(filter(None, hidden), key=len, reverse=True):
        line = line.replace(cell, MASK)
    return line


def _split_cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter), [])]


def _normalize_title(cell: str) -> str:
    return re.sub(r"[^a-z0-9]", "", cell.lower())
