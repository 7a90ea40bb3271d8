"""HCCL rank table (Ascend): list its servers and device counts in rank order. No I/O."""

from __future__ import annotations

from fanout.hostfile.yaml_tree import Items, Leaf, Node, Table


def list_servers(tree: Node | None) -> list[tuple[Leaf, int]]:
    """Return (server_id, number of devices) of each server; [] if the tree is not a rank table."""
    if not isinstance(tree, Table):
        return []
    found: dict[str, tuple[Leaf, int]] = {}
    for table in _list_tables(tree, "server_list"):
        _count_devices(found, table, "device")
    for group in _list_tables(tree, "group_list"):
        for table in _list_tables(group, "instance_list"):
            _count_devices(found, table, "devices")
    return list(found.values())


def _list_tables(table: Table, key: str) -> list[Table]:
    node = table.pairs[key][1] if key in table else None
    return [item for item in node.nodes if isinstance(item, Table)] if isinstance(node, Items) else []


def _count_devices(found: dict[str, tuple[Leaf, int]], table: Table, key: str) -> None:
    server = table.pairs["server_id"][1] if "server_id" in table else None
    if isinstance(server, Leaf) and not server.is_null:
        before = found[server.text][1] if server.text in found else 0
        found[server.text] = (found.get(server.text, (server, 0))[0], before + len(_list_tables(table, key)))
