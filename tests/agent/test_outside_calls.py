"""Calls that start processes outside the keeper's tree: found in command lines, and in the text of train.sh."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanout.agent.outside_calls import OutsideWatch, find_named_calls, find_ssh_host


@pytest.mark.parametrize(
    ("line", "host"),
    [
        ("ssh h2 train", "h2"),
        ("/usr/bin/ssh -n -p 22 -o StrictHostKeyChecking=no user@h3 cd x && bash train.sh", "h3"),
        ("ssh -tt h4", "h4"),
        ("ssh -p22 ssh://me@h5 ls", "h5"),
        ("ssh -N -L 8000:localhost:8000 h2", ""),
        ("ssh git@github.com git-upload-pack 'a/b.git'", ""),
        ("ssh h2 rsync --server -e . /data", ""),
        ("ssh -x -oForwardAgent=no -s h2 sftp", ""),
        ("sshd: user", ""),
        ("grep ssh h2", ""),
    ],
)
def test_ssh_command_lines(line: str, host: str) -> None:
    assert find_ssh_host([word.encode() for word in line.split(" ")]) == host


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("ssh h2 'nohup python a.py &'", ["ssh to h2"]),
        ('for h in $(cat hosts); do ssh -n "$h" "cd $PWD && bash t.sh" & done', ["ssh in line 1 of train.sh"]),
        ("cd x && AGAIN=1 /usr/bin/ssh -p 22 me@h3 \\\n  bash train.sh", ["ssh to h3"]),
        ("tmux new-session -d -s train 'torchrun a.py'", ["tmux in line 1 of train.sh"]),
        ("true\ntmux -L own new -d 'torchrun a.py'", ["tmux in line 2 of train.sh"]),
        ("screen -dmS x torchrun a.py", ["screen in line 1 of train.sh"]),
        ("if true; then systemd-run --user torchrun a.py; fi", ["systemd-run in line 1 of train.sh"]),
        ("echo torchrun a.py | at now", ["at in line 1 of train.sh"]),
        ("docker run -d image torchrun a.py", ["docker in line 1 of train.sh"]),
        ("pdsh -w h[1-4] torchrun a.py", ["pdsh in line 1 of train.sh"]),
        ("echo a \\\n b\ntmux new -d", ["tmux in line 3 of train.sh"]),
        ("python - <<EOF\ntmux new\nEOF\nssh h2 ls", ["ssh to h2"]),
        ("# a comment does not continue: \\\nssh h2 ls", ["ssh to h2"]),
        ("cat > x <<-EOF\n\tat $(ssh h2 hostname)\n\tEOF\n", ["ssh to h2"]),
        ("bash -s <<'EOF'\nssh h2 bash t.sh\nEOF", ["ssh to h2"]),
        ("n=$((1<<K)); cat <<< a\nssh h2 ls", ["ssh to h2"]),
        ("echo python a.py | batch", ["batch in line 1 of train.sh"]),
    ],
)
def test_calls_in_the_text_of_a_script(text: str, calls: list[str]) -> None:
    assert find_named_calls(text, "train.sh") == calls


@pytest.mark.parametrize(
    "text",
    [
        "torchrun --nnodes=$NNODES train.py",
        "# start it by ssh h2 bash train.sh",
        "rsync -e ssh data h2:data",
        "git clone ssh://git@github.com/a/b",
        "export GIT_SSH_COMMAND='ssh -i key'",
        "eval $(ssh-agent); ssh-add key; ssh-keyscan h2 >> known",
        "ssh -N -L 8000:localhost:8000 h2 &",
        "batch=8; python train.py --batch $batch --at 3",
        "docker ps; tmux ls; command -v ssh >/dev/null",
        "python - <<'EOF'\nfor batch in data:\n    batch = batch.cuda()\nssh h2\nEOF",
        "cat > a.py << \\EOF\nat now\nEOF\npython a.py",
        "python -c '\nbatch = 3\nprint(batch)'",
    ],
)
def test_other_lines_of_a_script_are_no_calls(text: str) -> None:
    assert find_named_calls(text, "train.sh") == []


def test_scripts_that_train_sh_calls_are_read_too(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text("bash scripts/all.sh\n")
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "all.sh").write_text("bash train.sh\nssh h2 bash scripts/all.sh\n")
    watch = OutsideWatch()
    watch.read_script(["bash", "-o", "pipefail", "train.sh", "task.py"], str(tmp_path))
    assert watch.calls == ["ssh to h2"]
