"""HTML report: one self-contained page with the verdict, timeline, curves and a log excerpt of a run.

The page is ``html/page.html`` with a style, a script and the run as JSON. Untrusted text occurs only in the JSON, with
every ``<`` escaped, and the script inserts it as text, never as markup. The page's Content-Security-Policy allows only
this one script and no network access.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any

#: The files of the script, in the order in which the page runs them. They share one scope.
SCRIPTS = ("elements.js", "axes.js", "head.js", "timeline.js", "charts.js", "log.js", "reload.js", "main.js")


def fill_template(
    shown: str, others: Sequence[str], *, live: Mapping[str, Any] | None, attempt_lines: Sequence[str] = ()
) -> str:
    """Return the page. ``shown`` and ``others`` are the attempts, as JSON from ``to_script_json``.

    ``live`` is None for a page that is complete, else the time of writing and the seconds until the next write (0: none
    follows). ``attempt_lines`` is the table of attempts for the report.
    """
    template, style, script = _read_assets()
    head = to_script_json({"v": 2, "live": live, "table": attempt_lines})
    policy = f"default-src 'none'; style-src {_hash_source(style)}; script-src {_hash_source(script)}; base-uri 'none'"
    parts = {
        "policy": html.escape(policy, quote=True),
        "style": style,
        "script": script,
        "data": f'{head[:-1]},"attempts":[{",".join([shown, *others])}]}}',
    }
    whole = template
    for name, text in parts.items():  # the data comes last, so a placeholder in it is never replaced
        before, mark, after = whole.partition(f"{{{{{name}}}}}")
        assert mark, f"page.html has no place for {name}"
        whole = before + text + after
    return whole


def to_script_json(data: Any) -> str:
    """Return JSON without ``<``, ``>`` and ``&``, so that an HTML parser cannot misread it."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _read_assets() -> tuple[str, str, str]:
    """Return the template, the style, and the script, whose files become the body of one function."""
    template, style = (_read_asset(name) for name in ("page.html", "page.css"))
    script = "\n".join(_read_asset(name) for name in SCRIPTS)
    return template, style, f'"use strict";\n(() => {{\n{script}\n}})();'


def _read_asset(name: str) -> str:
    return (resources.files("fanout.ui") / "html" / name).read_text(encoding="utf-8").strip()


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
