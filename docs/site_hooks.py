"""Hooks of mkdocs: README and CONTRIBUTING are pages of the site, and links to other files outside of docs/ become text."""

from __future__ import annotations

import os
import re
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
#: Files of the project -> pages of the site.
PAGES = {"README.md": "start.md", "CONTRIBUTING.md": "contributing.md"}
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        with open(os.path.join(ROOT, name), encoding="utf-8") as file:
            files.append(File.generated(config, page, content=move_links(file.read(), "")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Return the text of a page with links that are valid in the site."""
    return markdown if page.file.src_uri in PAGES.values() else move_links(markdown, "docs")


def move_links(markdown: str, folder: str) -> str:
    """Return the text of a file in ``folder`` with links between pages of the site. Other relative links become text."""

    def move_link(found: re.Match[str]) -> str:
        text, path, anchor = found[1], found[2], found[3] or ""
        if re.match(r"[a-z]+:", path):
            return found[0]
        target = os.path.normpath(os.path.join(folder, path))
        page = PAGES.get(target) or (os.path.relpath(target, "docs") if target.startswith("docs/") else "")
        return f"[{text}]({page}{anchor})" if page.endswith(".md") else text

    return _LINK.sub(move_link, markdown)
