"""Ids: unlike one another, and sorted by the time they were made."""

import re

from antiphon.clock import POOL_BYTES, SystemClock


def test_ids_are_unique_over_many_pools_of_chance() -> None:
    clock = SystemClock()

    ids = [clock.new_id("msg_") for _ in range(POOL_BYTES)]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"msg_[0-9A-Za-z]{28}", name) for name in ids)


def test_the_head_of_an_id_is_time() -> None:
    clock = SystemClock()

    heads = [clock.new_id("resp_")[: len("resp_") + 8] for _ in range(1000)]

    assert heads == sorted(heads)
