"""Host attributes: map the ``key=value`` names of all dialects to fields of ``Host``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fanout.hostfile.name_grammar import HOST, TAG, USER, ZONE, check_host, check_port
from fanout.hostfile.node_sets import expand_ranges
from fanout.hostfile.problems import ParseError
from fanout.model.containers import IMAGE_HINT, is_container_name, is_image_name, is_image_path
from fanout.model.engines import ENGINES
from fanout.text.parse_ranges import parse_range

Fields = dict[str, Any]  # fields of Host by name; a missing key was not given

MOST_SLOTS = 4096

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_GPU = re.compile(r"\d{1,4}|(?:GPU|MIG)-[A-Za-z0-9/-]{1,80}", re.ASCII)
_SECRET = re.compile(r"pass|secret|token|credential|private_key(?!_file)|become", re.IGNORECASE)
_PROGRAM = re.compile(r"[\w/.+~][\w/.+~-]*")  # it becomes part of the login shell's command line
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

# Attribute names of all dialects, lower case, '-' as '_'.
KEYS = {
    "slots": "slots", "nproc": "slots", "nproc_per_node": "slots", "cpu": "slots", "count": "slots",
    "gpus": "gpus", "max_slots": "max_slots", "slots_max": "max_slots", "max_count": "max_slots",
    "max_cpu": "max_slots", "port": "port", "user": "user", "username": "user", "user_name": "user",
    "hostname": "hostname", "addr": "addr", "iface": "iface", "python": "python", "workdir": "workdir",
    "container": "container", "image": "image", "engine": "engine",
    "type": "kind", "spare": "spare", "tag": "tags", "tags": "tags",
}  # fmt: skip

# Ansible's names for our fields. Its other variables are kept without a warning.
ANSIBLE_KEYS = {
    "ansible_host": "hostname", "ansible_ssh_host": "hostname", "ansible_user": "user", "ansible_ssh_user": "user",
    "ansible_port": "port", "ansible_ssh_port": "port",
}  # fmt: skip
_TOO_COMMON_IN_ANSIBLE = (
    "user", "port", "type", "tag", "tags", "hostname", "python", "cpu", "count", "container", "image",
    "engine",
)  # fmt: skip


@dataclass(slots=True)
class HostAttributes:
    """Parsed attributes of one host: fields, and keys that the user should know about."""

    fields: Fields = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # field -> the key in the file
    unknown: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)
    counted_gpus: str = ""
    patterns: dict[str, str] = field(default_factory=dict)  # addr=10.0.0.[1-4]: one address for each host of the line

    def set_field(self, name: str, key: str, value: object) -> None:
        before = self.written.get(name)
        if before == key or (before is not None and self.fields[name] != value):
            raise ParseError(
                f"{key}= is given twice" if key == before else f"{key}= and {before}= disagree", "keep one"
            )
        self.fields[name] = value
        self.written[name] = key

    def extend_field(self, name: str, items: tuple[Any, ...]) -> None:
        self.fields[name] = (*self.fields.get(name, ()), *items)


def read_attribute(reading: HostAttributes, key: str, value: str, *, ansible: bool = False) -> None:
    """Add one ``key=value`` to the attributes. Raise a parse error with columns from the start of the value."""
    low = key if key in KEYS else key.lower().replace("-", "_")
    if low.startswith("env."):
        _read_env(reading, key[4:], value)
        return
    meant = ANSIBLE_KEYS.get(low) or KEYS.get(low)
    if meant is None or (ansible and low in _TOO_COMMON_IN_ANSIBLE):
        _keep_unknown(reading, key, value, quiet=ansible or low.startswith("ansible_"))
        return
    if not value:
        raise ParseError(f"{key}= has no value", f"write {key}=… or leave it out")
    _READERS[meant](reading, key, value)


def reconcile_fields(reading: HostAttributes, fields: Fields) -> Fields:
    """Return the complete fields of a host. Raise a parse error if they contradict each other."""
    for name, value in reading.patterns.items():
        raise ParseError(
            f"{name}={value}: a range needs a range of hosts before it", f"write gpu[1-4] {name}=10.0.0.[1-4]"
        )
    gpus, slots = fields.get("gpus"), fields.get("slots")
    if gpus and slots is None:
        fields = {**fields, "slots": len(gpus)}
    elif gpus and slots is not None and slots > len(gpus):
        raise ParseError(f"{slots} processes for {len(gpus)} GPUs (gpus={','.join(gpus)})", "give only one of the two")
    most = dict(fields.get("extra", ())).get("max_slots")
    if most and fields.get("slots") and fields["slots"] > int(most):
        raise ParseError(f"slots={fields['slots']} is more than max_slots={most}", "lower slots or raise max_slots")
    return fields


def parse_count(text: str, key: str) -> int:
    """Parse a number of processes, from 1 to ``MOST_SLOTS``."""
    if text.isascii() and text.isdigit() and 1 <= len(text) <= 9 and 1 <= int(text) <= MOST_SLOTS:
        return int(text)
    fix = f"a whole number from 1 to {MOST_SLOTS}; leave it out for one process per GPU"
    raise ParseError(f"{key}={text}: not a number of processes", fix)


def apply_defaults(fields: Fields, defaults: Fields) -> Fields:
    """Return the host's own fields, completed with defaults."""
    merged = dict(fields)
    for name, value in defaults.items():
        if name in ("env", "extra"):
            own = dict(fields.get(name, ()))
            merged[name] = (*fields.get(name, ()), *((key, item) for key, item in value if key not in own))
        elif name == "tags":
            merged[name] = tuple(dict.fromkeys((*fields.get(name, ()), *value)))
        elif name in ("slots", "gpus"):
            if "slots" not in fields and "gpus" not in fields:
                merged[name] = value
        else:
            merged.setdefault(name, value)
    return merged


def _keep_unknown(reading: HostAttributes, key: str, value: str, *, quiet: bool) -> None:
    if _SECRET.search(key):
        reading.withheld.append(key)
        return
    if any(name == key for name, _ in reading.fields.get("extra", ())):
        raise ParseError(f"{key}= is given twice", "keep one")
    if not quiet:
        reading.unknown.append(key)
    reading.extend_field("extra", ((key, value),))


def _read_env(reading: HostAttributes, name: str, value: str) -> None:
    if not _ENV_NAME.fullmatch(name):
        raise ParseError(f"{name!r} is not the name of an environment variable", "write env.NAME=value")
    if any(known == name for known, _ in reading.fields.get("env", ())):
        raise ParseError(f"env.{name}= is given twice", "keep one")
    reading.extend_field("env", ((name, value),))


def _read_slots(reading: HostAttributes, key: str, value: str) -> None:
    if "," in value or "[" in value:
        reading.set_field("gpus", key, parse_gpu_ids(value, key))
    else:
        reading.set_field("slots", key, parse_count(value, key))


def _read_gpus(reading: HostAttributes, key: str, value: str) -> None:
    if value.isascii() and value.isdigit():
        reading.set_field("slots", key, parse_count(value, key))
        reading.counted_gpus = value
    else:
        reading.set_field("gpus", key, parse_gpu_ids(value, key))


def parse_gpu_ids(text: str, key: str) -> tuple[str, ...]:
    """Parse ``2,3``, ``0-3``, ``[2]`` or GPU-UUIDs into ids for CUDA_VISIBLE_DEVICES, in file order."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    ids: list[str] = []
    for part in inner.split(","):
        ids += expand_ranges(f"[{part.strip()}]") if parse_range(part) is not None else [part.strip()]
    for gpu in ids:
        if not _GPU.fullmatch(gpu):
            raise ParseError(f"{gpu!r} is not a GPU id", f"write {key}=0,1 or {key}=0-7 for ids, {key}=8 for a count")
    if len(set(ids)) != len(ids):
        raise ParseError(f"{key}={text} names a GPU twice", "name each id once")
    return tuple(ids)


def _read_max_slots(reading: HostAttributes, key: str, value: str) -> None:
    if "max_slots" in dict(reading.fields.get("extra", ())):
        raise ParseError(f"{key}= is given twice", "keep one")
    reading.extend_field("extra", (("max_slots", str(parse_count(value, key))),))


def _read_port(reading: HostAttributes, key: str, value: str) -> None:
    reading.set_field("port", key, check_port(value))


def _read_user(reading: HostAttributes, key: str, value: str) -> None:
    if not USER.fullmatch(value):
        raise ParseError(
            f"{value!r} is not a user name", "write a name such as alice, alice@corp.local or 'CORP\\alice'"
        )
    reading.set_field("user", key, value)


def _read_host(name: str) -> Callable[[HostAttributes, str, str], None]:
    def read(reading: HostAttributes, key: str, value: str) -> None:
        if value.startswith("[") and value.endswith("]") and ":" in value:
            value = value[1:-1]
        if "[" in value:
            reading.patterns[name] = value
        else:
            reading.set_field(name, key, check_host(value))

    return read


def _read_iface(reading: HostAttributes, key: str, value: str) -> None:
    if not all(ZONE.fullmatch(part) for part in value.lstrip("^=").split(",")):
        raise ParseError(f"{value!r} is not an interface name", "write iface=eth0")
    reading.set_field("iface", key, value)


def _read_path(name: str) -> Callable[[HostAttributes, str, str], None]:
    def read(reading: HostAttributes, key: str, value: str) -> None:
        if "\n" in value or value.startswith("-") or (name == "python" and not _PROGRAM.fullmatch(value)):
            raise ParseError(f"{value!r} is not a path", f"write {key}=/path")
        reading.set_field(name, key, value)

    return read


def _read_container(reading: HostAttributes, key: str, value: str) -> None:
    if not is_container_name(value):
        raise ParseError(
            f"{value!r} is not the name of a container", "write its name or id, as docker ps or podman ps shows it"
        )
    reading.set_field("container", key, value)


def _read_image(reading: HostAttributes, key: str, value: str) -> None:
    if not (is_image_name(value) or is_image_path(value)):
        raise ParseError(f"{value!r} is not the name of an image", IMAGE_HINT)
    reading.set_field("image", key, value)


def _read_engine(reading: HostAttributes, key: str, value: str) -> None:
    if value not in ENGINES:
        raise ParseError(f"{value!r} is not a container engine", f"write {' or '.join(ENGINES)}, or leave it out")
    reading.set_field("engine", key, value)


def _read_kind(reading: HostAttributes, key: str, value: str) -> None:
    if not HOST.fullmatch(value):
        raise ParseError(f"{value!r} is not the name of a type", "letters, digits, '.', '-' and '_'")
    reading.set_field("kind", key, value)


def _read_spare(reading: HostAttributes, key: str, value: str) -> None:
    if value.lower() not in _TRUE + _FALSE:
        raise ParseError(f"spare={value}: must be yes or no", "write the word spare alone, or leave it out")
    reading.set_field("spare", key, value.lower() in _TRUE)


def _read_tags(reading: HostAttributes, key: str, value: str) -> None:
    names = tuple(dict.fromkeys(value.split(",")))
    for name in names:
        if not TAG.fullmatch(name):
            raise ParseError(f"{name!r} is not a tag", "a letter or '_' first, then letters, digits, '.', '-' and '_'")
    reading.extend_field("tags", tuple(name for name in names if name not in reading.fields.get("tags", ())))


_READERS: dict[str, Callable[[HostAttributes, str, str], None]] = {
    "slots": _read_slots, "gpus": _read_gpus, "max_slots": _read_max_slots, "port": _read_port, "user": _read_user,
    "hostname": _read_host("hostname"), "addr": _read_host("addr"), "iface": _read_iface,
    "python": _read_path("python"), "workdir": _read_path("workdir"), "kind": _read_kind, "spare": _read_spare,
    "tags": _read_tags, "container": _read_container, "image": _read_image, "engine": _read_engine,
}  # fmt: skip


def list_known_keys() -> list[str]:
    """Return all known keys, for suggestions."""
    return [*KEYS, "env.NAME"]
