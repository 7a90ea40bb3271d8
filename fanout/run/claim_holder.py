"""Claim holder: keep the hosts of an ended attempt, with their ports and GPUs, until the next attempt has started."""

from __future__ import annotations

from fanout.model.events import Event
from fanout.model.state import RunState
from fanout.run.launch import Launch


class ClaimHolder:
    """Subscriber that releases the attempt before, once the next one has started everywhere."""

    broken = False

    def __init__(self) -> None:
        self.launch: Launch | None = None

    def take(self) -> Launch:
        """Return the kept attempt, and keep it no longer."""
        assert self.launch is not None
        launch, self.launch = self.launch, None
        return launch

    def keep(self, launch: Launch) -> Launch | None:
        """Keep this attempt's hosts until the next one has started, if it has any; return the kept attempt."""
        if launch.plan is None:
            launch.finish(prints=False)
        else:
            self.release()
            self.launch = launch
        return self.launch

    def release(self) -> None:
        """Release the hosts of the kept attempt, and complete its record."""
        if self.launch is not None:
            self.take().finish(prints=False)

    def close(self) -> None:
        """Close the connections of the kept attempt after an error; its guardian ends what is left."""
        if self.launch is not None:
            self.take().close()

    def __call__(self, event: Event, state: RunState) -> None:
        if self.launch is not None and all(host.go_at is not None for host in state.all_hosts):
            self.release()
