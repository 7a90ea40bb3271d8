"""The plain-text hostfile: a host or a range a line with its attributes, sections, group lines and includes.

One grammar reads DeepSpeed's, Open MPI's, MPICH's, Horovod's, pdsh's, Slurm's and pssh's files and Ansible's INI, since
each of them is a part of it. Where a line means two things to two of them it is refused with both readings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from fanout.hostfile.attributes import Fields, Reading, count_of, finish, read_attribute
from fanout.hostfile.names import TAG, Address, check_host, check_port, split_address
from fanout.hostfile.problems import Slip, Spot
from fanout.hostfile.ranges import split_list, spread
from fanout.hostfile.roll import Roll
from fanout.hostfile.suspects import COMMANDS, likely
from fanout.hostfile.words import Word, content, first_word, words_after

Include = Callable[[str, Spot, str], None]  # (path as written, where, the section that it happens in)

MOST_SLOTS_BY_COLON = 64
LEAST_PORT_BY_COLON = 1024

_SECTION = re.compile(r"[ \t]*\[[ \t]*([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?::[ \t]*(vars|children)[ \t]*)?\][ \t]*(.*)")
_INCLUDE = re.compile(r"[ \t]*@include[ \t]+(.+)")
_ANSIBLE = re.compile(r"(?m)^[ \t]*\[[^\]\n]*:(?:vars|children)[ \t]*\]|\bansible_[a-z_]+[ \t]*=")


class TextReader:
    """Reads the lines of one file into the roll; a section that another file opened goes on in it."""

    def __init__(self, roll: Roll, file: str, *, include: Include, section: str = "", ansible: bool = False) -> None:
        self._roll = roll
        self._file = file
        self._include = include
        self._section = section
        self._part = ""
        self._ansible = ansible

    def read(self, lines: list[str]) -> None:
        for number, line in enumerate(lines, 1):
            text = content(line)
            if not text or text.isspace() or text.lstrip(" \t")[0] == ";":
                if line.startswith("#include "):
                    spot = Spot(file=self._file, line=number)
                    self._roll.note(
                        "#include", spot, "'#include' is a comment here; to read that file write @include FILE"
                    )
                continue
            self._line(text, Spot(file=self._file, line=number, text=line, width=len(line.rstrip())))

    def _line(self, text: str, spot: Spot) -> None:
        lead = text.lstrip(" \t")[0]
        try:
            if lead == "[" and self._open_section(text, spot):
                return
            if self._part == "vars":
                self._say(self._section, text, 0)
            elif self._part == "children":
                self._child(text.strip(), spot)
            elif lead == "@":
                self._group_line(text, spot)
            elif lead == "^":
                self._left_out(text, spot)
            else:
                self.entry(text, spot)
        except Slip as slip:
            self._roll.problems.slip(spot, slip, column=0, length=len(text))

    def _open_section(self, text: str, spot: Spot) -> bool:
        match = _SECTION.fullmatch(text)
        if match is None:
            return False
        name, part, rest = match.groups()
        if rest:
            fix = f"on a line of its own write: @{name} {rest}"
            raise Slip("something stands after the section's name", fix, start=match.start(3), end=match.end(3))
        self._section, self._part = name, part or ""
        if part != "vars":
            self._roll.group(name)
        return True

    def _say(self, group: str, text: str, start: int) -> Reading:
        """Attributes for everybody in a group: the line of a :vars section, or the rest of an @group line."""
        reading = Reading()
        words = list(words_after(text, start))
        if start == 0 and words and not words[0].key:
            raise Slip("not a variable", f"in [{group}:vars] write NAME=value, one a line", end=words[0].length)
        if self._part == "vars" and len(words) > 1:  # Ansible: the value goes to the end of the line
            one = words[0]
            words = [Word(one.key, text[one.column :].strip(), one.column, len(text) - one.column, one.key_column)]
        for word in words:
            self._attribute(reading, word)
        self._roll.say(group, finish(reading))
        return reading

    def _child(self, name: str, spot: Spot) -> None:
        if not TAG.fullmatch(name):
            raise Slip(f"{name!r} is no group", "one group a line")
        self._roll.child(self._section, name, spot)

    def _group_line(self, text: str, spot: Spot) -> None:
        included = _INCLUDE.fullmatch(text)
        if included:
            path = included[1].strip().strip("\"'")
            self._include(path, spot.within(included.start(1), len(included[1])), self._section)
            return
        column, word = first_word(text)
        name = word[1:]
        if not TAG.fullmatch(name) or name == "include":
            fix = "write @include FILE" if name == "include" else "write @name for a group or @include FILE"
            raise Slip(f"{word!r} is no group", fix, start=column, end=column + len(word))
        here = spot.within(column, len(word))
        self._roll.mention(name, here)
        if self._section and self._section != name:
            self._roll.child(self._section, name, here)
        reading = self._say(name, text, column + len(word))
        self._roll.note_reading(reading, here)

    def _left_out(self, text: str, spot: Spot) -> None:
        column, word = first_word(text.replace("^", " ", 1))
        if text[column + len(word) :].strip():
            raise Slip(
                "something stands after the host that is left out", "write ^host alone", start=column + len(word)
            )
        for start, _, part in split_list(word):
            for name in spread(part.strip()):
                self._roll.leave_out(check_host(name), spot.within(column + start, len(part)))

    def entry(self, text: str, spot: Spot) -> None:
        """A line with a host, several, or a range; what stands after them holds for each."""
        column, word = first_word(text)
        rest = column + len(word)
        if text[rest : rest + 1] == "#":  # pdsh's comments begin anywhere, and no host name has a '#'
            text = text[:rest]
        suspect = likely(text) if _looks_wrong(text, word, rest) else None
        if suspect:
            raise Slip(suspect[0], suspect[1], start=column, end=len(text))
        reading = Reading()
        try:
            self._attributes(reading, text, rest, word)
        except Slip:
            self._hosts(word, column, Reading(), spot)  # a line whose host is wrong is told so first
            raise
        hosts = self._hosts(word, column, reading, spot)
        spreads = _spread_addresses(reading, len(hosts), start=rest, end=len(text))
        fields = finish(reading)
        for (name, own, here), addresses in zip(hosts, spreads, strict=True):
            self._roll.add(name, {**fields, **own, **addresses}, here, self._section)
            if not word.isascii():
                self._roll.note(f"idna {name}", here, f"{word} is dialled as {name}")
        if reading.unknown or reading.withheld or reading.counted_gpus:
            self._roll.note_reading(reading, spot)

    def _attributes(self, reading: Reading, text: str, start: int, host: str) -> None:
        for said in words_after(text, start):
            if said.key:
                self._attribute(reading, said)
            else:
                self._single(reading, host, said)

    def _hosts(self, word: str, column: int, reading: Reading, spot: Spot) -> list[tuple[str, Fields, Spot]]:
        found: list[tuple[str, Fields, Spot]] = []
        for start, _, part in split_list(word):
            item = part.strip(" \t")
            at = column + start + len(part) - len(part.lstrip(" \t"))
            try:
                if not item:
                    raise Slip("a host name is missing before or after ','", end=1)
                address = split_address(item)
                own: Fields = {}
                here = spot.within(at, len(item))
                if address.user is not None:
                    _agree(own, reading, "user", address.user)
                if address.number is not None:
                    self._number(own, reading, address, here)
                names = [address.host] if address.is_ip6 else _names(address.host, item)
                found += [(name, own, here) for name in names]
            except Slip as slip:
                end = len(item) if slip.end is None else slip.end
                raise Slip(slip.what, slip.fix, start=at + slip.start, end=at + end) from None
        return found

    def _number(self, own: Fields, reading: Reading, address: Address, spot: Spot) -> None:
        """``h:8`` is slots and ``h:22`` a port; in between only what the rest of the line leaves open decides."""
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
            raise Slip(f"{whole} may mean {digits} slots or port {digits}", fix, start=start)
        try:
            read = check_port(digits) if means == "port" else count_of(digits, "slots")
        except Slip as slip:
            raise Slip(slip.what, slip.fix, start=start) from None
        _agree(own, reading, means, read)
        if means == "slots":
            text = f"{whole} is read as {value} slots; an ssh port is written port={digits}"
            self._roll.note("colon slots", spot, text)

    def _attribute(self, reading: Reading, word: Word) -> None:
        try:
            read_attribute(reading, word.key, word.value, ansible=self._ansible)
        except Slip as slip:
            whole = slip.start == 0 and slip.end is None
            start = word.key_column if whole else word.column + slip.start
            end = word.column + (word.length if slip.end is None else slip.end)
            raise Slip(slip.what, slip.fix, start=start, end=max(end, start + 1)) from None

    def _single(self, reading: Reading, host: str, word: Word) -> None:
        """A word without '=': ``spare``, or the count of Metis and MS-MPI; anything else means too many things."""
        if word.value.lower() == "spare":
            reading.put("spare", "spare", True)
            return
        where = {"start": word.column, "end": word.column + word.length}
        try:
            if word.value.isascii() and word.value.isdigit():
                reading.put("slots", "the number", count_of(word.value, "slots"))
                return
        except Slip as slip:
            raise Slip(slip.what, slip.fix, **where) from None
        if word.value.startswith("="):
            raise Slip("'=' without a name before it", "write slots=8", **where)
        if TAG.fullmatch(word.value):
            fix = f"write {host},{word.value} for two hosts, {host} user={word.value} for a user, or put # before a comment"
            raise Slip(f"{word.value!r} may be a second host, a user or a note", fix, **where)
        raise Slip(f"{word.value!r} is no attribute", "after the host stand key=value pairs, e.g.: slots=8", **where)


def is_ansible(text: str) -> bool:
    """Sections with :vars or :children, or ansible_ variables: ``host:N`` is a port then, other variables are theirs."""
    return _ANSIBLE.search(text) is not None


def _looks_wrong(text: str, word: str, rest: int) -> bool:
    """Whether the line is worth comparing with well-known shapes: cheap, since every good line passes here."""
    after = text[rest : rest + 2].lstrip(" \t")
    if word in COMMANDS or word[:1] in "+<{/" or word == "Host" or ("=" in word) or "://" in word:
        return True
    return bool(after) and word != "" and "=" not in text and not after.isdigit()


def _names(host: str, item: str) -> list[str]:
    if "[" not in host and "]" not in host:
        return [_placed(host, host, item)]
    try:
        names = spread(host)
    except Slip as slip:
        skip = item.index(host)
        end = len(host) if slip.end is None else slip.end
        raise Slip(slip.what, slip.fix, start=skip + slip.start, end=skip + end) from None
    return [_placed(name, host, item) for name in names]


def _placed(name: str, host: str, item: str) -> str:
    """``check_host`` with the slip's columns counted in the item, where the host is not all of it."""
    try:
        return check_host(name)
    except Slip as slip:
        skip = max(item.find(host), 0)
        if name != host or slip.end is None:
            raise Slip(slip.what, slip.fix, start=skip, end=skip + len(host)) from None
        raise Slip(slip.what, slip.fix, start=skip + slip.start, end=skip + slip.end) from None


def _agree(own: Fields, reading: Reading, name: str, value: object) -> None:
    """What stands in the host part and what its attributes say may repeat but not contradict each other."""
    if name in reading.fields and reading.fields[name] != value:
        key = reading.written.get(name, name)
        raise Slip(f"{key}={reading.fields[name]} and {value} in the host part disagree", "keep one")
    own[name] = value


def _spread_addresses(reading: Reading, count: int, *, start: int, end: int) -> list[Fields]:
    """``gpu[1-3] addr=10.0.0.[1-3]``: the n-th host has the n-th address."""
    found: list[Fields] = [{} for _ in range(count)]
    for name in ("addr", "hostname"):
        pattern = reading.patterns.pop(name, None)
        values = [check_host(each) for each in spread(pattern)] if pattern else [reading.fields.get(name)]
        if values == [None] or (count == 1 and not pattern):
            continue
        if len(values) != count:
            what = f"{name}= gives {len(values)} address{'es' if len(values) > 1 else ''} for {count} host{'s' if count > 1 else ''}"
            raise Slip(what, f"give as many as hosts, e.g.: {name}=10.0.0.[1-{count}]", start=start, end=end)
        for own, value in zip(found, values, strict=True):
            own[name] = value
    return found
