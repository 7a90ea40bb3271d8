"""Mounts, arguments and images of a container that fanout creates: what is accepted, and what exits with 2."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fanout.model.containers import assign_containers, check_image_options, is_image_name
from fanout.model.errors import UsageError
from fanout.model.mounts import Mount, check_container_arguments, parse_mounts
from fanout.model.settings import Settings
from tests.model.test_plan import build_host


@pytest.mark.parametrize(
    "name", ["train", "train:1", "nvcr.io/nvidia/pytorch:25.01-py3", "a@sha256:0a1b", "host:5000/a_b"]
)
def test_a_name_with_registry_tag_or_digest_is_an_image(name: str) -> None:
    assert is_image_name(name)


@pytest.mark.parametrize("name", ["", "-v", "a b", "a;b", "a'b", "a$b", "/a b", "a\nb", "ä"])
def test_a_name_that_a_shell_or_an_engine_reads_otherwise_is_no_image(name: str) -> None:
    assert not is_image_name(name)
    if name:
        with pytest.raises(UsageError, match="not the name of an image"):
            assign_containers([build_host("a")], Settings(image=name))


def test_a_mount_has_the_same_path_in_the_container_unless_another_is_given() -> None:
    found = parse_mounts(["/data/", "/nfs/cache:/cache"])
    assert found == (Mount(source="/data", target="/data"), Mount(source="/nfs/cache", target="/cache"))


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        (["data"], "not an absolute path"),
        (["/data:x"], "not an absolute path"),
        (["/data:"], "not an absolute path"),
        (["/a:/b:ro"], "the character ':'"),
        (["/a,b"], "the character ','"),
        (["/a:/"], "the root of the file system"),
        (["/a:/x", "/b:/x"], "two mounts have the same path /x"),
    ],
)
def test_a_mount_that_an_engine_reads_otherwise_is_refused(texts: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        parse_mounts(texts)


@pytest.mark.parametrize(
    "argument",
    ["--name=x", "--pid=host", "--env=TOKEN=1", "-eTOKEN=1", "--rm", "--pull=always", "fuse", "", "--", "-it"],
)
def test_an_argument_that_breaks_a_promise_is_refused(argument: str) -> None:
    with pytest.raises(UsageError, match="--container-arg"):
        check_container_arguments([argument])


def test_other_arguments_are_passed_on() -> None:
    check_container_arguments(["--shm-size=32g", "--device=/dev/fuse", "--privileged", "-v=/a:/b"])


@pytest.mark.parametrize(
    "settings",
    [
        Settings(container="work", image="train"),
        Settings(image="train", engine="podman", container="work"),
    ],
)
def test_a_container_and_an_image_together_are_refused(settings: Settings) -> None:
    with pytest.raises(UsageError, match="both are given"):
        assign_containers([build_host("a")], settings)


def test_a_host_with_a_container_and_an_image_is_refused_with_its_line() -> None:
    host = replace(build_host("a"), container="work")
    with pytest.raises(UsageError, match=r":\d+: host a has container work and image train"):
        assign_containers([host], Settings(image="train"))


def test_mounts_without_an_image_are_refused_and_so_is_a_choice_of_free_hosts() -> None:
    with pytest.raises(UsageError, match="no image is named"):
        check_image_options([build_host("a")], Settings(mount=("/data",)), picks=False)
    with pytest.raises(UsageError, match="--pick free"):
        check_image_options([replace(build_host("a"), image="train")], Settings(), picks=True)
