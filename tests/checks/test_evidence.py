"""Evidence that a failure would leave: one line for all hosts if they agree, with what would be missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fanout.agent.probes import upgrades
from fanout.checks.engine.definition import CheckContext
from fanout.checks.engine.evaluation import judge_check
from fanout.checks.system import failure_evidence
from tests.checks.kit import build_healthy_case, change_fact

_ALL = ("gpu01", "gpu02", "gpu03", "gpu04")


def read_common_finding(case: CheckContext) -> str:
    """Return the text of the finding, which must be the same for all hosts."""
    findings = judge_check(failure_evidence.CHECKS[0], case)
    assert tuple(host for finding in findings for host in finding.hosts) == _ALL
    ((level, saw),) = {(finding.level, finding.saw) for finding in findings}
    assert level == "ok"
    return saw


def change_all_hosts(changes: Mapping[str, object]) -> CheckContext:
    case = build_healthy_case()
    for host in _ALL:
        for path, value in changes.items():
            case = change_fact(case, host, path, value)
    return case


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, "torch's flight recorder (off by default in torch 2.9)"),
        ({"software/torch/version": "2.13.0+cu130"}, ""),
        ({"software/torch/version": "2.3.1+cu121"}, "torch's flight recorder (torch 2.4 and later)"),
        ({"environment": {"TORCH_NCCL_TRACE_BUFFER_SIZE": "2000"}}, ""),
        (
            {"environment": {"TORCH_FR_BUFFER_SIZE": "0"}},
            "torch's flight recorder (its buffer's size is exported as 0)",
        ),
        (
            {"software/packages/nvidia-nccl-cu12": "2.21.5", "environment": {"TORCH_FR_BUFFER_SIZE": "99"}},
            "NCCL's RAS (NCCL 2.21.5; from 2.24 on)",
        ),
        (
            {"software/torch/cuda": None, "kernel/log_barred": "kernel.dmesg_restrict=1"},
            "kernel log (kernel.dmesg_restrict=1)",
        ),
        (
            {"software/torch/cuda": None, "kernel/core_pattern": "|/bin/false"},
            "core dumps (core_pattern is |/bin/false)",
        ),
        ({"software/torch/cuda": None, "kernel/core_pattern": "core"}, "core dumps (ulimit -c 0)"),
        ({"software/torch/cuda": None, "kernel/core_pattern": "core", "limits/core": -1}, ""),
        ({"software/torch/cuda": None, "kernel/ptrace_scope": "1"}, "py-spy (kernel.yama.ptrace_scope=1)"),
        ({"software/torch/cuda": None, "kernel/ptrace_scope": "1", "user/uid": 0}, ""),
        (
            {"software/torch/cuda": None, "kernel/ptrace_scope": "3", "user/uid": 0},
            "py-spy (kernel.yama.ptrace_scope=3)",
        ),
        ({"software/torch/cuda": None, "kernel/ptrace_scope": ""}, ""),
    ],
)
def test_evidence_that_is_missing_everywhere_has_its_reason(changes: dict[str, object], missing: str) -> None:
    """There is no note and no warning: the line for all hosts ends with what would be missing."""
    before, _, after = read_common_finding(change_all_hosts(changes)).partition("; not: ")
    assert before.startswith("after a failure: ranks' stacks")
    assert after == missing


_STATUS = """Package: nvidia-driver-570
Status: install ok installed
Version: 570.1

Package: libnvidia-compute-570
Status: hold ok installed

Package: nvidia-dkms-550
Status: deinstall ok config-files

Package: nvidia-settings
Status: install ok installed
"""


@pytest.mark.parametrize(
    ("settings", "free"),
    [
        ({"20auto-upgrades": 'APT::Periodic::Unattended-Upgrade "1";\n'}, ["nvidia-driver-570"]),
        ({"20auto-upgrades": '// APT::Periodic::Unattended-Upgrade "1";\n'}, []),
        ({"20a": 'APT::Periodic::Unattended-Upgrade "1";\n', "99b": 'APT::Periodic::Unattended-Upgrade "0";\n'}, []),
        (
            {
                "20a": 'APT::Periodic::Unattended-Upgrade "1";\n',
                "50b": 'Unattended-Upgrade::Package-Blacklist {\n  "nvidia";\n};\n',
            },
            [],
        ),
        (
            {
                "20a": 'APT::Periodic::Unattended-Upgrade "1";\n',
                "50b": 'Unattended-Upgrade::Package-Blacklist {\n  // "nvidia";\n};\n',
            },
            ["nvidia-driver-570"],
        ),
        ({}, []),
    ],
)
def test_driver_packages_that_unattended_upgrades_may_replace_are_found_in_the_files_of_apt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], free: list[str]
) -> None:
    """A package counts if it is installed, not held, not on the blacklist, and unattended upgrades are on."""
    for name, text in settings.items():
        (tmp_path / name).write_text(text)
    status = tmp_path.parent / f"{tmp_path.name}.status"
    status.write_text(_STATUS)
    monkeypatch.setattr(upgrades, "_SETTINGS", str(tmp_path))
    monkeypatch.setattr(upgrades, "_PACKAGES", str(status))
    assert upgrades.find_upgrades({})["free"] == free
