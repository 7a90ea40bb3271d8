"""Login report for ``fanout hosts --ssh``: each value of a login, and where it comes from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from fanout.model.frozen import frozen
from fanout.model.hosts import Host
from fanout.model.settings import Settings
from fanout.remote.transports.auto import find_program_only_option
from fanout.remote.transports.select import TransportSelector
from fanout.remote.transports.ssh_config import ConfigQuery, SshConfig
from fanout.remote.transports.ssh_config_reader import HostConfig
from fanout.remote.transports.ssh_options import SshOptions

BY_SSH = "ssh -G"  # only ssh itself has read the configuration, so the line is unknown

_POLICIES = {
    "yes": "only known keys; an unknown key is refused",
    "ask": "only known keys; an unknown key is refused, because fanout cannot ask",
    "accept-new": "an unknown key is accepted and kept, a changed one is refused",
    "no": "an unknown key is accepted; StrictHostKeyChecking is off",
}


@frozen
class LoginFact:
    """One value of a login and its origin: a line of a file, a flag, ``ssh -G``, or ``default``."""

    name: str
    value: str | int | tuple[str, ...]
    origin: str


@frozen
class LoginReport:
    """The values of the login to one host."""

    host: str
    facts: tuple[LoginFact, ...]
    by_hand: str


class LoginExplainer:
    """Explain logins without contact to a host."""

    def __init__(self, picker: TransportSelector, settings: Settings, origins: Mapping[str, str]) -> None:
        """Use ``origins``, the place where each setting was given, by its name."""
        self._picker = picker
        self._settings = settings
        self._origins = origins

    def explain_login(self, host: Host) -> LoginReport:
        """Explain one login. Raises UsageError if ssh refuses the configuration."""
        transport = self._picker(host).name
        if transport == "local":
            fact = LoginFact(name="transport", value=transport, origin=self._transport_origin(transport, ()))
            return LoginReport(host=host.name, facts=(fact,), by_hand="")
        way = self._picker.config.resolve_path(host)
        fact = LoginFact(name="transport", value=transport, origin=self._transport_origin(transport, way))
        options = way[-1]
        question = self._picker.config.build_query(host)
        origin = _Origins(host, question, self._picker.config, self._origins)
        facts = [
            LoginFact(name="address", value=options.hostname, origin=origin.find_origin("hostname")),
            LoginFact(name="port", value=options.port, origin=origin.find_origin("port")),
            LoginFact(name="user", value=options.user, origin=origin.find_origin("user")),
            LoginFact(name="keys", value=_list_key_files(options), origin=origin.find_origin("identityfile")),
        ]
        if options.certificate_files:
            certificates = LoginFact(
                name="certificates", value=options.certificate_files, origin=origin.find_origin("certificatefile")
            )
            facts.append(certificates)
        agent = {"": "the one of SSH_AUTH_SOCK", "none": "none"}.get(options.identity_agent, options.identity_agent)
        agent += ", only for the keys above" if options.identities_only and agent != "none" else ""
        facts.append(LoginFact(name="agent", value=agent, origin=origin.find_origin("identityagent", "identitiesonly")))
        if len(way) > 1:
            hops = tuple(f"{one.name} ({one.user}@{one.connect_address})" for one in way[:-1])
            facts.append(LoginFact(name="jump hosts", value=hops, origin=origin.find_origin("proxyjump")))
        if way[0].proxy_command:
            command = LoginFact(
                name="proxy command", value=way[0].proxy_command, origin=origin.find_origin("proxycommand")
            )
            facts.append(command)
        facts += [self._host_key_fact(options, origin), _known_hosts_fact(options, origin), fact]
        return LoginReport(host=host.name, facts=tuple(facts), by_hand=options.by_hand)

    def _host_key_fact(self, options: SshOptions, origin: _Origins) -> LoginFact:
        if self._settings.accept_new_host_keys and options.strict_host_key_checking != "no":
            value = _POLICIES["accept-new"]
            return LoginFact(
                name="host key", value=value, origin=_setting_origin(self._origins, "accept_new_host_keys")
            )
        value = _POLICIES.get(options.strict_host_key_checking, options.strict_host_key_checking)
        value += f"; known as {options.host_key_alias}" if options.host_key_alias else ""
        return LoginFact(
            name="host key", value=value, origin=origin.find_origin("stricthostkeychecking", "hostkeyalias")
        )

    def _transport_origin(self, transport: str, way: Sequence[SshOptions]) -> str:
        where = _setting_origin(self._origins, "transport")
        if self._settings.transport != "auto":
            return where
        reason = find_program_only_option(way) if transport == "openssh" else ""
        return f"{where} (auto: {reason})" if reason else f"{where} (auto)"


def _setting_origin(origins: Mapping[str, str], name: str) -> str:
    """Return the place where a setting was given: the flag if it was given on the command line."""
    where = origins.get(name, "default")
    return f"--{name.replace('_', '-')}" if where == "command line" else where


def _list_key_files(options: SshOptions) -> tuple[str, ...]:
    """Return the key files: those of the configuration, or the defaults of ssh that exist."""
    if options.identity_files_given:
        missing = " (no such file: skipped)"
        return tuple(path if os.path.exists(path) else path + missing for path in options.identity_files)
    found = tuple(path for path in options.identity_files if os.path.exists(path))
    return found or ("none of the files that ssh tries by default exists",)


def _known_hosts_fact(options: SshOptions, origin: _Origins) -> LoginFact:
    files = (*options.user_known_hosts, *options.global_known_hosts)
    return LoginFact(
        name="known hosts", value=files, origin=origin.find_origin("userknownhostsfile", "globalknownhostsfile")
    )


class _Origins:
    """Find where the value of a keyword was given, in ssh's order of precedence."""

    def __init__(self, host: Host, question: ConfigQuery, config: SshConfig, settings: Mapping[str, str]) -> None:
        self._by_option = {re.split(r"[=\s]", option.strip(), maxsplit=1)[0].lower() for option in question.options}
        self._by_line = {
            "hostname": host.hostname is not None,
            "port": host.port is not None,
            "user": host.user is not None,
        }
        self._line = str(host.origin)
        self._user = _setting_origin(settings, "user") if question.user and host.user is None else ""
        self._reading: HostConfig | None = config.read_files(question)

    def find_origin(self, *keywords: str) -> str:
        """Return the origin of the first keyword that was given."""
        found = (self._origin_of_keyword(keyword) for keyword in keywords)
        unknown = "default" if self._reading is not None else BY_SSH
        return next((where for where in found if where), unknown)

    def _origin_of_keyword(self, keyword: str) -> str:
        if keyword in self._by_option:
            return "-o"
        if self._by_line.get(keyword):
            return self._line
        if keyword == "user" and self._user:
            return self._user
        return self._reading.origins.get(keyword, "") if self._reading is not None else ""
