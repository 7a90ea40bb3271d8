"""Plain-text hostfile: one host or range per line with attributes, sections, group lines and includes.

One grammar reads the files of DeepSpeed, Open MPI, MPICH, Horovod, pdsh, Slurm and pssh, and Ansible's INI, because
each of them is a subset. If a line means different things to two of them, it is refused with both readings.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from fanout.hostfile.attributes import KEYS, HostAttributes, parse_count, read_attribute, reconcile_fields
from fanout.hostfile.host_list_builder import HostListBuilder
from fanout.hostfile.host_spec import HostSpecReader
from fanout.hostfile.line_tokens import Word, split_first_word, split_words, strip_comment
from fanout.hostfile.misfiled_lines import COMMANDS, recognize_line
from fanout.hostfile.name_grammar import TAG, check_host
from fanout.hostfile.node_sets import expand_ranges, split_list
from fanout.hostfile.problems import ParseError, SourceSpan
from fanout.hostfile.ssh_commands import is_ssh_command

Include = Callable[[str, SourceSpan, str], None]  # (path as written, position, section)

_SECTION = re.compile(r"[ \t]*\[[ \t]*([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*(?::[ \t]*(vars|children)[ \t]*)?\][ \t]*(.*)")
_SPEAKS_OF_A_HOST = re.compile(rf"[ \t](?:(?:{'|'.join(KEYS)})[ \t]*=|env\.|spare\b)", re.IGNORECASE)
_PLAIN = re.compile(r"[ \t]*([A-Za-z](?:[A-Za-z0-9_-]{0,60}[A-Za-z0-9])?)(?:[ \t]+slots=([1-9][0-9]{0,2}))?[ \t]*")
_BRACES = re.compile(r"([ \t]*)([\w.@-]*)\{([\w.,-]+)\}([\w.:-]*)")
_RUN = re.compile(r"(?<!\d)(\d{1,9})\.\.(\d{1,9})")
_INCLUDE = re.compile(r"[ \t]*@include[ \t]+(.+)")
_ANSIBLE = re.compile(r"(?m)^[ \t]*\[[^\]\n]*:(?:vars|children)[ \t]*\]|\bansible_[a-z_]+[ \t]*=")


class TextReader:
    """Reader that adds the lines of one file to the host list; an included file continues the open section."""

    def __init__(
        self, builder: HostListBuilder, file: str, *, include: Include, section: str = "", ansible: bool = False
    ) -> None:
        self._builder = builder
        self._file = file
        self._include = include
        self._section = section
        self._part = ""
        self._ansible = ansible
        self._entry = HostSpecReader(builder, ansible=ansible)

    def read(self, lines: list[str]) -> None:
        for number, line in enumerate(lines, 1):
            if self._is_plain(line, number):
                continue
            text = strip_comment(line)
            if not text or text.isspace() or text.lstrip(" \t")[0] == ";":
                if line.startswith("#include "):
                    span = SourceSpan(file=self._file, line=number)
                    self._builder.add_note(
                        "#include", span, "'#include' is a comment here; to read that file write @include FILE"
                    )
                continue
            self._read_line(text, SourceSpan(file=self._file, line=number, text=line, width=len(line.rstrip())))

    def _is_plain(self, line: str, number: int) -> bool:
        """Read a plain line such as ``worker-1 slots=8`` at once, for speed; return whether it was one."""
        match = _PLAIN.fullmatch(line)
        if match is None or self._part:
            return False
        fields = {"slots": int(match[2])} if match[2] else {}
        span = SourceSpan(self._file, number, line, match.start(1), match.end(1) - match.start(1))
        self._builder.add_host(match[1], fields, span, self._section)
        return True

    def _read_line(self, text: str, span: SourceSpan) -> None:
        lead = text.lstrip(" \t")[0]
        try:
            if lead == "[" and self._open_section(text, span):
                return
            if self._part == "vars":
                self._set_defaults(self._section, text, 0)
            elif self._part == "children":
                self._add_child(text.strip(), span)
            elif lead == "@":
                self._read_group_line(text, span)
            elif lead == "^":
                self._read_exclusion(text, span)
            else:
                self.read_entry(text, span, self._section)
        except ParseError as error:
            self._builder.problems.add_error(span, error, column=0, length=len(text))

    def _open_section(self, text: str, span: SourceSpan) -> bool:
        match = _SECTION.fullmatch(text)
        if match is None:
            return False
        name, part, rest = match.groups()
        if rest:
            fix = f"on a line of its own write: @{name} {rest}"
            raise ParseError("there is text after the section name", fix, start=match.start(3), end=match.end(3))
        self._section, self._part = name, part or ""
        if part != "vars":
            self._builder.add_group(name)
        return True

    def _set_defaults(self, group: str, text: str, start: int) -> HostAttributes:
        """Set attributes for a group, from a line of a :vars section or the rest of an @group line."""
        reading = HostAttributes()
        words = list(split_words(text, start))
        if start == 0 and words and not words[0].key:
            raise ParseError("not a variable", f"in [{group}:vars] write NAME=value, one per line", end=words[0].length)
        if self._part == "vars" and len(words) > 1:  # Ansible: the value extends to the end of the line
            one = words[0]
            words = [Word(one.key, text[one.column :].strip(), one.column, len(text) - one.column, one.key_column)]
        for word in words:
            self._read_attribute(reading, word)
        self._builder.set_defaults(group, reconcile_fields(reading, reading.fields))
        return reading

    def _add_child(self, name: str, span: SourceSpan) -> None:
        if not TAG.fullmatch(name):
            raise ParseError(f"{name!r} is not a group", "one group per line")
        self._builder.add_child_group(self._section, name, span)

    def _read_group_line(self, text: str, span: SourceSpan) -> None:
        """Read ``@name slots=8`` (attributes of the group) or ``@name`` (add the group to the current section)."""
        included = _INCLUDE.fullmatch(text)
        if included:
            path = included[1].strip().strip("\"'")
            self._include(path, span.narrow_to(included.start(1), len(included[1])), self._section)
            return
        column, word = split_first_word(text)
        name = word[1:]
        if not TAG.fullmatch(name) or name == "include":
            fix = "write @include FILE" if name == "include" else "write @name for a group or @include FILE"
            raise ParseError(f"{word!r} is not a group", fix, start=column, end=column + len(word))
        here = span.narrow_to(column, len(word))
        self._builder.require_group(name, here)
        rest = column + len(word)
        if text[rest:].strip():
            self._builder.note_attributes(self._set_defaults(name, text, rest), here)
        elif self._section and self._section != name:
            self._builder.add_child_group(self._section, name, here)

    def _read_exclusion(self, text: str, span: SourceSpan) -> None:
        column, word = split_first_word(text.replace("^", " ", 1))
        if text[column + len(word) :].strip():
            raise ParseError("there is text after the excluded host", "write ^host alone", start=column + len(word))
        for start, _, part in split_list(word):
            for name in expand_ranges(part.strip()):
                self._builder.exclude_host(check_host(name), span.narrow_to(column + start, len(part)))

    def read_entry(self, text: str, span: SourceSpan, section: str) -> None:
        """Read a line with a host, several, or a range; its attributes apply to each. Raise a parse error if invalid."""
        _check_blanks(text)
        _check_braces(text)
        column, word = split_first_word(text)
        rest = column + len(word)
        if text[rest : rest + 1] == "#":  # pdsh allows a comment anywhere, and no host name has a '#'
            text = text[:rest]
        foreign = recognize_line(text) if _seems_wrong(text, word, rest) else None
        if foreign:
            raise ParseError(foreign[0], foreign[1], start=column, end=len(text))
        reading = HostAttributes()
        try:
            self._read_attributes(reading, text, rest, word)
        except ParseError:
            self._entry.check_spec(word, column)  # report a wrong host first
            raise
        self._entry.add_hosts(word, column, reading, span, section)

    def _read_attributes(self, reading: HostAttributes, text: str, start: int, host: str) -> None:
        for word in split_words(text, start):
            if word.key:
                self._read_attribute(reading, word)
            else:
                self._read_single_word(reading, host, word)

    def _read_attribute(self, reading: HostAttributes, word: Word) -> None:
        try:
            read_attribute(reading, word.key, word.value, ansible=self._ansible)
        except ParseError as error:
            whole = error.start == 0 and error.end is None
            start = word.key_column if whole else word.column + error.start
            end = word.column + (word.length if error.end is None else error.end)
            raise ParseError(error.what, error.fix, start=start, end=max(end, start + 1)) from None

    def _read_single_word(self, reading: HostAttributes, host: str, word: Word) -> None:
        """Read a word without '=': ``spare``, or the count of Metis and MS-MPI; others are ambiguous."""
        if word.value.lower() == "spare":
            reading.set_field("spare", "spare", True)
            return
        where = {"start": word.column, "end": word.column + word.length}
        try:
            if word.value.isascii() and word.value.isdigit():
                reading.set_field("slots", "the number", parse_count(word.value, "slots"))
                return
        except ParseError as error:
            raise ParseError(error.what, error.fix, **where) from None
        if word.value.startswith("="):
            raise ParseError("'=' without a name before it", "write slots=8", **where)
        if word.value.lower() in KEYS:
            raise ParseError(
                f"{word.value!r} has no value", f"write {word.value}=VALUE, without spaces: slots=8", **where
            )
        if TAG.fullmatch(word.value):
            fix = f"write {host},{word.value} for two hosts, {host} user={word.value} for a user, or put # before a comment"
            raise ParseError(f"{word.value!r} may be a second host, a user or a note", fix, **where)
        raise ParseError(
            f"{word.value!r} is not an attribute", "after the host write key=value pairs, e.g.: slots=8", **where
        )


def _check_blanks(text: str) -> None:
    """Raise a parse error at a blank that is not a plain space. Lines with quotes are not checked."""
    if text.isascii() or '"' in text or "'" in text:
        return
    for at, char in enumerate(text):
        if char != " " and unicodedata.category(char) == "Zs":
            name = _BLANKS.get(char) or f"a blank called {unicodedata.name(char, '?').lower()}"
            raise ParseError(f"U+{ord(char):04X} is {name}; type an ordinary space", start=at, end=at + 1)


_BLANKS = {"\u00a0": "a no-break space", "\u202f": "a narrow no-break space", "\u3000": "an ideographic space"}


def _check_braces(text: str) -> None:
    """Raise a parse error at a shell brace list, with the range that means the same."""
    found = _BRACES.match(text)
    if found is None:
        return
    inner = ",".join(_RUN.sub(r"\1-\2", part) for part in found[3].split(","))
    fix = f"write {found[2]}[{inner}]{found[4]}"
    if not re.fullmatch(r"[0-9,-]+", inner):
        fix = "write " + ",".join(f"{found[2]}{part}{found[4]}" for part in found[3].split(","))
    raise ParseError("braces are shell syntax", fix, start=found.start(2), end=found.end(4))


def is_ansible(text: str) -> bool:
    """Return whether the file has Ansible sections or variables. Then ``host:N`` is a port."""
    return _ANSIBLE.search(text) is not None


def _seems_wrong(text: str, word: str, rest: int) -> bool:
    """Return whether the line needs the comparison with known forms. This is fast, because every line passes."""
    if is_ssh_command(text):
        return True
    after = text[rest : rest + 2].lstrip(" \t")
    if _SPEAKS_OF_A_HOST.search(text, rest) or text[rest:].strip().isdigit():
        return False  # a machine may be named docker
    if word in COMMANDS or word[:1] in "+<{/" or word in ("Host", "rank") or ("=" in word) or "://" in word:
        return True
    return bool(after) and word != "" and "=" not in text
