"""YAML text of an exported job: comments, then the document. Scripts are literal blocks that a person can read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml


class _Writer(yaml.SafeDumper):
    """Writer that keeps the order of keys, and writes a text of several lines as a literal block."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the items of a list below their key."""
        super().increase_indent(flow, False)


def _write_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return writer.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Writer.add_representer(str, _write_text)


def render_yaml(comments: Sequence[str], document: dict[str, Any]) -> str:
    """Return the comment lines and the document."""
    text = yaml.dump(document, Dumper=_Writer, sort_keys=False, allow_unicode=True, width=1000)
    return "".join(f"# {line}\n" for line in comments) + text
