#!/bin/bash
# Starts the task of the demo on this host: one rank per host, with plain Python instead of torchrun.
#   bash train.sh task.py [ARGUMENT...]
export RANK="$NODE_RANK" WORLD_SIZE="$NNODES" LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
exec python3 "$@"
