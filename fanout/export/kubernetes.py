"""Kubernetes: a TrainJob of Kubeflow Trainer v2. Pure.

The runtime ``torch-distributed`` sets PET_NNODES, PET_NODE_RANK, PET_MASTER_ADDR and PET_NPROC_PER_NODE. The variables of
train.sh are set from them. Source: the CRD trainer.kubeflow.org/v1alpha1 of the Trainer repository.
"""

from __future__ import annotations

import shlex
from typing import Any

from fanout.export.job import Job, list_head_comments, make_label
from fanout.export.yaml_text import render_yaml

_KEYS = "fanout-secrets"
_VARIABLES = {
    "NNODES": '"$PET_NNODES"',
    "NODE_RANK": '"$PET_NODE_RANK"',
    "MASTER_ADDR": '"$PET_MASTER_ADDR"',
    "NPROC_PER_NODE": '"$PET_NPROC_PER_NODE"',
}


def render_kubernetes(job: Job) -> str:
    """Return the text for ``kubectl apply -f FILE``."""
    job = job.without_local_paths()
    comments = list_head_comments(job, secrets=f"put it into the secret {_KEYS}:  {_create_secret(job)}")
    comments += [
        "Fill in: image (it contains the project, or mount it as a volume)" + (", GPUS" if job.gpus is None else ""),
        "A train job of PyTorch needs more shared memory than 64 MB: mount an emptyDir with medium: Memory at /dev/shm.",
    ]
    script = job.build_script(_VARIABLES | {"MASTER_PORT": str(job.port)}, '"$@"')
    trainer: dict[str, Any] = {"image": "REGISTRY/IMAGE", "numNodes": job.nodes}
    if job.nproc is not None:
        trainer["numProcPerNode"] = job.nproc
    if job.gpus is None or job.gpus:
        trainer["resourcesPerNode"] = {"limits": {"nvidia.com/gpu": job.gpus if job.gpus is not None else "GPUS"}}
    if job.secrets:
        trainer["env"] = [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": _KEYS, "key": name}}} for name in job.secrets
        ]
    trainer["command"] = ["bash", "-c"]
    trainer["args"] = [f"cd {shlex.quote(job.directory)} || exit\n{script}\n", "fanout", *job.task]
    document = {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"name": make_label(job.name, 50)},
        "spec": {
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org",
                "kind": "ClusterTrainingRuntime",
                "name": "torch-distributed",
            },
            "trainer": trainer,
        },
    }
    if job.seconds is not None:
        document["spec"]["activeDeadlineSeconds"] = round(job.seconds)  # type: ignore[index]
    return render_yaml(comments, document)


def _create_secret(job: Job) -> str:
    values = " ".join(f'--from-literal={name}="${name}"' for name in job.secrets)
    return f"kubectl create secret generic {_KEYS} {values}"
