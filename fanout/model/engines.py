"""Container engines: the programs of each, and the words after the program for what a user does by hand. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One container engine. Its words name a container as ``{container}`` and an image as ``{image}``."""

    name: str
    enter_words: str = "exec -i {container}"
    image_words: str = "run --rm -i --pull never --network host {image}"  # a new container, which ends with its command
    list_words: str = "ps -a"
    start_words: str = "start {container}"
    pull_words: str = "pull {image}"

    def build_entry(self, container: str) -> str:
        """Return the command that enters a container."""
        return f"{self.name} {self.enter_words.format(container=container)}"

    def build_trial(self, image: str) -> str:
        """Return the command that runs what follows in a new container of an image."""
        return f"{self.name} {self.image_words.format(image=image)}"


DOCKER, PODMAN = Engine(name="docker"), Engine(name="podman")
ENGINES = {engine.name: engine for engine in (DOCKER, PODMAN)}


def get_engine(name: str | None) -> Engine:
    """Return the engine of this name; docker for a name that is unknown."""
    return ENGINES.get(name or "", DOCKER)
