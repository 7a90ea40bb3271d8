"""File of the HTML page: what it may replace, and that a reader never finds half a page."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from fanout.model.errors import UsageError
from fanout.run.page_file import PageFile

PAGE = "<!DOCTYPE html>\n<title>fanout run</title>\n"


@pytest.mark.parametrize("text", ["", " \n", PAGE, "<!doctype HTML><p>"])
def test_only_a_page_is_overwritten(tmp_path: Path, text: str) -> None:
    """Another file is refused at the start, and also if it appears between two writes."""
    place = tmp_path / "page.html"
    place.write_text(text)
    file = PageFile("page.html", str(tmp_path))
    file.write(PAGE)
    assert place.read_text() == PAGE
    place.write_text("import torch\n")
    with pytest.raises(UsageError, match="is not an HTML page"):
        file.write(PAGE)
    with pytest.raises(UsageError, match="is not an HTML page"):
        PageFile("page.html", str(tmp_path))
    assert place.read_text() == "import torch\n"
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_page_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A reader that has the earlier page open keeps it, links and permissions stay, and no other file is left."""
    place, link = tmp_path / "page.html", tmp_path / "link.html"
    place.write_text(PAGE)
    place.chmod(0o640)
    link.symlink_to(place)
    with open(place) as reader:
        PageFile("link.html", str(tmp_path)).write(PAGE + "<p>more")
        assert reader.read() == PAGE
    assert place.read_text() == PAGE + "<p>more"
    assert (link.is_symlink(), place.stat().st_mode & 0o777) == (True, 0o640)
    assert sorted(os.listdir(tmp_path)) == ["link.html", "page.html"]


def test_a_failed_write_keeps_the_earlier_page(tmp_path: Path) -> None:
    """The disk takes no more bytes than the limit on the size of files."""
    file = PageFile("page.html", str(tmp_path))
    file.write(PAGE)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.write(PAGE + "more" * 4096)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert (tmp_path / "page.html").read_text() == PAGE
    assert os.listdir(tmp_path) == ["page.html"]


def test_a_place_without_room_for_a_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        PageFile("no/page.html", str(tmp_path))
    with pytest.raises(UsageError, match="this is a directory"):
        PageFile(".", str(tmp_path))
    with pytest.raises(UsageError, match="can replace"):
        PageFile(os.devnull, str(tmp_path), is_rewritten=True)
    PageFile(os.devnull, str(tmp_path)).write(PAGE)
