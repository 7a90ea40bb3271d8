"""Options without an ``ssh`` program: values from ssh_config_reader.py, and OpenSSH's defaults.

A keyword that OpenSSH does not know is an error that names its file and line.
"""

from __future__ import annotations

from fanout.remote.transports.ssh_config_reader import HostConfig, UnsupportedLine

DEFAULTS = {
    "stricthostkeychecking": ("ask",),
    "userknownhostsfile": ("~/.ssh/known_hosts ~/.ssh/known_hosts2",),
    "globalknownhostsfile": ("/etc/ssh/ssh_known_hosts /etc/ssh/ssh_known_hosts2",),
    "identityfile": tuple(f"~/.ssh/id_{kind}" for kind in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk")),
    "addressfamily": ("any",),
    "identitiesonly": ("no",),
    "hashknownhosts": ("no",),
    "pubkeyauthentication": ("yes",),
    "passwordauthentication": ("yes",),
    "kbdinteractiveauthentication": ("yes",),
    "gssapiauthentication": ("no",),
    "hostbasedauthentication": ("no",),
}

KEYWORDS = frozenset(
    """addkeystoagent addressfamily batchmode bindaddress bindinterface canonicaldomains canonicalizefallbacklocal
    canonicalizehostname canonicalizemaxdots canonicalizepermittedcnames casignaturealgorithms certificatefile
    challengeresponseauthentication channeltimeout checkhostip ciphers clearallforwardings compression connectionattempts
    connecttimeout controlmaster controlpath controlpersist dynamicforward enableescapecommandline enablesshkeysign
    escapechar exitonforwardfailure fingerprinthash forkafterauthentication forwardagent forwardx11 forwardx11timeout
    forwardx11trusted gatewayports globalknownhostsfile gssapiauthentication gssapidelegatecredentials hashknownhosts
    hostbasedacceptedalgorithms hostbasedauthentication hostkeyalgorithms hostkeyalias hostname identitiesonly
    identityagent identityfile ipqos kbdinteractiveauthentication kbdinteractivedevices kexalgorithms knownhostscommand
    localcommand localforward loglevel logverbose macs nohostauthenticationforlocalhost numberofpasswordprompts
    obscurekeystroketiming passwordauthentication permitlocalcommand permitremoteopen pkcs11provider port
    preferredauthentications proxycommand proxyjump proxyusefdpass pubkeyacceptedalgorithms pubkeyacceptedkeytypes
    pubkeyauthentication rekeylimit remotecommand remoteforward requesttty requiredrsasize revokedhostkeys
    securitykeyprovider sendenv serveralivecountmax serveraliveinterval sessiontype setenv stdinnull
    streamlocalbindmask streamlocalbindunlink stricthostkeychecking syslogfacility tcpkeepalive tunnel tunneldevice
    updatehostkeys user userknownhostsfile verifyhostkeydns versionaddendum visualhostkey xauthlocation""".split()
)

_NUMBERS = frozenset({"connecttimeout", "connectionattempts", "serveraliveinterval", "serveralivecountmax"})
_CHOICES = {
    "addressfamily": {"any", "inet", "inet6"},
    "stricthostkeychecking": {"yes", "no", "ask", "accept-new", "off", "true", "false"},
    "identitiesonly": {"yes", "no", "true", "false"},
    "hashknownhosts": {"yes", "no", "true", "false"},
}


def parse_values(reading: HostConfig) -> dict[str, tuple[str, ...]]:
    """Return the values as ``ssh -G`` would print them, without those that differ per host. Raises UnsupportedLine."""
    for keyword, values in {**reading.own, **reading.rest}.items():
        where, _, line = reading.origins[keyword].rpartition(":")
        place = (where or reading.origins[keyword], int(line) if where else 0)
        if keyword not in KEYWORDS:
            raise UnsupportedLine(*place, f"{keyword} is not a keyword of OpenSSH")
        number_wanted = keyword in _NUMBERS and not (values[0].isdecimal() or values[0] == "none")
        if number_wanted or values[0].lower() not in _CHOICES.get(keyword, {values[0].lower()}):
            raise UnsupportedLine(*place, f"{keyword} cannot be `{values[0]}`")
    words = {"true": "yes", "false": "no"}
    plain = {
        keyword: tuple(words.get(value.lower(), value) for value in values) for keyword, values in reading.rest.items()
    }
    return {**DEFAULTS, **plain}
