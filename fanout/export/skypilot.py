"""SkyPilot: a task file. SkyPilot copies the work directory to every node and starts ``run`` in it. Pure.

Source: the schema of SkyPilot 0.14. SKYPILOT_NODE_IPS has one address per line, so it must be quoted.
"""

from __future__ import annotations

import shlex
from typing import Any

from fanout.export.job import Job, list_head_comments
from fanout.export.yaml_text import render_yaml

_VARIABLES = {
    "NPROC_PER_NODE": '"$SKYPILOT_NUM_GPUS_PER_NODE"',
    "NNODES": '"$SKYPILOT_NUM_NODES"',
    "NODE_RANK": '"$SKYPILOT_NODE_RANK"',
    "MASTER_ADDR": '"$(printf \'%s\\n\' "$SKYPILOT_NODE_IPS" | head -n 1)"',
}


def render_skypilot(job: Job) -> str:
    """Return the text for ``sky launch FILE``."""
    job = job.without_local_paths()
    comments = list_head_comments(job, secrets="give them with --secret NAME")
    if job.gpus is None or job.gpus:
        count = job.gpus if job.gpus is not None else "COUNT"
        comments.append(
            f"Fill in the type of GPU, and write it below num_nodes:  resources: {{accelerators: 'TYPE:{count}'}}"
        )
    document: dict[str, Any] = {"name": job.name, "num_nodes": job.nodes, "workdir": "."}
    if job.secrets:
        document["secrets"] = dict.fromkeys(job.secrets)
    document["run"] = job.build_script(job.fill_variables(_VARIABLES), shlex.join(job.task)) + "\n"
    return render_yaml(comments, document)
