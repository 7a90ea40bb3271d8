"""Container engines: the programs of each, and the words after the program for what a user does by hand. Pure."""

from __future__ import annotations

from fanout.model.frozen import frozen


@frozen
class Engine:
    """One container engine. Its words name a container as ``{container}`` and an image as ``{image}``."""

    name: str
    programs: tuple[str, ...]
    has_image_paths: bool = False  # an image is a file or a directory, so its path names the engine too
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


DOCKER = Engine(name="docker", programs=("docker",))
PODMAN = Engine(name="podman", programs=("podman",))
#: Without --cleanenv it would pass on the environment of the login, and without --pwd it may mount the work directory.
APPTAINER = Engine(
    name="apptainer",
    programs=("apptainer", "singularity"),
    has_image_paths=True,
    enter_words="exec --cleanenv --pwd / instance://{container}",
    image_words="exec --cleanenv --no-home --pwd / {image}",
    list_words="instance list",
    start_words="instance start IMAGE {container}",
)
ENGINES = {engine.name: engine for engine in (DOCKER, PODMAN, APPTAINER)}
_BY_PROGRAM = {program: engine for engine in ENGINES.values() for program in engine.programs}


def get_engine(program: str | None) -> Engine:
    """Return the engine that has this name, or this program; docker for one that is unknown."""
    return _BY_PROGRAM.get(program or "", DOCKER)
