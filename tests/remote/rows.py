"""The table of configurations that ``ssh`` and fanout must understand alike; see ``sshlab.Row``."""

from __future__ import annotations

from tests.remote.sshlab import Row

READING = (
    Row(name="nothing but defaults"),
    Row(name="a port", config="Host h1\n  Port <port2>\n"),
    Row(name="an equals sign", config="Host h1\n  Port=<port2>\n"),
    Row(name="spaces and tabs", config="Host\t h1 \n \t PORT \t <port2> \t\n"),
    Row(name="quotes", config='Host "h1"\n  HostName "127.0.0.2"\n'),
    Row(name="a comment behind values", config="Host h1 # the big one\n  Port <port2> # docker\n"),
    Row(name="a comment behind a key", config="Host h1\n  IdentityFile <root>/rsa # mine\n"),
    Row(name="bytes that are no UTF-8", config="# caf\xe9\nHost h1 # \xff\n  Port <port2>\n"),
    Row(name="a byte order mark", config="\xef\xbb\xbfHost h1\n  Port 1\n", gets_in=False, says=("Bad configuration",)),
    Row(name="carriage returns", config="Host h1\r\n  Port <port2>\r\n"),
    Row(name="the first value counts", config="Host h1\n  Port <port2>\nHost h1\n  Port <closed>\n"),
    Row(name="a wildcard", config="Host h?\n  Port <port2>\n"),
    Row(name="a negated name", config="Host h* !h1\n  Port <closed>\n"),
    Row(name="a negated name after a match", config="Host h1 !h*\n  Port <closed>\n"),
    Row(name="names that differ in case", config="Host H1\n  Port <closed>\n"),
    Row(name="a name in capitals", config="Host h1\n  Port <closed>\n", target="H1"),
    Row(name="a line without a value", config="Host h1\n  Port\n", gets_in=False, says=("line 2",)),
    Row(name="a port that is no number", config="Host h1\n  Port abc\n", gets_in=False, says=("line 2", "abc")),
    Row(name="a keyword that ssh does not know", config="Colour blue\n", gets_in=False, says=("line 1", "colour")),
    Row(name="a keyword to ignore", config="IgnoreUnknown Colour\nColour blue\nHost h1\n  Port <port2>\n"),
)

INCLUDING = (
    Row(name="Include", config="Include <root>/one.conf\n", files={"one.conf": "Host h1\n  Port <port2>\n"}),
    Row(
        name="Include of several files",
        config="Include <root>/conf.d/*.conf\n",
        files={"conf.d/1.conf": "Host h1\n  Port <port2>\n", "conf.d/2.conf": "Host h1\n  Port <closed>\n"},
    ),
    Row(name="Include of a file that is not there", config="Include <root>/no.conf <root>/no/*.conf\n"),
    Row(
        name="Include inside a Host block that does not match",
        config="Host other\n  Include <root>/all.conf\n",
        files={"all.conf": "Host *\n  Port <closed>\n"},
    ),
    Row(
        name="Include inside a Host block that matches",
        config="Host h*\n  Include <root>/h1.conf\n  HostName 127.0.0.3\n",
        files={"h1.conf": "Port <port2>\nHost other\n  HostName 127.0.0.2\n"},
    ),
    Row(
        name="Include in an included file",
        config="Include <root>/outer.conf\n",
        files={"outer.conf": "Include <root>/inner.conf\n", "inner.conf": "Host h1\n  HostName 127.0.0.4\n"},
    ),
    Row(
        name="an error in an included file",
        config="Include <root>/bad.conf\n",
        files={"bad.conf": "\nHost x\n  Port abc\n"},
        gets_in=False,
        says=("bad.conf line 3",),
    ),
)

MATCHING = (
    Row(name="Match all", config="Match all\n  Port <port2>\n"),
    Row(name="Match host", config="Match host h1\n  Port <port2>\n"),
    Row(
        name="Match host by its HostName",
        config="Host h1\n  HostName 127.0.0.2\nMatch host 127.0.0.2\n  Port <port2>\n",
    ),
    Row(name="Match originalhost", config="Match originalhost h1\n  Port <port2>\n"),
    Row(name="Match of another host", config="Match host h2\n  Port <closed>\n"),
    Row(name="Match negated", config="Match !host h1\n  Port <closed>\n"),
    Row(name="Match user", config="Host h1\n  User <user>\nMatch user <user>\n  Port <port2>\n"),
    Row(name="Match localuser", config="Match localuser <user>\n  Port <port2>\n"),
    Row(name="Match of two criteria", config="Match host h1 user nobody-here\n  Port <closed>\n"),
    Row(name="Match exec that is true", config='Match exec "test %n = h1"\n  Port <port2>\n'),
    Row(name="Match exec that is false", config="Match host h1 exec false\n  Port <closed>\n"),
    Row(name="Match final", config="Match final host 127.0.0.1\n  IdentityFile <root>/rsa\n"),
    Row(name="CanonicalizeHostname", config="CanonicalizeHostname always\nMatch canonical\n  HostKeyAlias x\n"),
    Row(name="Match of a network", config="Match localnetwork 10.9.9.0/24\n  ProxyJump nowhere\n", gets_in=None),
    Row(name="Match of a tag", config="Match tagged far\n  ProxyJump nowhere\n", gets_in=None),
)

WHERE = (
    Row(name="HostName", config="Host h1\n  HostName 127.0.0.2\n"),
    Row(name="HostName with a token", config="Host 1\n  HostName 127.0.0.%h\n", target="1"),
    Row(name="an address as a name", target="127.0.0.3", config="Host 127.0.0.3\n  HostName %h\n"),
    Row(name="AddressFamily inet", config="Host h1\n  HostName localhost\n  AddressFamily inet\n"),
    Row(name="AddressFamily inet6", config="Host h1\n  HostName ::1\n  AddressFamily inet6\n", gets_in=None),
    Row(name="an address of the other family", config="Host h1\n  AddressFamily inet6\n", gets_in=False),
    Row(name="BindAddress", config="Host h1\n  BindAddress 127.0.0.9\n"),
    Row(name="BindInterface", config="Host h1\n  BindInterface lo\n"),
    Row(name="ConnectTimeout and ConnectionAttempts", config="Host h1\n  ConnectTimeout 5\n  ConnectionAttempts 2\n"),
    Row(name="a port where nothing listens", config="Host h1\n  Port <closed>\n", gets_in=False, says=("refused",)),
    Row(name="HostKeyAlias", config="Host h1\n  HostKeyAlias cluster\n  UserKnownHostsFile <root>/alias\n",
        files={"alias": "cluster <hostkey>\n"}),
    Row(name="a name that does not resolve", config="Host h1\n  HostName nowhere.invalid\n", gets_in=False,
        says=("nowhere.invalid does not resolve",)),
)  # fmt: skip

OVERRIDING = (
    Row(name="a port in the hostfile", config="Host h1\n  Port <closed>\n", line={"port": "<port2>"}),
    Row(name="a user in the hostfile", config="Host h1\n  User nobody-here\n", line={"user": "<user>"}),
    Row(name="an address in the hostfile", config="Host h1\n  HostName 10.9.9.9\n", line={"hostname": "127.0.0.4"}),
    Row(name="a user of the configuration that is not there", config="Host h1\n  User nobody-here\n", gets_in=False,
        says=("nobody-here",)),
    Row(name="-o", config="Host h1\n  Port <closed>\n", options=("Port=<port2>",)),
    Row(name="-o with a blank", config="Host h1\n  Port <closed>\n", options=("Port <port2>",)),
    Row(name="-o before the hostfile", line={"port": "<closed>"}, options=("Port=<port2>",)),
    Row(name="two -o", options=("Port=<port2>", "IdentityFile=<root>/rsa"), base="Host *\n  HostName 127.0.0.1\n"
        "  User <user>\n  UserKnownHostsFile <root>/known_hosts\n  IdentitiesOnly yes\n"),
    Row(name="-o that ssh does not know", options=("Colour=blue",), gets_in=False, says=("colour",)),
    Row(name="-o does not reach the jump host", config="Host h1\n  ProxyJump j\nHost j\n  Port <port>\n",
        options=("Port=<port2>",)),
)  # fmt: skip

_JUMPS = "Host a\n  HostName 127.0.0.2\nHost b\n  HostName 127.0.0.3\n  Port <port2>\n"
JUMPING = (
    Row(name="ProxyJump", config=f"Host h1\n  ProxyJump a\n{_JUMPS}"),
    Row(name="ProxyJump over two", config=f"Host h1\n  ProxyJump a,b\n{_JUMPS}"),
    Row(name="ProxyJump over two, the other way", config=f"Host h1\n  ProxyJump b,a\n{_JUMPS}"),
    Row(name="ProxyJump none", config=f"Host h1\n  ProxyJump none\nHost h*\n  ProxyJump nowhere.invalid\n{_JUMPS}"),
    Row(name="ProxyJump with a user and a port", config=f"Host h1\n  ProxyJump <user>@a:<port2>\n{_JUMPS}"),
    Row(name="ProxyJump as a URI", config=f"Host h1\n  ProxyJump ssh://<user>@a:<port2>\n{_JUMPS}"),
    Row(name="ProxyJump by address", config="Host h1\n  ProxyJump <user>@127.0.0.4:<port2>\n"
        "Host 127.0.0.4\n  HostName 127.0.0.4\n"),
    Row(name="a jump host with a jump host", config=f"Host h1\n  ProxyJump b\nHost b\n  ProxyJump a\n{_JUMPS}"),
    Row(name="the last jump host's own jump does not count",
        config=f"Host h1\n  ProxyJump a,b\nHost b\n  ProxyJump nowhere.invalid\n{_JUMPS}"),
    Row(name="a jump host with a key of its own", config=f"Host a\n  IdentityFile <root>/rsa\n  IdentitiesOnly yes\n"
        f"Host h1\n  ProxyJump a\n{_JUMPS}"),
    Row(name="a jump host in a Match", config=f"Match host 127.0.0.1 user <user>\n  ProxyJump a\nHost h1\n"
        f"  HostName 127.0.0.1\n  User <user>\nMatch host 127.0.0.1 user <user>\n  ProxyJump a\n{_JUMPS}"),
    Row(name="a jump host that is its own", config="Host a\n  HostName a\nHost *\n  ProxyJump a:<port>\n", target="a",
        gets_in=False, says=("its own jump host",)),
    Row(name="jump hosts in a circle", config="Host h1\n  ProxyJump a\nHost a\n  ProxyJump b\nHost b\n  ProxyJump c\n"
        "Host c\n  Port <closed>\n", gets_in=False, says=("jump host c", "refused")),
    Row(name="a jump host that is down", config="Host h1\n  ProxyJump j\nHost j\n  Port <closed>\n", gets_in=False,
        says=("jump host j", "<closed>", "-F"), program_says=("jump host j", "<closed>", "-F")),
    Row(name="a jump host that does not resolve", config="Host h1\n  ProxyJump far.invalid\nHost far.invalid\n"
        "  HostName %h\n", gets_in=False, says=("jump host far.invalid", "does not resolve")),
    Row(name="a jump host that does not let us in", config=f"Host a\n  IdentityFile <root>/stranger\n  "
        f"IdentitiesOnly yes\nHost h1\n  ProxyJump a\n{_JUMPS}", gets_in=None),
    Row(name="a target that is down behind a jump host", config=f"Host h1\n  Port <closed>\n  ProxyJump a\n{_JUMPS}",
        gets_in=False, says=("jump host a", "<closed>")),
    Row(name="an entry that is no jump host", config="Host h1\n  ProxyJump a:b:c@\n", gets_in=False),
)  # fmt: skip

_NC = (
    "ssh -F none -o BatchMode=yes -o UserKnownHostsFile=<root>/known_hosts -i <root>/key -p <port2> -W %h:%p 127.0.0.2"
)
COMMANDING = (
    Row(name="ProxyCommand", config=f"Host h1\n  ProxyCommand {_NC}\n"),
    Row(name="ProxyCommand in the shell", config=f"Host h1\n  ProxyCommand sh -c '{_NC} 2>/dev/null; true' # %%\n"),
    Row(name="ProxyCommand with a variable", config=f"Host h1\n  ProxyCommand {_NC}\n".replace("<port2>", "$JUMP_PORT"),
        env={"JUMP_PORT": "<port2>"}),
    Row(name="ProxyCommand none", config="Host h1\n  ProxyCommand none\nHost *\n  ProxyJump nowhere.invalid\n"),
    Row(name="ProxyCommand before ProxyJump", config=f"Host h1\n  ProxyCommand {_NC}\nHost h1\n  ProxyJump nowhere\n"),
    Row(name="ProxyJump before ProxyCommand", config=f"Host h1\n  ProxyJump a\n  ProxyCommand false\n{_JUMPS}"),
    Row(name="ProxyJump none before ProxyCommand", config=f"Host h1\n  ProxyJump none\n  ProxyCommand {_NC}\n"),
    Row(name="ProxyCommand of a jump host", config=f"Host a\n  ProxyCommand {_NC}\nHost h1\n  ProxyJump a\n{_JUMPS}"),
    Row(name="a ProxyCommand that is not there", config="Host h1\n  ProxyCommand nc-not-there %h %p\n", gets_in=False,
        says=("cannot be run", "nc-not-there"), program_says=("the ProxyCommand `nc-not-there", "not found")),
    Row(name="a ProxyCommand that fails", config="Host h1\n  ProxyCommand echo no way >&2; exit 7\n", gets_in=False,
        says=("ended with status",)),
    Row(name="a token that ssh does not know", config="Host h1\n  ProxyCommand nc %z\n", gets_in=False, says=("%z",)),
)  # fmt: skip

KEYS = (
    Row(name="a second key", config="Host h1\n  IdentityFile <root>/rsa\n  IdentitiesOnly yes\n"),
    Row(name="a key that is not there", config="Host h1\n  IdentityFile <root>/no\n  IdentityFile <root>/rsa\n"),
    Row(name="a key by a token", config="Host key\n  IdentityFile <root>/%n\n", target="key",
        base="Host *\n  HostName 127.0.0.1\n  Port <port>\n  IdentitiesOnly yes\n  UserKnownHostsFile <root>/known_hosts\n"),
    Row(name="a key by a variable", config="Host h1\n  IdentityFile ${KEYS_HERE}/rsa\n", env={"KEYS_HERE": "<root>"}),
    Row(name="IdentityFile none", config="Host h1\n  IdentityFile none\n"),
    Row(name="a key that is not let in", config="Host h1\n  IdentityFile <root>/stranger\n",
        base="Host *\n  HostName 127.0.0.1\n  Port <port>\n  IdentitiesOnly yes\n  UserKnownHostsFile <root>/known_hosts\n",
        gets_in=False, says=("stranger",)),
)  # fmt: skip

OTHERS = (
    Row(name="RemoteCommand is not run", config="Host h1\n  RemoteCommand tmux new -A\n  RequestTTY yes\n",
        gets_in=False, unlike_ssh="ssh has no place for two commands"),
    Row(name="forwardings are not made", config="Host h1\n  LocalForward <port> 127.0.0.1:1\n  ForwardAgent yes\n"),
    Row(name="SendEnv and SetEnv", config="Host h1\n  SendEnv LANG LC_*\n  SetEnv A=b\n"),
    Row(name="ciphers and a log level", config="Host h1\n  Ciphers aes256-ctr\n  LogLevel QUIET\n"),
)  # fmt: skip

ROWS = (*READING, *INCLUDING, *MATCHING, *WHERE, *OVERRIDING, *JUMPING, *COMMANDING, *KEYS, *OTHERS)
