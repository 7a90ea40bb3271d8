"""Exceptions that contain the traceback of another process: the inner one is the cause."""

from __future__ import annotations

import pytest

from fanout.model.actions import Inspect
from fanout.model.events import ActionSent, Answered
from tests.diagnose.kit import CLOSED, Run, verdict

LOADER = """Traceback (most recent call last):
  File "/app/train.py", line 30, in <module>
    for batch in loader:
  File "/v/lib/python3.11/site-packages/torch/utils/data/dataloader.py", line 1465, in _process_data
    data.reraise()
PIL.UnidentifiedImageError: Caught UnidentifiedImageError in DataLoader worker process 3.
Original Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/torch/utils/data/_utils/worker.py", line 349, in _worker_loop
    data = fetcher.fetch(index)
  File "/app/data.py", line 12, in __getitem__
    img = Image.open(path)
PIL.UnidentifiedImageError: cannot identify image file '/data/img/000123.jpg'
"""
SPAWN = """Traceback (most recent call last):
  File "/app/task.py", line 9, in <module>
    if __name__ == "__main__": mp.spawn(work, nprocs=N)
  File "/v/lib/python3.11/site-packages/torch/multiprocessing/spawn.py", line 215, in join
    raise ProcessRaisedException(msg, error_index, failed_process.pid)
torch.multiprocessing.spawn.ProcessRaisedException:{blank}

-- Process {local} terminated with the following error:
Traceback (most recent call last):
  File "/v/lib/python3.11/site-packages/torch/multiprocessing/spawn.py", line 90, in _wrap
    fn(i, *args)
  File "/app/task.py", line 8, in work
    raise ValueError("held out")
{error}
"""


@pytest.mark.parametrize("mark", ["", "[rank2]: "])
def test_the_exception_of_a_data_loaders_worker_is_the_cause(mark: str) -> None:
    run = Run().out(2, *(f"{mark}{line}" for line in LOADER.splitlines()))
    found = verdict(run.torchrun("gpu02", (2, 1), (3, -15)))
    assert found.cause is not None
    assert (found.cause.rank, found.confidence) == (2, "high")
    assert "cannot identify image file '/data/img/000123.jpg'" in found.cause.says
    assert '  File "/app/data.py", line 12, in __getitem__' in found.cause.traceback
    assert "PIL.UnidentifiedImageError: Caught UnidentifiedImageError in DataLoader worker process 3." in (
        found.cause.traceback
    )


@pytest.mark.parametrize("blank", ["", " "])
def test_the_exception_of_a_spawned_rank_is_the_cause_and_its_peers_are_victims(blank: str) -> None:
    run = Run()
    run.add_output("gpu01", SPAWN.format(blank=blank, local=0, error=CLOSED.format(peer="10.0.0.2")).encode())
    run.add_output("gpu02", SPAWN.format(blank=blank, local=1, error="ValueError: held out").encode())
    run.end_hosts("gpu01", "gpu02", code=1)
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.host, found.cause.rank) == ("gpu02", 3)
    assert found.cause.says == "ended with ValueError: held out"
    assert [(each.host, each.rank) for each in found.victims] == [("gpu01", 0)]


def test_the_error_file_of_a_spawned_rank_shows_that_its_host_is_a_victim() -> None:
    """The stop came before its parent logged the error. The file of the other host repeats what its log has."""
    closed = CLOSED.format(peer="10.0.0.2")
    run = Run()
    run.add_output("gpu02", SPAWN.format(blank="", local=1, error="ValueError: held out").encode())
    run.end_hosts("gpu02", code=1)
    for ask, (host, text) in enumerate({"gpu01": closed, "gpu02": "ValueError: held out"}.items()):
        stack = f'Traceback (most recent call last):\n  File "/app/task.py", line 8, in work\n{text}\n'
        error = {
            "local_rank": None,
            "message": text,
            "stack": stack,
            "age": 1.0,
            "path": "/tmp/pytorch-errorfile-x.pickle",
        }
        run.add_events(ActionSent(at=run.at, action=Inspect(host=host, ask=ask, what="aftermath")))
        run.add_events(Answered(at=run.at, host=host, ask=ask, value={"errors": [error]}, error=""))
    run.pass_time(3.0).stop_hosts("gpu02 failed", "gpu01").end_hosts("gpu01", code=None, signal=15)
    found = verdict(run)
    assert found.cause is not None
    assert (found.cause.host, found.cause.rank, found.cause.says) == ("gpu02", 3, "ended with ValueError: held out")
    assert found.confidence == "high"
    assert [(each.host, each.how, each.lost_peer) for each in found.victims] == [
        ("gpu01", "lost its peer 10.0.0.2", True)
    ]


def test_output_of_another_rank_after_an_exception_is_no_part_of_its_message() -> None:
    """Without marks and tracebacks, the lines of two ranks alternate in one stream: the first has an error of its own."""
    run = Run().out(
        2, "ValueError: bad sample 7", "RuntimeError: [pair.cc:553] Connection closed by peer [10.0.0.1]:3."
    )
    found = verdict(run.torchrun("gpu02", (2, 1), (3, -15)))
    assert found.cause is not None
    assert found.cause.text == "ValueError: bad sample 7"


def test_a_name_that_a_module_lacks_is_another_version_of_it() -> None:
    run = Run()
    for rank in range(4):
        run.raises(
            rank, "ImportError: cannot import name 'no_such_thing' from 'json' (/usr/lib/python3.11/json/__init__.py)"
        )
    found = verdict(run.torchrun("gpu01", (0, 1), (1, 1)).torchrun("gpu02", (2, 1), (3, 1)))
    assert found.cause is not None
    assert found.cause.says == "has no no_such_thing in json (another version of the package)"
    assert "version of json" in found.advice[0]
