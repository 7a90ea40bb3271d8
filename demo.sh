#!/usr/bin/env bash
# Prepares an environment for `make demo`, then runs the demo. It uses a torch that a Python of the user already has.
# Without one, it states the size of torch and asks. Without a terminal, it downloads torch.
#   demo.sh PYTHON VENV [FLAG...]      VENV: the environment of `make test`; FLAG: a flag of `fanout demo`
set -u -o pipefail
cd "$(dirname "$0")" || exit 1
python=$1 venv=$2
shift 2
own=.venv-demo  # an environment without a copy of torch

# Print the directories of the packages that the task imports; fail if this Python lacks one, or is too old.
find_packages() {
  "$1" - 2>/dev/null <<'EOF'
import os, re, sys
import numpy, torch, torch.distributed.run
numbers = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
if sys.version_info < (3, 10) or numbers < (2, 6):
    sys.exit(1)
print("\n".join({os.path.dirname(os.path.dirname(module.__file__)) for module in (numpy, torch)}))
EOF
}

# Make the environment from a Python; its second argument has directories of packages that it uses from there.
build_environment() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "fanout needs Python 3.10 or later: make demo PYTHON=python3.12"; exit 1; }
  "$1" -m venv --clear $own || exit 1
  local what=.
  if [ -n "$2" ]; then
    what='.[train]'
    echo "$2" > "$($own/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch-of-the-user.pth"
    printf '#!%s\nimport sys\nfrom torch.distributed.run import main\nsys.exit(main())\n' "$PWD/$own/bin/python" > $own/bin/torchrun
    chmod +x $own/bin/torchrun
  fi
  $own/bin/python -m pip install -q --disable-pip-version-check -e "$what" || exit 1
}

if [ -e "$venv/.installed-train" ]; then
  exec "$venv/bin/fanout" demo "$@"
fi
if find_packages $own/bin/python > /dev/null && [ -x $own/bin/fanout ]; then
  exec $own/bin/fanout demo "$@"
fi
for each in "$python" python3 python; do
  each=$(command -v "$each") || continue
  if packages=$(find_packages "$each"); then
    echo "demo: using torch of $each"
    build_environment "$each" "$packages"
    exec $own/bin/fanout demo "$@"
  fi
done

echo "demo: no torch was found. With the CUDA libraries from PyPI it takes 4.8 GB on disk; builds for the CPU take 0.9 GB."
if [ -t 0 ] && [ -t 1 ]; then
  read -r -p "demo: download torch into $venv? [y/N] (N: train a small model with Python alone) " answer
  case $answer in
    [yY]*) ;;
    *)
      [ -x $own/bin/fanout ] || build_environment "$(command -v "$python")" ""
      exec $own/bin/fanout demo "$@"
      ;;
  esac
fi
make "$venv/.installed-train" "PYTHON=$python" "VENV=$venv" && exec "$venv/bin/fanout" demo "$@"
