"""Host specs: add the hosts of ``[user@]host[:N]`` and its attributes to the host list."""

from __future__ import annotations

from fanout.hostfile.attributes import Fields, HostAttributes, parse_count, reconcile_fields
from fanout.hostfile.host_list_builder import HostListBuilder
from fanout.hostfile.name_grammar import Address, check_host, check_port, split_address
from fanout.hostfile.node_sets import expand_ranges, split_list
from fanout.hostfile.problems import ParseError, SourceSpan
from fanout.text.units import count_noun

MOST_SLOTS_BY_COLON = 64
LEAST_PORT_BY_COLON = 1024


class HostSpecReader:
    """Reader of ``[user@]host[:N]``, lists and ranges, shared by all dialects; attributes are already parsed."""

    def __init__(self, builder: HostListBuilder, *, ansible: bool) -> None:
        self._builder = builder
        self._ansible = ansible

    def add_hosts(self, word: str, column: int, reading: HostAttributes, span: SourceSpan, group: str) -> None:
        """Add the hosts of ``word``, which is at ``column`` of the line. Raise a parse error if it is invalid."""
        patterns, reading.patterns = reading.patterns, {}
        hosts = self._parse_spec(word, column, reading, span)
        addresses = _spread_addresses(reading.fields, patterns, len(hosts))
        for at, (name, fields, here) in enumerate(hosts):
            self._builder.add_host(name, {**fields, **addresses[at]} if addresses else fields, here, group)
            if not word.isascii():
                self._builder.add_note(f"idna {name}", here, f"{word}: fanout connects to {name}")
        if reading.unknown or reading.withheld or reading.counted_gpus:
            self._builder.note_attributes(reading, span)

    def check_spec(self, word: str, column: int) -> None:
        """Raise a parse error if the host part alone is invalid."""
        self._parse_spec(word, column, HostAttributes(), SourceSpan(file="", line=0))

    def _parse_spec(
        self, word: str, column: int, reading: HostAttributes, span: SourceSpan
    ) -> list[tuple[str, Fields, SourceSpan]]:
        """Parse the part into hosts with fields and positions."""
        found: list[tuple[str, Fields, SourceSpan]] = []
        for start, _, part in split_list(word):
            item = part.strip(" \t")
            at = column + start + len(part) - len(part.lstrip(" \t"))
            try:
                if not item:
                    raise ParseError("a host name is missing before or after ','", end=1)
                address = split_address(item)
                own: Fields = {}
                here = span.narrow_to(at, len(item))
                if address.user is not None:
                    _set_consistent(own, reading, "user", address.user)
                if address.number is not None:
                    self._read_number(own, reading, address, here)
                names = [address.host] if address.is_ip6 else _expand_names(address.host, item)
                fields = reconcile_fields(reading, {**reading.fields, **own})
                found += [(name, fields, here) for name in names]
            except ParseError as error:
                end = len(item) if error.end is None else error.end
                raise ParseError(error.what, error.fix, start=at + error.start, end=at + end) from None
        return found

    def _read_number(self, own: Fields, reading: HostAttributes, address: Address, span: SourceSpan) -> None:
        """Decide whether ``:N`` is a slot count or a port: ``h:8`` slots, ``h:22`` port.

        Between the limits the attribute that the line already has decides; without one, raise a parse error.
        """
        digits = address.number or ""
        value = int(digits) if len(digits) < 10 else 10**9
        whole = f"{address.host}:{digits}"
        start = len(f"{address.user}@" if address.user is not None else "") + len(address.host) + 1
        if address.is_ip6 or self._ansible or value == 22 or value >= LEAST_PORT_BY_COLON:
            means = "port"
        elif value <= MOST_SLOTS_BY_COLON:
            means = "slots"
        elif "slots" in reading.fields and "port" not in reading.fields:
            means = "port"
        elif "port" in reading.fields and "slots" not in reading.fields:
            means = "slots"
        else:
            fix = f"write {address.host} slots={digits} for processes, {address.host} port={digits} for ssh's port"
            raise ParseError(f"{whole} may mean {digits} slots or port {digits}", fix, start=start)
        try:
            read = check_port(digits) if means == "port" else parse_count(digits, "slots")
        except ParseError as error:
            raise ParseError(error.what, error.fix, start=start) from None
        _set_consistent(own, reading, means, read)
        if means == "slots":
            text = f"{whole} is read as {value} slots; an ssh port is written port={digits}"
            self._builder.add_note("colon slots", span, text)


def _expand_names(host: str, item: str) -> list[str]:
    if "[" not in host and "]" not in host:
        return [_check_name(host, host, item)]
    try:
        names = expand_ranges(host)
    except ParseError as error:
        skip = item.index(host)
        end = len(host) if error.end is None else error.end
        raise ParseError(error.what, error.fix, start=skip + error.start, end=skip + end) from None
    return [_check_name(name, host, item) for name in names]


def _check_name(name: str, host: str, item: str) -> str:
    """Check the host name. Raise a parse error with columns counted from the start of the item."""
    try:
        return check_host(name)
    except ParseError as error:
        skip = max(item.find(host), 0)
        if name != host or error.end is None:
            raise ParseError(error.what, error.fix, start=skip, end=skip + len(host)) from None
        raise ParseError(error.what, error.fix, start=skip + error.start, end=skip + error.end) from None


def _set_consistent(own: Fields, reading: HostAttributes, name: str, value: object) -> None:
    """Set a field from the host part. Raise a parse error if an attribute contradicts it."""
    if name in reading.fields and reading.fields[name] != value:
        key = reading.written.get(name, name)
        raise ParseError(f"{key}={reading.fields[name]} and {value} in the host part disagree", "keep one")
    own[name] = value


def _spread_addresses(fields: Fields, patterns: dict[str, str], count: int) -> list[Fields]:
    """Expand ``gpu[1-3] addr=10.0.0.[1-3]``: the n-th host gets the n-th address; empty without a pattern."""
    found: list[Fields] = []
    for name in ("addr", "hostname"):
        values = (
            [check_host(each) for each in expand_ranges(patterns[name])] if name in patterns else [fields.get(name)]
        )
        if values == [None] or (count == 1 and name not in patterns):
            continue
        if len(values) != count:
            addresses = count_noun(len(values), "address")
            hosts = count_noun(count, "host")
            fix = f"give one address per host, e.g.: {name}=10.0.0.[1-{count}]"
            raise ParseError(f"{name}: {addresses} for {hosts}", fix)
        found = found or [{} for _ in range(count)]
        for own, value in zip(found, values, strict=True):
            own[name] = value
    return found
