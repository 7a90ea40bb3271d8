"""Key login: try the keys in order, and explain why none of them was accepted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from fanout.model.errors import AuthRefused, Dropped, Unreachable
from fanout.remote.transports.base import Deadline
from fanout.remote.transports.identity_keys import Identity, KeyFiles, KeyOffer, select_keys
from fanout.remote.transports.key_signing import sign_data as sign_with_file
from fanout.remote.transports.openssh_errors import second_factor_hint
from fanout.remote.transports.ssh_agent import AgentError, SshAgent
from fanout.remote.transports.ssh_options import SshOptions
from fanout.remote.transports.user_auth import AuthResult, HostDisconnected, UserAuth


class KeyLogin:
    """The authentication strategy (paramiko's term) for one machine."""

    def __init__(self, options: SshOptions, files: KeyFiles, deadline: Deadline, *, agent: bool) -> None:
        """Set ``agent`` to use the one of SSH_AUTH_SOCK if the configuration names no socket."""
        self._options = options
        self._files = files
        self._deadline = deadline
        self._agent_path = agent_path(options) if agent or options.identity_agent else ""
        self._agent_problem = ""
        self._tried: list[Identity] = []
        self.methods: tuple[str, ...] = ()  # methods that the host accepts, from its last answer

    def authenticate(self, transport: Any) -> list[str]:
        """Log in. Raises AuthRefused, Dropped, Unreachable."""
        try:
            with_agent = self._connect_agent()
            try:
                self._log_in(UserAuth(transport, self._options.user, self._deadline), with_agent)
            finally:
                if with_agent is not None:
                    with_agent.close()
        except HostDisconnected as error:
            raise self._explain_disconnect(str(error)) from error
        except TimeoutError as error:
            raise Unreachable(
                f"{self._options.connect_address} answers, but the login did not finish in time: sshd looks for keys in the home "
                f"directory of {self._options.user}, which may be on a file server that hangs",
                hint=self._options.by_hand,
            ) from error
        return []

    def _log_in(self, auth: UserAuth, agent: SshAgent | None) -> None:
        made = self._select_keys(agent)
        auth.request_service()
        if not made.identities or not self._options.is_on("pubkeyauthentication", default=True):
            result = auth.try_none()
            self.methods = result.methods
            if result.success:
                return
            raise self._add_methods(self._explain_refusal(made, result))
        accepted = tuple(name for name in self._options.first_value("pubkeyacceptedalgorithms").split(",") if name)
        result = AuthResult(methods=("publickey",))
        for identity in made.identities:
            algorithm = auth.algorithm_for(identity.key_type, accepted)
            if not algorithm:
                continue
            self._tried.append(identity)
            try:
                result = auth.try_key(identity.blob, algorithm, self._build_signer(identity, agent, algorithm))
            except AgentError as error:
                made.problems.append(f"{identity.source}: {error}")
                continue
            self.methods = result.methods
            if result.success:
                return
            if "publickey" not in result.methods:
                break
        raise self._add_methods(self._explain_refusal(made, result))

    def _add_methods(self, error: AuthRefused) -> AuthRefused:
        error.methods = self.methods
        return error

    def _build_signer(self, identity: Identity, agent: SshAgent | None, algorithm: str) -> Callable[[bytes], bytes]:
        if identity.agent_blob and agent is not None:
            return functools.partial(_sign_with_agent, agent, identity.agent_blob, algorithm)
        assert identity.private is not None, "sshkeys offers a key only where something can sign with it"
        return functools.partial(_sign_with_key_file, identity, algorithm)

    def _connect_agent(self) -> SshAgent | None:
        if not self._agent_path:
            return None
        self._deadline.doing = f"the ssh agent at {self._agent_path}"
        try:
            return SshAgent(self._agent_path, self._deadline)
        except AgentError as error:
            self._agent_problem = str(error)
            return None
        finally:
            self._deadline.doing = ""

    def _select_keys(self, agent: SshAgent | None) -> KeyOffer:
        self._deadline.doing = "the file system of the ssh keys"
        try:
            return select_keys(self._options, self._files, agent.list_keys() if agent is not None else [])
        except AgentError as error:
            self._agent_problem = str(error)
            return select_keys(self._options, self._files, [])
        finally:
            self._deadline.doing = ""

    # -- errors

    def _explain_disconnect(self, words: str) -> Exception:
        where = self._options.connect_address
        if "oo many authentication failures" in words:
            return AuthRefused(
                f"{where} ended the login after {len(self._tried)} keys (its MaxAuthTries): {self._format_tried_keys()}",
                hint="name the right key for this host in ~/.ssh/config: IdentityFile and `IdentitiesOnly yes`",
            )
        reason = f": {words}" if words else ""
        return Dropped(f"{where} closed the connection during the login{reason}", hint=self._options.by_hand)

    def _explain_refusal(self, made: KeyOffer, result: AuthResult) -> AuthRefused:
        who = f"{self._options.user}@{self._options.connect_address}"
        methods = ", ".join(result.methods)
        if result.partial:
            return AuthRefused(
                f"the key was accepted for {who}, and the host wants a second factor: {methods}",
                hint=second_factor_hint(self._options.by_hand),
            )
        if "publickey" not in result.methods:
            return AuthRefused(
                f"{who} accepts no key, only {methods}, and fanout cannot type a password",
                hint=second_factor_hint(self._options.by_hand),
            )
        if made.locked and not self._agent_problem:
            names = ", ".join(made.locked)
            command = f"ssh-add {' '.join(made.locked)}"
            return AuthRefused(
                f"permission denied for {who}: the key {names} needs its passphrase and is not in "
                f"{'the agent' if self._agent_path else 'an agent: no agent is running'}",
                hint=f"{command}  (once, in this terminal)" if self._agent_path else f"eval $(ssh-agent); {command}",
            )
        agent = self._agent_problem or ("an agent is running" if self._agent_path else "no agent is running")
        problems = "".join(f"; {problem}" for problem in made.problems)
        return AuthRefused(
            f"permission denied for {who} (tried {self._format_tried_keys()}; {agent}{problems})",
            hint=f"{self._options.by_hand.replace('ssh ', 'ssh-copy-id ', 1)}   "
            f"(if plain `{self._options.by_hand}` works: --transport openssh)",
        )

    def _format_tried_keys(self) -> str:
        return ", ".join(identity.source for identity in self._tried) or "no key"


def _sign_with_agent(agent: SshAgent, blob: bytes, algorithm: str, data: bytes) -> bytes:
    return agent.sign_data(blob, data, algorithm)


def _sign_with_key_file(identity: Identity, algorithm: str, data: bytes) -> bytes:
    assert identity.private is not None
    return sign_with_file(identity.private, data, algorithm)


def agent_path(options: SshOptions) -> str:
    """Return the path of the agent's socket, "" for no agent."""
    if options.identity_agent == "none":
        return ""
    if options.identity_agent:
        return options.identity_agent
    path = os.path.expandvars("${SSH_AUTH_SOCK}")
    return "" if path.startswith("$") else path
