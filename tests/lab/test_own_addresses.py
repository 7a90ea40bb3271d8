"""Which addresses are this machine's own where the kernel lets a socket be bound to any."""

from __future__ import annotations

import subprocess
import sys

_SETTING_UP = """
set -e
sysctl -qw net.ipv4.ip_nonlocal_bind=1
sysctl -qw net.ipv6.ip_nonlocal_bind=1 2>/dev/null || true
ip link set lo up
ip address add 198.51.100.7/32 dev lo
exec "$0" -c '
from fanout.remote.transports.select import is_own_address
for address in ("198.51.100.7", "127.0.0.1", "127.0.0.9", "198.51.100.8", "192.0.2.1", "2001:db8::1", "no address"):
    print(address, is_own_address(address, lambda name: [name]))
'
"""


def test_a_machine_that_may_bind_any_address_has_only_its_own() -> None:
    """As keepalived and HAProxy set it up: net.ipv4.ip_nonlocal_bind."""
    argv = ["unshare", "--net", "sh", "-c", _SETTING_UP, sys.executable]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.rsplit(" ", 1)[1] for line in done.stdout.splitlines()] == ["True"] * 3 + ["False"] * 4
