"""Table of the launchers that a train.sh may call: their names, flags, defaults and files, each with its source. Pure.

Each flag has one of these names: nnodes, node_rank, nproc_per_node, nproc (of all hosts), master_addr, master_port,
rdzv_endpoint, rdzv_backend, rdzv_id, standalone, file. Flags without such a name are skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any

from fanout.model.frozen import frozen


@frozen
class Launcher:
    """Row of the table. ``source`` names the file and version in which the flags were read. "Not read" marks flags from experience.

    ``modules`` are its names for ``python -m``. ``starts`` are the subcommands that start ranks, if it has subcommands.
    ``names`` gives the common name of a flag, and ``switches`` are the flags without a value. ``variables`` gives the
    common name of a variable that replaces a flag. ``file_default`` is the file that it reads without a flag, and
    ``keys`` gives the common names of the values in it. ``reach`` is ``host`` if one call starts the ranks of one host,
    ``all`` if one call starts the ranks of all hosts, ``cluster`` if it starts a service. ``without_hosts`` describes a
    call with reach ``all`` that names no hosts. ``like`` is the program whose rules it follows, "" for its own.
    ``takes_all`` means that its flags may stand anywhere, and that it starts a script of its own library.
    ``built_in_files`` are values of the flag for the file that name a file in its package.
    """

    program: str
    source: str
    example: str
    modules: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    switches: frozenset[str] = frozenset()
    variables: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    defaults: Mapping[str, str] = field(default_factory=dict)
    file_default: str = ""
    keys: Mapping[str, str] = field(default_factory=dict)
    reach: str = "host"
    without_hosts: str = ""
    like: str = ""
    takes_all: bool = False
    built_in_files: tuple[str, ...] = ()

    @property
    def rules(self) -> str:
        """Return the program whose rules hold for this one."""
        return self.like or self.program

    def spell_option(self, name: str) -> str:
        """Return the flag or variable of this launcher for a common name."""
        flags = [flag for flag, common in self.names.items() if common == name]
        variables = [variable for variable, common in self.variables.items() if common == name]
        return f"--{flags[0]}" if flags else (variables or [name])[0]


_TORCH_NAMES = {
    "nnodes": "nnodes",
    "node-rank": "node_rank",
    "nproc-per-node": "nproc_per_node",
    "master-addr": "master_addr",
    "master-port": "master_port",
    "rdzv-endpoint": "rdzv_endpoint",
    "rdzv-backend": "rdzv_backend",
    "rdzv-id": "rdzv_id",
    "standalone": "standalone",
}
_ACCELERATE_NAMES = {
    "num_machines": "nnodes",
    "machine_rank": "node_rank",
    "num_processes": "nproc",
    "main_process_ip": "master_addr",
    "main_process_port": "master_port",
    "rdzv_backend": "rdzv_backend",
    "config_file": "file",
}
_ACCELERATE_KINDS = ("multi_gpu", "use_deepspeed", "use_fsdp", "use_megatron_lm", "tpu")

_TORCHRUN = Launcher(
    program="torchrun",
    source="torch/distributed/run.py and launch.py, torch 2.13",
    example="torchrun --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --rdzv-endpoint=$MASTER_ADDR:$MASTER_PORT",
    modules=("torch.distributed.run", "torch.distributed.launch", "torch.distributed.elastic.launch"),
    names=_TORCH_NAMES,
    switches=frozenset({"standalone", "m", "module", "no-python", "run-path", "use-env", "virtual-local-rank"}),
    prefix="PET_",
    defaults={
        "nnodes": "1",
        "node_rank": "0",
        "nproc_per_node": "1",
        "rdzv_backend": "static",
        "master_addr": "127.0.0.1",
        "master_port": "29500",
    },
)
_ACCELERATE = Launcher(
    program="accelerate",
    source="accelerate/commands/launch.py and utils/launch.py, accelerate 1.15.0",
    example="accelerate launch --multi_gpu --num_machines $NNODES --machine_rank $NODE_RANK --num_processes $((NNODES * NPROC_PER_NODE)) "
    "--main_process_ip $MASTER_ADDR --main_process_port $MASTER_PORT",
    modules=("accelerate.commands.launch", "accelerate.commands.accelerate_cli"),
    starts=("launch",),
    names={
        **_ACCELERATE_NAMES,
        "deepspeed_hostfile": "hostfile",
        "deepspeed_multinode_launcher": "by",
        **{kind: kind for kind in _ACCELERATE_KINDS},
    },
    switches=frozenset(
        {
            *_ACCELERATE_KINDS,
            "q",
            "quiet",
            "cpu",
            "m",
            "module",
            "no_python",
            "debug",
            "same_network",
            "tpu_cluster",
            "no_tpu_cluster",
            "tpu_use_sudo",
            "downcast_bf16",
            "enable_cpu_affinity",
            "dynamo_use_fullgraph",
            "dynamo_use_dynamic",
            "dynamo_use_regional_compilation",
            "use_parallelism_config",
            "fp8_use_autocast_during_eval",
        }
    ),
    defaults={"nnodes": "1", "rdzv_backend": "static", "master_port": "29500"},
    file_default="accelerate/default_config.yaml",
    keys={
        **{flag: name for flag, name in _ACCELERATE_NAMES.items() if name != "file"},
        "distributed_type": "kind",
        "deepspeed_multinode_launcher": "by",
    },
)
_VARIABLES = {
    "NNODES": "nnodes",
    "NODE_RANK": "node_rank",
    "NPROC_PER_NODE": "nproc_per_node",
    "MASTER_ADDR": "master_addr",
    "MASTER_PORT": "master_port",
}
_WITH_TORCHRUN = _TORCHRUN.example
_TRL_TRAINERS = tuple("sft dpo grpo kto reward rloo orpo cpo gkd online_dpo prm xpo nash_md bco".split())

TABLE = (
    _TORCHRUN,
    _ACCELERATE,
    replace(_ACCELERATE, program="accelerate-launch", modules=(), starts=(), like="accelerate"),
    replace(
        _ACCELERATE,
        program="trl",
        source="trl/cli/commands/training.py and trl/cli/accelerate_config.py, TRL 1.x",
        example=_ACCELERATE.example.replace("accelerate launch", "trl sft --config sft.yaml"),
        modules=("trl.cli", "trl.cli.main"),
        starts=_TRL_TRAINERS,
        names={**{flag: name for flag, name in _ACCELERATE.names.items() if name != "file"}, "accelerate_config": "file", "config": "config"},
        like="accelerate",
        takes_all=True,
        built_in_files=("fsdp1", "fsdp2", "fsdp_context_parallel_2gpu", "multi_gpu", "zero1", "zero2", "zero3", "alst_ulysses_4gpu"),
    ),
    replace(
        _ACCELERATE,
        program="axolotl",
        source="axolotl/cli/utils/train.py, axolotl commit 018086e",
        example="axolotl train config.yaml --launcher torchrun -- --nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE "
        "--master-addr=$MASTER_ADDR --master-port=$MASTER_PORT",
        modules=("axolotl.cli.main",),
        starts=("train",),
        like="accelerate",
    ),
    replace(
        _TORCHRUN,
        program="tune",
        source="torchtune/_cli/run.py, torchtune commit 0031bfb",
        example=_WITH_TORCHRUN.replace("torchrun", "tune run"),
        modules=("torchtune._cli.tune",),
        starts=("run",),
        like="torchrun",
    ),
    *(
        Launcher(
            program=program,
            source="swift/cli/main.py, ms-swift commit 01a14c1",
            example=f"{program} sft",
            modules=(f"swift.cli.{module}",),
            starts=("sft", "pt", "rlhf", "dpo", "orpo", "simpo"),
            variables=_VARIABLES,
            defaults={"nnodes": "1", "node_rank": "0", "rdzv_backend": "static", "master_addr": "127.0.0.1", "master_port": "29500"},
            takes_all=True,
        )
        for program, module in (("swift", "main"), ("megatron", "_megatron.main"))
    ),
    Launcher(
        program="composer",
        source="composer/cli/launcher.py, Composer commit 006ea7a",
        example="composer --nproc $NPROC_PER_NODE --world_size $((NNODES * NPROC_PER_NODE)) --node_rank $NODE_RANK",
        modules=("composer.cli.launcher",),
        names={
            "world_size": "nproc", "n": "nproc_per_node", "nproc": "nproc_per_node", "base_rank": "base_rank",
            "node_rank": "node_rank", "master_addr": "master_addr", "master_port": "master_port",
        },
        switches=frozenset({"v", "verbose", "m", "module_mode", "c", "command_mode"}),
        variables={
            "WORLD_SIZE": "nproc", "LOCAL_WORLD_SIZE": "nproc_per_node", "BASE_RANK": "base_rank", "NODE_RANK": "node_rank",
            "MASTER_ADDR": "master_addr", "MASTER_PORT": "master_port", "NPROC_PER_NODE": "gpus",
        },
    ),
    Launcher(
        program="fabric",
        source="not read: lightning/fabric/cli.py, Lightning 2.6",
        example="fabric run --num-nodes=$NNODES --node-rank=$NODE_RANK --devices=$NPROC_PER_NODE --main-address=$MASTER_ADDR --main-port=$MASTER_PORT",
        starts=("run",),
        names={"num-nodes": "nnodes", "node-rank": "node_rank", "devices": "nproc_per_node", "main-address": "master_addr", "main-port": "master_port"},
        defaults={"nnodes": "1", "node_rank": "0", "nproc_per_node": "1", "master_addr": "127.0.0.1", "master_port": "29400"},
    ),
    Launcher(
        program="deepspeed",
        source="deepspeed/launcher/runner.py, DeepSpeed commit 2d991ba",
        example=_WITH_TORCHRUN,
        modules=("deepspeed.launcher.runner", "deepspeed"),
        names={
            "num_nodes": "nnodes", "node_rank": "node_rank", "num_gpus": "nproc_per_node", "num_accelerators": "nproc_per_node",
            "master_addr": "master_addr", "master_port": "master_port", "hostfile": "file", "H": "file", "no_ssh": "no_ssh",
        },
        switches=frozenset({
            "module", "no_python", "no_local_rank", "no_ssh", "no_ssh_check", "force_multi", "save_pid", "elastic_training", "bind_cores_to_rank",
        }),
        defaults={"rdzv_backend": "static", "master_addr": "127.0.0.1", "master_port": "29500"},
        file_default="/job/hostfile",
        reach="all",
        without_hosts="without a hostfile: each host starts a group of its own",
    ),
    Launcher(
        program="llamafactory-cli",
        source="llamafactory/launcher.py, LLaMA-Factory 0.9.5",
        example="FORCE_TORCHRUN=1 llamafactory-cli train",
        modules=("llamafactory.cli", "llamafactory.launcher"),
        starts=("train",),
        variables={**_VARIABLES, "RDZV_ID": "rdzv_id", "FORCE_TORCHRUN": "forced", "USE_MCA": "forced_too", "USE_RAY": "by_ray"},
        defaults={"nnodes": "1", "node_rank": "0", "rdzv_backend": "static", "master_addr": "127.0.0.1", "master_port": ""},
    ),
    *(
        Launcher(
            program=program,
            source="not read: mpirun(1) of Open MPI 5, mpiexec of MPICH 4 and Intel MPI 2021",
            example=_WITH_TORCHRUN,
            names={
                "np": "nproc", "n": "nproc", "c": "nproc", "hostfile": "file", "machinefile": "file", "default-hostfile": "file", "f": "file",
                "host": "hosts", "H": "hosts", "hosts": "hosts",
            },
            reach="all",
            without_hosts="without --host or --hostfile: each host starts a group of its own",
            like="mpirun",
        )
        for program in ("mpirun", "mpiexec", "mpiexec.hydra", "orterun", "prterun")
    ),
    Launcher(
        program="horovodrun",
        source="not read: horovod/runner/launch.py, Horovod 0.28",
        example=_WITH_TORCHRUN,
        names={"np": "nproc", "num-proc": "nproc", "H": "hosts", "hosts": "hosts", "hostfile": "file"},
        reach="all",
        without_hosts="without --hosts or --hostfile: each host starts a group of its own",
    ),
    Launcher(
        program="srun",
        source="not read: srun(1), Slurm 24.05",
        example=_WITH_TORCHRUN,
        variables={"SLURM_JOB_ID": "hosts"},
        reach="all",
        without_hosts="outside a Slurm job: every host asks Slurm for a job of its own, or fails",
    ),
    Launcher(
        program="colossalai",
        source="not read: colossalai/cli/launcher, ColossalAI 0.4",
        example=_WITH_TORCHRUN,
        starts=("run",),
        names={"host": "hosts", "H": "hosts", "hostfile": "file", "nproc_per_node": "nproc_per_node", "master_addr": "master_addr", "master_port": "master_port"},
        switches=frozenset({"m"}),
        reach="all",
        without_hosts="without --host or --hostfile: each host starts a group of its own",
    ),
    Launcher(
        program="ray",
        source="not read: ray/scripts/scripts.py, Ray 2.40",
        example='if [ "$NODE_RANK" = 0 ]; then ray start --head --port=$MASTER_PORT && python task.py; else ray start --block '
        "--address=$MASTER_ADDR:$MASTER_PORT; fi",
        modules=("ray.scripts.scripts",),
        starts=("start",),
        names={"address": "rdzv_endpoint", "port": "master_port", "head": "head", "block": "block"},
        switches=frozenset({"head", "block", "disable-usage-stats", "no-monitor", "verbose", "v"}),
        reach="cluster",
    ),
)  # fmt: skip

LAUNCHERS: Mapping[str, Launcher] = {row.program: row for row in TABLE}


def describe_launchers() -> dict[str, Any]:
    """Return what the agent needs in a rehearsal: each launcher's modules, subcommands, file, keys and variables."""
    return {
        row.program: {
            "modules": list(row.modules),
            "starts": list(row.starts),
            "file_flags": [flag for flag, name in row.names.items() if name == "file"],
            "config_flags": [flag for flag, name in row.names.items() if name == "config"],
            "file_default": row.file_default,
            "keys": list(row.keys),
            "variables": list(row.variables),
            "built_in_files": list(row.built_in_files),
        }
        for row in TABLE
    }
