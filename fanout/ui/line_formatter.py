"""Line formatter of the live view: prefix, colour and end of each log line."""

from __future__ import annotations

from fanout.logs.demux import LogLine
from fanout.logs.folding import label_folded_line
from fanout.logs.line_filters import DisplayFilters, LinePrefix
from fanout.logs.pipeline import LogPipeline
from fanout.text.sanitize import sanitize_line
from fanout.text.wrap import wrap_message
from fanout.ui.host_rows import get_host_code
from fanout.ui.plain_view import format_line_end
from fanout.ui.safe_writer import to_ascii

FOLDED_COLUMNS, NARROW_COLUMNS = 20, 11  # of labels, if lines may fold: ``7 of 8 ranks (not 5)``, ``7/8 (not 5)``
WIDE_COLUMNS = 100  # of a terminal with room for the long label
PREFIX = "{who} {mark}"
LEVEL_CODES = {"info": "36", "good": "32", "warning": "33", "error": "1;31"}


def format_message(text: str, level: str, width: int, *, colour: bool) -> list[str]:
    """Return a message of fanout as lines that fit into the terminal."""
    lines = wrap_message(sanitize_line(text, colour=False), width).split("\n")
    return [f"\x1b[{LEVEL_CODES[level]}m{line}\x1b[0m" for line in lines] if colour else lines


class LineFormatter:
    """Line formatter. ``columns`` is the width of the terminal."""

    def __init__(
        self, filters: DisplayFilters, flow: LogPipeline, planned_ranks: int, *, colour: bool, unicode: bool
    ) -> None:
        template = filters.prefix if filters.prefix is not None else PREFIX
        self._gap = " " if filters.prefix is None else ""
        self._prefix = LinePrefix("{time} " + template if filters.timestamps else template)
        self._flow, self._planned_ranks = flow, planned_ranks
        self._colour, self._unicode = colour, unicode
        self.columns = WIDE_COLUMNS

    def format_prefix(self, log_line: LogLine, at: float) -> str:
        """Return the label of a line, in the colour of its host."""
        prefix = self._prefix.format_prefix(log_line, self._label_columns, at)
        if self._colour and prefix:
            prefix = f"\x1b[{get_host_code(log_line.host)}m{prefix}\x1b[0m"
        return prefix + self._gap

    def format_line(self, log_line: LogLine, at: float) -> str:
        """Return a line as it is printed; a traceback gives several lines."""
        if log_line.voices > 1:
            log_line = label_folded_line(log_line, self._label_columns)
            if not self._unicode:
                log_line = log_line._replace(speaker=to_ascii(log_line.speaker), text=to_ascii(log_line.text))
        prefix = self.format_prefix(log_line, at)
        text = log_line.text
        if not text.isprintable():
            lines = [sanitize_line(line, colour=self._colour) for line in text.split("\n")]
            text = f"\n{prefix}".join([self._colour_line(line, log_line.level) for line in lines])
        elif log_line.level:
            text = self._colour_line(text, log_line.level)
        if log_line.more or log_line.voices > 1:
            text += format_line_end(log_line) if self._unicode else to_ascii(format_line_end(log_line))
        return prefix + text

    @property
    def _label_columns(self) -> int:
        """Return the width of the column of labels. It is the same for folded lines, so that the text does not jump."""
        most = FOLDED_COLUMNS if self.columns >= WIDE_COLUMNS else NARROW_COLUMNS
        return max(self._flow.streams.width, self._flow.folding.compute_label_width(most, self._planned_ranks))

    def _colour_line(self, line: str, level: str) -> str:
        """Colour a line by its level. Indented lines, and lines with colours of their own, stay unchanged."""
        if not level or not self._colour or "\x1b" in line or line[:1] in " \t":
            return line
        return f"\x1b[{LEVEL_CODES[level]}m{line}\x1b[0m"
