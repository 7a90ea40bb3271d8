"""Directory groups: hosts with one directory, whatever each of them sees."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fanout.sync.directory_groups import DirectoryGroup, group_hosts


def test_each_host_without_a_shared_directory_is_a_group() -> None:
    groups = group_hosts({"a": ["a"], "b": ["b"]}, frozenset())
    assert groups == [DirectoryGroup(hosts=("a",)), DirectoryGroup(hosts=("b",))]


def test_two_of_three_hosts_share_a_directory() -> None:
    groups = group_hosts({"a": ["a"], "b": ["b", "c"], "c": ["b", "c"]}, frozenset())
    assert groups == [DirectoryGroup(hosts=("a",)), DirectoryGroup(hosts=("b", "c"))]


def test_one_host_that_sees_the_other_is_enough() -> None:
    assert group_hosts({"a": ["a"], "b": ["a", "b"]}, frozenset()) == [DirectoryGroup(hosts=("a", "b"))]


def test_a_group_with_the_directory_that_is_sent_receives_nothing() -> None:
    groups = group_hosts({"a": ["a", "b"], "b": ["b"], "c": ["c"]}, frozenset({"b"}))
    assert groups == [DirectoryGroup(hosts=("a", "b"), is_source=True), DirectoryGroup(hosts=("c",))]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdefx"))), st.sets(st.sampled_from("abcdef"))
)
def test_each_host_is_in_one_group_with_all_that_it_sees(seen: dict[str, list[str]], own: set[str]) -> None:
    groups = group_hosts(seen, frozenset(own))
    members = [host for group in groups for host in group.hosts]
    assert sorted(members) == sorted(seen)
    group_of = {host: group for group in groups for host in group.hosts}
    for host, others in seen.items():
        assert all(group_of[other] is group_of[host] for other in others if other in seen)
    assert all(group.is_source == bool(own & set(group.hosts)) for group in groups)
