"""Key login: try the keys in order, and explain why none of them was accepted."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

from fanout.errors import AuthRefused, Dropped, Unreachable
from fanout.transports.base import Deadline
from fanout.transports.refusals import second_factor_hint
from fanout.transports.signing import sign as sign_with_file
from fanout.transports.sshagent import AgentFault, SshAgent
from fanout.transports.sshkeys import Identity, KeyFiles, Offer, offer
from fanout.transports.sshoptions import SshOptions
from fanout.transports.userauth import HungUp, Result, UserAuth


class KeyLogin:
    """The authentication strategy (paramiko's term) for one machine."""

    def __init__(self, options: SshOptions, files: KeyFiles, deadline: Deadline, *, agent: bool) -> None:
        """With ``agent``, use the one of SSH_AUTH_SOCK if the configuration names no socket."""
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
            with_agent = self._connected_agent()
            try:
                self._log_in(UserAuth(transport, self._options.user, self._deadline), with_agent)
            finally:
                if with_agent is not None:
                    with_agent.close()
        except HungUp as error:
            raise self._hung_up(str(error)) from error
        except TimeoutError as error:
            raise Unreachable(
                f"{self._options.address} answers, but the login did not finish in time: sshd looks for keys in the home "
                f"directory of {self._options.user}, which may be on a file server that hangs",
                hint=self._options.by_hand,
            ) from error
        return []

    def _log_in(self, auth: UserAuth, agent: SshAgent | None) -> None:
        made = self._offer(agent)
        auth.begin()
        if not made.identities or not self._options.is_on("pubkeyauthentication", default=True):
            result = auth.none()
            self.methods = result.methods
            if result.success:
                return
            raise self._with_methods(self._refused(made, result))
        accepted = tuple(name for name in self._options.value("pubkeyacceptedalgorithms").split(",") if name)
        result = Result(methods=("publickey",))
        for identity in made.identities:
            algorithm = auth.algorithm_for(identity.kind, accepted)
            if not algorithm:
                continue
            self._tried.append(identity)
            try:
                result = auth.offer(identity.blob, algorithm, self._signer(identity, agent, algorithm))
            except AgentFault as error:
                made.problems.append(f"{identity.source}: {error}")
                continue
            self.methods = result.methods
            if result.success:
                return
            if "publickey" not in result.methods:
                break
        raise self._with_methods(self._refused(made, result))

    def _with_methods(self, error: AuthRefused) -> AuthRefused:
        error.methods = self.methods
        return error

    def _signer(self, identity: Identity, agent: SshAgent | None, algorithm: str) -> Callable[[bytes], bytes]:
        if identity.agent_blob and agent is not None:
            return functools.partial(_by_agent, agent, identity.agent_blob, algorithm)
        assert identity.private is not None, "sshkeys offers a key only where something can sign with it"
        return functools.partial(_by_file, identity, algorithm)

    def _connected_agent(self) -> SshAgent | None:
        if not self._agent_path:
            return None
        self._deadline.doing = f"the ssh agent at {self._agent_path}"
        try:
            return SshAgent(self._agent_path, self._deadline)
        except AgentFault as error:
            self._agent_problem = str(error)
            return None
        finally:
            self._deadline.doing = ""

    def _offer(self, agent: SshAgent | None) -> Offer:
        self._deadline.doing = "the file system of the ssh keys"
        try:
            return offer(self._options, self._files, agent.keys() if agent is not None else [])
        except AgentFault as error:
            self._agent_problem = str(error)
            return offer(self._options, self._files, [])
        finally:
            self._deadline.doing = ""

    # -- errors

    def _hung_up(self, words: str) -> Exception:
        where = self._options.address
        if "oo many authentication failures" in words:
            return AuthRefused(
                f"{where} ended the login after {len(self._tried)} keys (its MaxAuthTries): {self._names()}",
                hint="name the right key for this host in ~/.ssh/config: IdentityFile and `IdentitiesOnly yes`",
            )
        said = f": {words}" if words else ""
        return Dropped(f"{where} closed the connection during the login{said}", hint=self._options.by_hand)

    def _refused(self, made: Offer, result: Result) -> AuthRefused:
        who = f"{self._options.user}@{self._options.address}"
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
            f"permission denied for {who} (tried {self._names()}; {agent}{problems})",
            hint=f"{self._options.by_hand.replace('ssh ', 'ssh-copy-id ', 1)}   "
            f"(if plain `{self._options.by_hand}` works: --transport openssh)",
        )

    def _names(self) -> str:
        return ", ".join(identity.source for identity in self._tried) or "no key"


def _by_agent(agent: SshAgent, blob: bytes, algorithm: str, data: bytes) -> bytes:
    return agent.sign(blob, data, algorithm)


def _by_file(identity: Identity, algorithm: str, data: bytes) -> bytes:
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
