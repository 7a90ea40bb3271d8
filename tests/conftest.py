"""Rules for all tests: a skip that tests/skips.py does not list is a failure."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.skips import is_known

# Hypothesis limits the time of each example by default. A busy machine exceeds that; pytest-timeout limits each test.
# With CI=true each run has the same examples, so that a landing does not depend on chance; elsewhere they are new ones.
settings.register_profile(
    "any-machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=os.environ.get("CI") == "true",
)
settings.load_profile("any-machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not is_known(reason):
            report.outcome = "failed"
            report.longrepr = f"{item.nodeid} was skipped for a reason that tests/skips.py does not list: {reason}"
    return report


def pytest_configure() -> None:
    replace_ignored_signals()


def replace_ignored_signals() -> None:
    """Let the programs that tests start receive signals that ``nohup`` or a background shell made this process ignore.

    An ignored signal stays ignored over an exec, and a test that sends it would wait for its whole time limit. A handler
    is reset by an exec; one that does nothing still protects this process.
    """
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda number, frame: None)
