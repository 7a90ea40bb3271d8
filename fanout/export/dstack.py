"""dstack: a task with several nodes. dstack uploads the directory of the file and starts the commands in it. Pure.

Source: the schema of dstack 0.22.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from fanout.export.job import Job, list_head_comments
from fanout.export.yaml_text import render_yaml

_VARIABLES = {
    "NNODES": '"$DSTACK_NODES_NUM"',
    "NODE_RANK": '"$DSTACK_NODE_RANK"',
    "MASTER_ADDR": '"$DSTACK_MASTER_NODE_IP"',
}


def render_dstack(job: Job) -> str:
    """Return the text for ``dstack apply -f FILE``."""
    job = job.without_local_paths()
    comments = list_head_comments(job, secrets="export them before dstack apply")
    comments.append(
        "Fill in: image, or python: '3.12' in its place" + (", and resources.gpu" if job.gpus is None else "")
    )
    count = str(job.nproc) if job.nproc is not None else '"$DSTACK_GPUS_PER_NODE"'
    script = job.build_script(
        _VARIABLES | {"NPROC_PER_NODE": count, "MASTER_PORT": str(job.port)}, shlex.join(job.task)
    )
    document: dict[str, Any] = {
        "type": "task",
        "name": _make_name(job.name),
        "nodes": job.nodes,
        "image": "REGISTRY/IMAGE",
        "files": ["."],
    }
    if job.secrets:
        document["env"] = list(job.secrets)
    document["commands"] = [script + "\n"]
    document["resources"] = {"shm_size": "16GB"} | ({"gpu": job.gpus} if job.gpus else {})
    if job.seconds is not None:
        document["max_duration"] = round(job.seconds)
    return render_yaml(comments, document)


def _make_name(text: str) -> str:
    """Return a name that dstack accepts: a letter, then lower case letters, digits and dashes, at most 41 characters."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("0123456789-").rstrip("-")[:41].rstrip("-")
    return name if len(name) > 1 else "train"
