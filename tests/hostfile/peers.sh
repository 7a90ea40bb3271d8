#!/bin/sh
# Install the launchers that the differential test compares with: tests/hostfile/peers.sh [DIR], default build/peers.
# From PyPI: Open MPI, MPICH, ClusterShell, and of DeepSpeed's source its launcher's runner.py. pdsh comes from Debian (tests/run_tiers).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
dir=${1:-$here/../../build/peers}
python=${PYTHON:-python3}
deepspeed=0.19.8

if ! [ -x "$dir/bin/prterun" ] || ! [ -x "$dir/bin/mpiexec.hydra" ] || ! [ -x "$dir/bin/cluset" ]; then
    "$python" -m venv "$dir"
    "$dir/bin/python" -m pip install --quiet -r "$here/peers.txt"
fi
if ! [ -s "$dir/deepspeed_runner.py" ]; then
    # The wheel would bring torch along; only the text of one file is needed, and it is never imported.
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    "$dir/bin/python" -m pip download --quiet --no-deps --no-build-isolation --no-binary deepspeed \
        --dest "$scratch" "deepspeed==$deepspeed"
    tar -xzf "$scratch/deepspeed-$deepspeed.tar.gz" -C "$scratch" "deepspeed-$deepspeed/deepspeed/launcher/runner.py"
    cp "$scratch/deepspeed-$deepspeed/deepspeed/launcher/runner.py" "$dir/deepspeed_runner.py"
fi
