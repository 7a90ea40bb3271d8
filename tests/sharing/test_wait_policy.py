"""Wait policy: which hosts are chosen, when a wait ends, and what the user sees."""

from __future__ import annotations

import random

from fanout.model.host_count import HostCount
from fanout.sharing import wait_policy
from fanout.sharing.availability import Holder, HostAvailability
from fanout.sharing.wait_policy import Look, SettleClock, find_permanent_trouble, format_status, select_hosts

BOB = Holder(user="bob", task="train.py", age=10800.0, gpus=tuple("01234567"), is_claim=True)
FOUR = HostCount(least=4, most=4)
TWO = HostCount(least=2, most=2)


def build_hosts(*busy: str, count: int = 4) -> tuple[HostAvailability, ...]:
    names = [f"gpu{number:02d}" for number in range(1, count + 1)]
    return tuple(HostAvailability(host=name, holders=(BOB,) if name in busy else ()) for name in names)


def test_first_free_hosts_are_chosen_in_file_order() -> None:
    selection = select_hosts(Look(at=0, hosts=build_hosts("gpu01", "gpu03", count=6)), TWO)
    assert selection.hosts == ("gpu02", "gpu04")
    assert [host for host, _ in selection.skipped] == ["gpu01", "gpu03"]


def test_range_takes_as_many_as_are_free() -> None:
    selection = select_hosts(Look(at=0, hosts=build_hosts("gpu01")), HostCount(least=2, most=4))
    assert selection.hosts == ("gpu02", "gpu03", "gpu04")


def test_port_holder_excludes_only_the_first_host() -> None:
    taken = Holder(user="root", task="sglang", port=29500)
    hosts = [HostAvailability(host=name, port_holder=taken) for name in ("a", "b")]
    free = HostAvailability(host="c")
    assert select_hosts(Look(at=0, hosts=(*hosts, free)), TWO).hosts == ("c",)
    assert select_hosts(Look(at=0, hosts=(free, *hosts)), TWO).hosts == ("c", "a")


def test_status_names_hosts_holders_and_time() -> None:
    selection = select_hosts(Look(at=0, hosts=build_hosts("gpu03")), FOUR)
    text = "waiting for gpu03 (GPU 0-7: bob, train.py, 3 h) · 3 of 4 free · 00:12:31"
    assert format_status(selection, FOUR, 751.0) == text


def test_status_of_many_hosts_is_short() -> None:
    busy = [f"gpu{number:02d}" for number in range(1, 33)]
    selection = select_hosts(Look(at=0, hosts=build_hosts(*busy, count=64)), HostCount(least=40, most=40))
    assert "and 29 more · 32 of 40 free" in format_status(selection, HostCount(least=40, most=40), 0.0)


def test_host_settles_after_a_process_without_a_claim() -> None:
    """A user whose process has just ended may start the next one; a run of fanout that ended holds its claims."""
    clock = SettleClock()
    process = Holder(user="bob", task="train.py", gpus=("0",))
    clock.build_look(
        [HostAvailability(host="a", holders=(process,)), HostAvailability(host="b", holders=(BOB,))], 100.0
    )
    free = [HostAvailability(host="a"), HostAvailability(host="b")]
    look = clock.build_look(free, 110.0)
    assert select_hosts(look, TWO).hosts == ("b",)
    assert select_hosts(look, TWO).skipped == (("a", "free for 10 s"),)
    assert select_hosts(clock.build_look(free, 131.0), TWO).hosts == ("a", "b")


def test_wait_ends_if_too_few_hosts_can_become_free() -> None:
    broken = HostAvailability(host="a", trouble="login refused", can_heal=False)
    away = HostAvailability(host="b", trouble="no route to host")
    look = Look(at=0, hosts=(broken, away, HostAvailability(host="c")))
    assert find_permanent_trouble(look, TWO) == ""
    reason = find_permanent_trouble(look, HostCount(least=3, most=3))
    assert reason == "a: login refused: waiting does not change that"


def test_pauses_differ_between_waiting_runs() -> None:
    pauses = [wait_policy.draw_pause(random.Random(seed)) for seed in range(50)]
    assert len(set(pauses)) == 50
    assert 7.0 <= min(pauses) <= max(pauses) <= 13.0
