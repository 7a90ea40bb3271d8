"""Rules for all tests: a skip that tests/skips.py does not list is a failure."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.skips import is_known


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
