"""The small tasks, hello and allreduce: they check their sums, and say in one line what they cannot do."""

from __future__ import annotations

import pytest
import torch

from tests.tasks.task_places import ALLREDUCE, HELLO
from tests.tasks.task_runs import RankForker

pytestmark = pytest.mark.process


@pytest.mark.parametrize(("nodes", "per_node"), [(1, 2), (2, 1)])
def test_hello_shows_every_rank_and_checks_a_sum(nodes: int, per_node: int, forker: RankForker) -> None:
    """Each rank has one line of its own, whatever the topology."""
    output = forker.launch(nodes, per_node, [HELLO])
    assert output.count("hello from rank 0/2") == output.count("hello from rank 1/2") == 1
    assert "gave [1, 2], expected [1, 2]: right" in output


def test_hello_works_without_torchrun(forker: RankForker) -> None:
    """It prints that it is alone."""
    output = forker.alone([HELLO])
    assert "not started by torchrun: alone" in output
    assert "gave [0, 1], expected [0, 1]: right" in output


def test_allreduce_has_a_row_for_every_size_with_its_sum_checked(forker: RankForker) -> None:
    """The table is rank 0's."""
    table = forker.launch(1, 2, [ALLREDUCE, "--max-bytes", "65536", "--iterations", "2"])
    rows = [line.split()[0] for line in table.splitlines() if line.endswith("right")]
    assert rows == ["1024", "4096", "16384", "65536"]


def test_allreduce_prints_its_usage(forker: RankForker) -> None:
    """Sizes that make no table, a start without torchrun, nccl without a GPU: one line, exit code 2."""
    wrong: list[tuple[list[str], dict[str, str], str]] = [
        (["--factor", "1"], {}, "error: wants 0 < --min-bytes"),
        ([], {}, "error: start this with torchrun"),
    ]
    if not torch.cuda.is_available():
        wrong.append((["--backend", "nccl"], {"MASTER_ADDR": "127.0.0.1"}, "error: --backend nccl: torch sees no GPU"))
    for options, exports, words in wrong:
        output = forker.start([ALLREDUCE, *options], **exports).finish(2)
        assert output.startswith(words)
        assert output.count("\n") == 1
