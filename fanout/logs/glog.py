"""Heads of log records in the format of glog, which torch uses too: ``E0131 14:30:00.123456``, ``[W131 14:30:00``.

A head has the level, the month, the day and the time. Torch's C++ code writes the month without a leading zero.
"""

from __future__ import annotations

import re

#: A head at the start of a line, for the patterns of other modules. It has no groups.
HEAD = r"\[?[EWIF]\d{3,4} \d\d:\d\d:\d\d(?:\.\d{1,9})?"

#: The head of a record, with its parts, also after a rank prefix such as ``[rank5]:``.
RECORD = re.compile(
    r"^(?:\[[A-Za-z_]{0,20}\d{1,9}\]:)?\s{0,20}\[?(?P<level>[EWIF])(?P<month>\d?\d)(?P<day>\d\d) "
    r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:\.(?P<part>\d{1,9}))?"
)
