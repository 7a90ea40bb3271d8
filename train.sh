#!/bin/bash
# Starts a training task on this host with torchrun:  bash train.sh TASK.py CONFIG.yaml [ARGUMENT...]
#
# Variables, all with defaults: NNODES 1, NPROC_PER_NODE one a visible accelerator, NODE_RANK 0, MASTER_ADDR 0.0.0.0,
# MASTER_PORT 12345. torchrun's own PET_* variables keep their meaning. The exit code is torchrun's.
set -o pipefail

if ! command -v torchrun >/dev/null 2>&1; then
  echo "train.sh: torchrun: not found on $(uname -n); activate the environment that has PyTorch (. VENV/bin/activate, or fanout run --venv VENV)" >&2
  exit 127
fi

# How many entries a comma list has; "" and -1 mean none, as CUDA reads them.
entries() {
  case "$1" in "" | -1 | NoDevFiles) echo 0 ;; *) echo "$1" | tr ',' '\n' | grep -c . ;; esac
}

# One process per visible accelerator: NVIDIA, ROCm, Ascend NPU.
accelerators() {
  if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then entries "$CUDA_VISIBLE_DEVICES"; return; fi
  if [[ -n "${HIP_VISIBLE_DEVICES+set}" ]]; then entries "$HIP_VISIBLE_DEVICES"; return; fi
  if [[ -n "${ROCR_VISIBLE_DEVICES+set}" ]]; then entries "$ROCR_VISIBLE_DEVICES"; return; fi
  if [[ -n "${ASCEND_RT_VISIBLE_DEVICES+set}" ]]; then entries "$ASCEND_RT_VISIBLE_DEVICES"; return; fi
  local count=0
  if command -v nvidia-smi >/dev/null 2>&1; then count=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU '); fi
  if [[ "$count" -eq 0 ]] && command -v rocm-smi >/dev/null 2>&1; then count=$(rocm-smi --showid --csv 2>/dev/null | grep -c '^card'); fi
  if [[ "$count" -eq 0 ]]; then count=$(find /dev -maxdepth 1 -name 'davinci[0-9]*' 2>/dev/null | grep -c .); fi
  echo "$count"
}

export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"  # torchrun does this only for several processes a host; one alone would take every core

: "${NNODES:=1}"
: "${NODE_RANK:=0}"
: "${MASTER_ADDR:=0.0.0.0}"
: "${MASTER_PORT:=12345}"
if [[ -z "${NPROC_PER_NODE:-}" ]]; then
  NPROC_PER_NODE=$(accelerators)
  if [[ "$NPROC_PER_NODE" -eq 0 ]]; then
    echo "train.sh: no accelerator on $(uname -n): starting 1 process on the CPU (NPROC_PER_NODE=N for more)" >&2
    NPROC_PER_NODE=1
  fi
fi

if [[ "$NNODES" == 1 ]]; then
  # Without an address torchrun gives its workers the name of the host, and they wait 15 minutes if it does not resolve.
  meeting=(--standalone "--local-addr=${PET_LOCAL_ADDR:-127.0.0.1}")
else
  # Static rendezvous: the host with NODE_RANK 0 listens there, the others may start before it.
  meeting=("--rdzv_endpoint=$MASTER_ADDR:$MASTER_PORT")
fi

exec torchrun --nnodes="$NNODES" --nproc-per-node="$NPROC_PER_NODE" --node-rank="$NODE_RANK" "${meeting[@]}" "$@"
