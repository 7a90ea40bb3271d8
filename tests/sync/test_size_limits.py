"""Size limits: data and checkpoints are refused, with the commands that help."""

from __future__ import annotations

import pytest

from fanout.model.errors import UsageError
from fanout.sync.manifest import MOST_FILES
from fanout.sync.size_limits import LARGEST_FILE, MOST_BYTES, check_sizes


def test_code_of_usual_size_passes() -> None:
    check_sizes({"a.py": 10, "b.bin": LARGEST_FILE}, "/p", big=False)
    check_sizes({}, "/p", big=False)


def test_a_large_file_is_refused_with_the_largest_files_and_commands() -> None:
    sizes = {f"small{number}": number for number in range(9)} | {"out dir/model.pt": LARGEST_FILE + 1}
    with pytest.raises(UsageError, match=r"out dir/model.pt \(100 MB\), small8 .*small5") as refused:
        check_sizes(sizes, "/p q", big=False)
    assert "echo '/out dir/model.pt' >> .fanoutignore" in refused.value.hint
    assert "rsync -a --partial 'out dir/model.pt' HOST:'/p q'/" in refused.value.hint
    assert "--big" in refused.value.hint
    check_sizes(sizes, "/p q", big=True)


def test_many_files_of_allowed_size_are_refused_by_their_sum() -> None:
    sizes = dict.fromkeys((f"{number}.bin" for number in range(7)), LARGEST_FILE)
    assert sum(sizes.values()) > MOST_BYTES
    with pytest.raises(UsageError, match="has 700 MB"):
        check_sizes(sizes, "/p", big=False)


def test_too_many_files_are_refused_also_if_big_is_allowed() -> None:
    sizes = {f"data/{number}": 1 for number in range(MOST_FILES)} | {"a.py": 1}
    with pytest.raises(UsageError, match=r"100001 files.*100000 are in data/") as refused:
        check_sizes(sizes, "/p", big=True)
    assert refused.value.hint == "echo /data/ >> .fanoutignore"
