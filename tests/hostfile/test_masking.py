"""Secrets of a hostfile: none is in an error, in ``hosts --explain`` or in a table of the hosts."""

from __future__ import annotations

import pytest

from fanout.hostfile import parse_hostfile
from fanout.hostfile.masking import mask_secrets
from fanout.hostfile.render import explain_lines, to_dicts
from fanout.model.errors import HostfileError
from tests.hostfile.reading import read_refusal

SECRET = "hunter2zzz"
REFUSED = [
    f"sshpass -p {SECRET} ssh root@10.0.0.1",
    f"sshpass -p{SECRET} ssh root@10.0.0.1",
    f"sshpass -v -p '{SECRET}' ssh root@10.0.0.1",
    f"SSHPASS={SECRET} sshpass -e ssh root@10.0.0.1",
    f"ssh -o Password={SECRET} root@10.0.0.1 -p x@",
    f"ssh -o 'Password {SECRET}' root@",
    f"root:{SECRET}@gpu01",
    f"gpu01,root:{SECRET}@gpu02",
    f"ssh://root:{SECRET}@gpu01",
    f"https://root:{SECRET}@gpu01/path",
    f"https://{SECRET * 3}@gpu01/path",
    f"gpu01 ansible_ssh_pass={SECRET} slots=x",
    f"gpu01 ansible_password = {SECRET} slots=x",
    f"gpu01 ansible_become_pass='{SECRET} b' slots=x",
    f'gpu01 ansible_become_password="{SECRET} slots=8',
    f"gpu01 password=my {SECRET} word",
    f"gpu01 password={SECRET} word",
    f"gpu01 slots=x token={SECRET}",
    f"gpu01 env.S3={SECRET} slots=x",
    f"gpu01 env.S3={SECRET} env.S3={SECRET}",
    f"gpu01 env.S3='{SECRET}",
    f"export WANDB_API_KEY={SECRET}",
    f"curl -u alice:{SECRET} gpu01",
    f"docker login -u alice -p {SECRET} registry",
    f"mysql --password {SECRET} gpu01",
    f"- host: gpu01\n  ansible_password: {SECRET}: x\n",
    f"- host: gpu01\n  env:\n    S3: '{SECRET}\n",
    f"- host: gpu01\n  env:\n    S3: {SECRET}: x\n",
    f"- {{host: gpu01, ansible_password: {SECRET}, slots: x}}\n",
    f"- {{host: gpu01, env: {{S3: {SECRET}}}, slots: x}}\n",
    f"host,password,slots\ngpu01,{SECRET},x\n",
    f"host,password,slots\ngpu01,pw1,8\ngpu02,{SECRET}\n",
    f"host,slots,admin_password\ngpu01,x,{SECRET}\n",
    f"[all:vars]\nansible_password={SECRET} x\nansible_password={SECRET} y\nslots=x\n",
]


@pytest.mark.parametrize("text", REFUSED)
def test_a_refusal_quotes_the_line_without_its_secret(text: str) -> None:
    refusal = read_refusal(text)
    assert SECRET not in refusal
    assert SECRET[:7] not in refusal


@pytest.mark.parametrize(
    ("line", "masked"),
    [
        ("gpu01 slots=8 env.A=one port=22", "gpu01 slots=8 env.A=*** port=22"),
        ("ansible_password: a b c", "ansible_password: ***"),
        ("{ansible_password: abc, slots: 8}", "{ansible_password: ***, slots: 8}"),
        ("ssh -o PasswordAuthentication=no root@h1", "ssh -o PasswordAuthentication=no root@h1"),
        ("h1 ansible_become=yes ansible_ssh_private_key_file=~/.ssh/id", "h1 ansible_become=yes ansible_ssh_private_key_file=~/.ssh/id"),
        ("root@gpu01:2222", "root@gpu01:2222"),
        ("[fe80::1]:22 slots=8", "[fe80::1]:22 slots=8"),
        ("a:b@h1,c:d@h2", "a:***@h1,c:***@h2"),
        ("sshpass -p pw ssh -p 2222 root@h1", "sshpass -p *** ssh -p 2222 root@h1"),
    ],
)  # fmt: skip
def test_a_line_keeps_all_but_its_secrets(line: str, masked: str) -> None:
    assert mask_secrets(line).text == masked


def test_the_caret_stays_under_the_wrong_part() -> None:
    with pytest.raises(HostfileError) as caught:
        parse_hostfile(f"gpu01 env.S3={SECRET} slots=x port=22".encode(), file="hosts.txt")
    _, line, caret, _ = str(caught.value).splitlines()
    assert line[caret.index("^") : caret.rindex("^") + 1] == "slots=x"


def test_the_views_of_a_hostfile_hold_no_secret() -> None:
    data = f"gpu01 slots=8 env.S3={SECRET} api_key={SECRET} ansible_password={SECRET}\n".encode()
    read = parse_hostfile(data, file="hosts.txt")
    assert SECRET not in explain_lines(data, read)
    assert SECRET not in str(to_dicts(read.hosts)[0]["extra"])
