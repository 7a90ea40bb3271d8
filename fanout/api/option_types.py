"""Types of the keyword options of the Python API. Their names and values are those of the command line.

A duration is a number of seconds or a text such as "2h"; a size is a number of bytes or a text such as "4GB".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class SharedOptions(TypedDict, total=False):
    """Options of ``check``, ``run``, ``start`` and ``plan``."""

    chdir: str
    script: str
    shell: str
    venv: str
    setup: str
    env: Mapping[str, str] | Sequence[str]
    env_file: Sequence[str]
    nproc_per_node: int
    master_addr: str
    master_port: int
    nodes: str
    without: str
    include: str
    exclude: str
    nnodes: int | str
    tag: str
    fanout: int
    connect_timeout: float | str
    user: str
    container: str
    image: str
    engine: str
    mount: Sequence[str]
    container_arg: Sequence[str]
    ssh_config: str
    ssh_option: Sequence[str]
    transport: str
    accept_new_host_keys: bool


class RunOptions(SharedOptions, total=False):
    """Options of ``run``, ``start`` and ``plan``."""

    name: str
    force: bool
    skip_check: bool
    grace: float | str
    lease: float | str
    last_words: float | str
    start_timeout: float | str
    time_limit: float | str
    save_before: float | str
    save_signal: str
    on_early_exit: str
    background: str
    hang_timeout: float | str
    on_hang: str
    max_restarts: int
    resume_args: str
    restart_codes: str
    restart_rate: str
    allow_from_scratch: bool
    log_dir: str
    keep: str
    rank_logs: str
    stacks: str
    spool_limit: int | str
    signatures: str
    hook: str
    notify: str
    metrics_file: str


class CheckOptions(SharedOptions, total=False):
    """Options of ``check``."""

    deep: bool
    verbose: bool
    strict: bool
    only: str
    skip: str
