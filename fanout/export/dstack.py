"""dstack: a task with several nodes. dstack uploads the directory of the file and starts the commands in it. Pure.

Source: the schema of dstack 0.22.
"""

from __future__ import annotations

import shlex
from typing import Any

from fanout.export.job import Job, list_head_comments, make_label
from fanout.export.yaml_text import render_yaml

_VARIABLES = {
    "NNODES": '"$DSTACK_NODES_NUM"',
    "NODE_RANK": '"$DSTACK_NODE_RANK"',
    "MASTER_ADDR": '"$DSTACK_MASTER_NODE_IP"',
    "NPROC_PER_NODE": '"$DSTACK_GPUS_PER_NODE"',
}


def render_dstack(job: Job) -> str:
    """Return the text for ``dstack apply -f FILE``."""
    job = job.without_local_paths()
    comments = list_head_comments(job, secrets="export them before dstack apply")
    comments.append(
        "Fill in: image, or python: '3.12' in its place" + (", and resources.gpu" if job.gpus is None else "")
    )
    script = job.build_script(job.fill_variables(_VARIABLES), shlex.join(job.task))
    document: dict[str, Any] = {
        "type": "task",
        "name": make_label(job.name, 41),
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
