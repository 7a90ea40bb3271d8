#!/bin/sh
# Install the launchers that the differential test compares with: tests/hostfile/peers.sh [DIR], default build/peers.
# From PyPI: Open MPI, MPICH, ClusterShell, and of DeepSpeed's source its launcher's runner.py. From Debian: pdsh.
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
if ! command -v pdsh >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq && apt-get install -y -qq --no-install-recommends pdsh >/dev/null
    else
        echo "pdsh is not installed (Debian: apt-get install pdsh); its comparison will be skipped" >&2
    fi
fi
