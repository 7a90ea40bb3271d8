"""Real forms of train.sh in our own words, with the verdict that a careful reader gives for two hosts.

``good``: the hosts form one group. ``fail``: they would not. ``warn``: they may not, or the run differs from the plan.
``unseen``: the check cannot know, and must say so. The words are what the report must contain.
"""

from __future__ import annotations

RUN = "--nnodes=$NNODES --node-rank=$NODE_RANK --nproc-per-node=$NPROC_PER_NODE --master-addr=$MASTER_ADDR --master-port=$MASTER_PORT"
MACHINES = "--num_machines $NNODES --machine_rank $NODE_RANK --num_processes $((NNODES * NPROC_PER_NODE)) --main_process_ip $MASTER_ADDR --main_process_port $MASTER_PORT"
PLAIN = "MASTER_ADDR=$MASTER_ADDR MASTER_PORT=$MASTER_PORT"

#: name -> (train.sh, verdict, words of the report)
SCRIPTS: dict[str, tuple[str, str, str]] = {
    "function": (f'launch() {{\n  local args=({RUN})\n  torchrun "${{args[@]}}" "$@"\n}}\nlaunch "$@"', "good", ""),
    "variables": (
        (
            'GPUS=${NPROC_PER_NODE:-8}\nNODES=${NNODES:-1}\nDIST="--nnodes $NODES --nproc_per_node $GPUS"\n'
            'if [ "$NODES" -gt 1 ]; then DIST="$DIST --node_rank $NODE_RANK --rdzv_endpoint $MASTER_ADDR:$MASTER_PORT"; fi\n'
            'torchrun $DIST "$@"'
        ),
        "good",
        "",
    ),
    "wrapper-script": (
        f'mkdir -p scripts\necho \'exec torchrun {RUN} "$@"\' > scripts/go.sh\nbash scripts/go.sh "$@"',
        "good",
        "",
    ),
    "wrappers": (f'exec env OMP_NUM_THREADS=1 nice -n 1 stdbuf -oL taskset -c 0 torchrun {RUN} "$@"', "good", ""),
    "time-and-tee": (f'time torchrun {RUN} "$@" 2>&1 | tee log.$NODE_RANK', "good", ""),
    "bash-c": (f'bash -c \'exec torchrun {RUN} "$@"\' launch "$@"', "good", ""),
    "project-runner": (f'./runner run torchrun {RUN} "$@"', "good", ""),
    "project-runner-module": (f'./runner run python3 -m torch.distributed.run {RUN} "$@"', "good", ""),
    "python-options": (f'python3 -X faulthandler -u -m torch.distributed.run {RUN} "$@"', "good", ""),
    "short-flags": (
        'torchrun --nnode=$NNODES --node_rank=$NODE_RANK --nproc=$NPROC_PER_NODE --master_addr=$MASTER_ADDR --master_port=$MASTER_PORT "$@"',
        "good",
        "",
    ),
    "prepare-then-train": (
        f'torchrun --standalone --nproc-per-node=1 prepare.py || true\ntorchrun {RUN} "$@"',
        "good",
        "",
    ),
    "waits-for-background": (f'torchrun {RUN} "$@" &\npid=$!\ntrap "kill $pid" TERM\nwait $pid', "good", ""),
    "trl": (f'trl sft --config sft.yaml --bf16 --multi_gpu {MACHINES} "$@"', "good", ""),
    "trl-by-file": (
        (
            'printf "num_machines: %s\\nmachine_rank: %s\\nmain_process_ip: %s\\nmain_process_port: %s\\nnum_processes: 4\\n" $NNODES $NODE_RANK $MASTER_ADDR $MASTER_PORT >> sft.yaml\n'
            'trl sft --config sft.yaml --multi_gpu "$@"'
        ),
        "good",
        "",
    ),
    "axolotl-torchrun": (f'axolotl train "$@" --launcher torchrun -- {RUN}', "good", ""),
    "axolotl-accelerate": (f'axolotl train "$@" --launcher accelerate -- --multi_gpu {MACHINES}', "good", ""),
    "swift": ('export MODEL=m\nswift sft --model $MODEL --num_train_epochs 1 "$@"', "good", ""),
    "tune": (f'tune run {RUN} full_finetune_distributed --config "$@"', "good", ""),
    "composer": (
        'composer -n $NPROC_PER_NODE --world_size $((NNODES * NPROC_PER_NODE)) --node_rank $NODE_RANK --master_addr $MASTER_ADDR "$@"',
        "good",
        "",
    ),
    "fabric": (
        'fabric run --num-nodes=$NNODES --node-rank=$NODE_RANK --devices=$NPROC_PER_NODE --main-address=$MASTER_ADDR --main-port=$MASTER_PORT "$@"',
        "good",
        "",
    ),
    "accelerate-launch": (f'accelerate-launch --multi_gpu {MACHINES} "$@"', "good", ""),
    "one-task-per-rank": (
        (
            f"export {PLAIN} WORLD_SIZE=$((NNODES * NPROC_PER_NODE))\nfor i in $(seq 0 $((NPROC_PER_NODE - 1))); do\n"
            '  RANK=$((NODE_RANK * NPROC_PER_NODE + i)) LOCAL_RANK=$i python3 "$@" &\ndone\nwait'
        ),
        "good",
        "",
    ),
    "alone": ('torchrun --nproc-per-node=$NPROC_PER_NODE "$@"', "fail", "--nnodes=1 (its default) where NNODES=2"),
    "standalone-in-wrapper": (
        "mkdir -p s\necho 'torchrun --standalone \"$@\"' > s/go.sh\nsource s/go.sh",
        "fail",
        "--standalone where NNODES=2",
    ),
    "runner-alone": ('./runner run torchrun --nproc-per-node=2 "$@"', "fail", "--nnodes=1 (its default)"),
    "trl-alone": (
        'trl sft --config sft.yaml --num_processes $NPROC_PER_NODE "$@"',
        "fail",
        "--num_machines=1 (its default)",
    ),
    "trl-preset": (
        'trl sft --config sft.yaml --accelerate_config zero3 "$@"',
        "fail",
        "--num_machines=1 (its default)",
    ),
    "axolotl-alone": ('axolotl train "$@"', "fail", "--num_machines=1 (its default)"),
    "axolotl-python": ('axolotl train "$@" --launcher python', "fail", "where NNODES=2"),
    "swift-alone": ('NNODES=1 swift sft --model m "$@"', "fail", "NNODES=1 where NNODES=2"),
    "tune-alone": (
        'tune run --nproc_per_node $NPROC_PER_NODE full_finetune_distributed --config "$@"',
        "fail",
        "--nnodes=1 (its default)",
    ),
    "composer-alone": ('composer -n $NPROC_PER_NODE "$@"', "fail", "no --world_size where NNODES=2"),
    "horovod": ('horovodrun -np $NPROC_PER_NODE python3 "$@"', "fail", "each host starts a group of its own"),
    "fixed-rank": (f'torchrun {RUN.replace("$NODE_RANK", "0")} "$@"', "fail", "--node-rank=0 where NODE_RANK=1"),
    "ranks-of-one-host": (
        f'export {PLAIN} WORLD_SIZE=$NPROC_PER_NODE\nfor i in 0 1; do RANK=$i python3 "$@" & done\nwait',
        "fail",
        "RANK=0 here and on",
    ),
    "two-worlds": (
        f'export {PLAIN} WORLD_SIZE=1\nRANK=$NODE_RANK python3 "$@"',
        "fail",
        "WORLD_SIZE=1 where NNODES=2",
    ),
    "ray-stop-hides-the-task": (
        (
            'if [ "$NODE_RANK" = 0 ]; then ray start --head --port=$MASTER_PORT; python3 "$@"; ray stop\n'
            "else ray start --block --address=$MASTER_ADDR:$MASTER_PORT; fi"
        ),
        "warn",
        "ends with status 0 although the task failed",
    ),
    "nohup": (f'nohup torchrun {RUN} "$@" > out.log 2>&1 &', "warn", "runs in the background"),
    "ssh-loop": (f'if [ $NODE_RANK = 0 ]; then ssh gpu02 true; fi\ntorchrun {RUN} "$@"', "warn", "calls ssh"),
    "no-conda": ("conda activate train\n" + f'torchrun {RUN} "$@"', "warn", "does not activate its environment"),
    "unknown-launcher": (
        './envs/megalaunch --gpus 8 "$@"',
        "unseen",
        "megalaunch, which fanout does not know as a launcher (megalaunch names MASTER_ADDR)",
    ),
    "unknown-module": ('python3 -m json.tool "$@"', "unseen", "json.tool, which fanout does not know as a launcher"),
    "task-alone": ('python3 "$@"', "unseen", "whether the hosts form one group"),
    "never-comes": ("sleep 20", "unseen", "before train.sh called a launcher"),
    "by-docker": (
        'PATH="$PWD/envs:$PATH"\ndocker run --rm image torchrun --standalone "$@"',
        "unseen",
        "docker",
    ),
}
