#!/bin/bash
# Starts the task of the demo on this host: torchrun starts torch_task.py, and plain Python starts task.py, which needs no torch.
#   bash train.sh TASK [ARGUMENT...]
if [ "$1" = torch_task.py ]; then
  exec torchrun --nnodes="$NNODES" --node-rank="$NODE_RANK" --nproc-per-node="$NPROC_PER_NODE" \
    --master-addr="$MASTER_ADDR" --master-port="$MASTER_PORT" "$@"
fi
export RANK="$NODE_RANK" WORLD_SIZE="$NNODES" LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
exec python3 "$@"
