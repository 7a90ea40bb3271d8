#!/bin/bash
trl sft --config "$@" --multi_gpu --mixed_precision no --dynamo_backend no \
  --num_machines "$NNODES" --machine_rank "$NODE_RANK" --num_processes "$((NNODES * NPROC_PER_NODE))" \
  --main_process_ip "$MASTER_ADDR" --main_process_port "$MASTER_PORT"
