"""Hostfile reader: decode bytes, detect the dialect, follow includes. No I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

from fanout.hostfile.csv_table import TableReader, detect_delimiter
from fanout.hostfile.host_list_builder import HostListBuilder
from fanout.hostfile.other_file_types import recognize_file
from fanout.hostfile.plain_text import TextReader, is_ansible
from fanout.hostfile.problems import Problems, SourceSpan
from fanout.model.errors import HostfileError
from fanout.model.hosts import HostFile
from fanout.text.sanitize import escape_invisible

Load = Callable[[str], bytes]  # the bytes of an included file, by its path; raises HostfileError

MOST_BYTES = 8 * 1024 * 1024
LONGEST_LINE = 64 * 1024
DEEPEST_INCLUDE = 8

_NEWLINE = re.compile(r"\r\n|\n|\r")
_FORBIDDEN = re.compile(
    "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_YAML_START = re.compile(r"---(?:\s|$)|- |-$|\{|\[[ \t]*(?:[\"'{\[]|$)|[A-Za-z_][\w.-]*:(?:[ \t]|$)")
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


def parse_hostfile(data: bytes, *, file: str, load: Load | None = None) -> HostFile:
    """Parse a hostfile of any known dialect. Raise ``HostfileError`` with all its problems.

    ``load`` returns the bytes of a file that ``@include`` names (relative to the including file). Without it an
    include is an error.
    """
    problems = Problems(file)
    builder = HostListBuilder(file, problems)
    _FileReader(builder, load).read(data, file, "", ())
    return builder.build_hostfile()


def decode_text(data: bytes, *, file: str) -> str:
    """Decode to text without a byte order mark. Raise ``HostfileError`` if it is not UTF-8 text."""
    if len(data) > MOST_BYTES:
        raise HostfileError(f"{escape_invisible(file)}: larger than {MOST_BYTES >> 20} MiB; not a hostfile")
    for mark, name in _MARKS:
        if data.startswith(mark):
            raise _build_encoding_error(
                file,
                1,
                f"{name}, not UTF-8 text",
                f"iconv -f {name} -t UTF-8 {escape_invisible(file)} > hosts-utf8.txt",
            )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"not UTF-8 text (byte 0x{data[error.start]:02x})"
        raise _build_encoding_error(
            file, line, what, f"iconv -f LATIN1 -t UTF-8 {escape_invisible(file)} > hosts-utf8.txt"
        ) from None
    if "\x00" in text:
        line = text.count("\n", 0, text.index("\x00")) + 1
        raise _build_encoding_error(file, line, "not UTF-8 text (a NUL byte)", "is it the right file?")
    return text


def _build_encoding_error(file: str, line: int, what: str, fix: str) -> HostfileError:
    return HostfileError(f"{escape_invisible(file)}:{line}: {what}\n  {fix}")


def detect_format(text: str, *, file: str) -> str:
    """Return ``yaml`` or ``text``, by the file suffix, else by the first line with content."""
    ending = file.rpartition(".")[2].lower()
    if ending in ("yaml", "yml", "json"):
        return "yaml"
    first = next(
        (line for line in _NEWLINE.split(text[:LONGEST_LINE]) if line.strip() and line.strip()[0] not in "#;"), ""
    )
    return "yaml" if _YAML_START.match(first) else "text"


class _FileReader:
    """Reader of one file and its includes into one host list."""

    def __init__(self, builder: HostListBuilder, load: Load | None) -> None:
        self._builder = builder
        self._load = load

    def read(self, data: bytes, file: str, section: str, chain: tuple[str, ...]) -> None:
        text = decode_text(data, file=file)
        lines = _NEWLINE.split(text)
        if not self._is_clean(text, lines, file):
            return

        def include(path: str, span: SourceSpan, inside: str) -> None:
            self._follow_include(path, span, inside, (*chain, file))

        foreign = recognize_file(lines, text, file)
        if foreign is not None:
            self._builder.problems.add_problem(*foreign)
            return
        ansible = is_ansible(text)
        reader = TextReader(self._builder, file, include=include, section=section, ansible=ansible)
        if detect_format(text, file=file) == "yaml":
            from fanout.hostfile.inventory import InventoryReader  # lazily: it loads YAML, which few hostfiles need

            InventoryReader(self._builder, file, reader, lines, text).read(text, section)
            return
        delimiter = detect_delimiter(lines, file=file)
        if delimiter:
            TableReader(self._builder, file).read(lines, delimiter, section)
        else:
            reader.read(lines)

    def _follow_include(self, path: str, span: SourceSpan, section: str, chain: tuple[str, ...]) -> None:
        problems = self._builder.problems
        if self._load is None:
            problems.add_problem(span, "@include cannot be used here", "give the hosts themselves")
            return
        target = os.path.normpath(os.path.join(os.path.dirname(chain[-1]), os.path.expanduser(path)))
        if target in [os.path.normpath(file) for file in chain]:
            problems.add_problem(
                span, f"{path} includes itself", f"the files that include each other: {' → '.join((*chain, path))}"
            )
            return
        if len(chain) > DEEPEST_INCLUDE:
            problems.add_problem(span, f"@include is nested more than {DEEPEST_INCLUDE} deep")
            return
        try:
            data = self._load(target)
            self.read(data, target, section, chain)
        except HostfileError as error:
            problems.add_problem(span, f"@include {path}: {error}", error.hint)

    def _is_clean(self, text: str, lines: list[str], file: str) -> bool:
        """Check for control characters and for lines that are too long; add a problem for each."""
        clean = True
        if _FORBIDDEN.search(text):
            for number, line in enumerate(lines, 1):
                found = _FORBIDDEN.search(line)
                if found:
                    span = SourceSpan(file=file, line=number, text=line, column=found.start())
                    self._builder.problems.add_problem(
                        span, f"a control character (U+{ord(found[0]):04X})", "delete it"
                    )
            clean = False
        if len(text) > LONGEST_LINE and detect_format(text, file=file) == "text":  # JSON comes in one line
            for number, line in enumerate(lines, 1):
                if len(line) > LONGEST_LINE:
                    span = SourceSpan(file=file, line=number)
                    self._builder.problems.add_problem(
                        span, f"a line of {len(line):,} characters; the limit is {LONGEST_LINE:,}", "one host per line"
                    )
                    clean = False
        return clean
