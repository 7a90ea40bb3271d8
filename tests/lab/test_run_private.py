"""What a host may not get from the launcher, and what others may not have of a host's run."""

from __future__ import annotations

import os
import re

import pytest

from tests.lab.drive import Project
from tests.lab.lab import Lab
from tests.lab.logins import run_ssh

FORWARDS = "Host *\n  ForwardAgent yes\n"
WHERE = "find /tmp -maxdepth 2 -name 'agent.*' 2>/dev/null | wc -l"


@pytest.mark.parametrize("transport", ["ssh", "openssh"])
def test_the_agent_is_never_forwarded(project: Project, lab4: Lab, transport: str) -> None:
    """Whatever ssh_config wishes: a host that is broken into must not log in elsewhere as the user."""
    agent = lab4.launcher.run_program(["ssh-agent", "-s", "-a", "/tmp/agent"], user="lab", check=True).stdout
    pid = re.search(r"SSH_AGENT_PID=(\d+)", agent)
    assert pid is not None
    own = {"SSH_AUTH_SOCK": "/tmp/agent"}
    try:
        lab4.launcher.run_program(["ssh-add", "-q"], user="lab", env=own, check=True)
        lab4.launcher.write_file("/home/lab/.ssh/config", FORWARDS, user="lab", mode=0o600)
        login = lab4.launcher.run_program(["ssh", "h1", WHERE], user="lab", env=own, check=True)
        assert login.stdout == "1\n", "plain ssh forwards it here, so that there is something to refuse"
        project.write_hostfile("h1 slots=1\n")
        project.write_train_script(f'echo "agent ${{SSH_AUTH_SOCK:-none}}, sockets $({WHERE})"\n')
        run = project.start_command("run", "--skip-check", "--transport", transport, "hosts.txt", "task.py", env=own)
        done = run.wait_for_end()
        assert done.code == 0, done.all
        assert "h1 | agent none, sockets 0" in done.out
    finally:
        lab4.launcher.run_program(["kill", pid[1]], check=True)


def test_a_planted_directory_or_a_foreign_owner_is_refused(project: Project, lab4: Lab) -> None:
    """Another user's files are in all three places: fanout repairs, follows and starts nothing, and names each."""
    root, link, opened = (lab4[name] for name in ("h1", "h2", "h3"))
    for place in ("/var/tmp", "/tmp", "/dev/shm"):
        root.run_program(["mkdir", "-m", "777", f"{place}/fanout-47001"], check=True)
        link.run_program(
            ["sh", "-c", f"mkdir -p /tmp/trap && ln -s /tmp/trap {place}/fanout-47001"], user="lab", check=True
        )
        opened.run_program(["mkdir", "-m", "755", f"{place}/fanout-47001"], user="lab", check=True)
    project.write_train_script("touch ran\n")
    done = project.run_training()
    assert done.code == 125, done.all
    text = " ".join(done.err.split())
    assert "/var/tmp/fanout-47001: belongs to uid 0, not to this user" in text
    assert "/var/tmp/fanout-47001: already exists and is not a directory" in text
    assert "/var/tmp/fanout-47001: is open to others (mode 755)" in text
    assert not project.get_path("ran").exists()
    assert os.listdir(link.get_path("/tmp/trap")) == []
    for host in (root, link, opened):
        host.run_program(
            ["sh", "-c", "rm -rf /var/tmp/fanout-47001 /tmp/fanout-47001 /dev/shm/fanout-47001"], check=True
        )


def test_another_user_of_the_host_sees_nothing_of_a_run(project: Project, lab4: Lab) -> None:
    """Neither its directory nor its log nor the keeper's socket, while it goes on."""
    project.write_train_script("echo started; until [ -e stop ]; do sleep 0.05; done\n")
    run = project.begin_training()
    run.wait_for_output(*(rf"h{number} .*started" for number in range(1, 5)))
    as_other_user = "setpriv --reuid 65534 --regid 65534 --clear-groups sh -c"
    for host in lab4.hosts:
        seen = host.run_program(
            ["sh", "-c", f"{as_other_user} 'cat /var/tmp/fanout-47001/*/* /var/tmp/fanout-47001/*'"]
        )
        assert seen.stdout == ""
        assert "Permission denied" in seen.stderr
    assert run_ssh(lab4, "h1", "stat -c %a /var/tmp/fanout-47001 /var/tmp/fanout-47001/*.0 | sort -u") == "700"
    project.write_file("stop", "")
    assert run.wait_for_end().code == 0
