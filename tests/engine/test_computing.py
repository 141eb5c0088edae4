"""What is small is computed at once, what is large beside the loop."""

import threading

import pytest

from antiphon.engine.computing import BYTES_AT_ONCE, ITEMS_AT_ONCE, computed


@pytest.mark.parametrize(
    ("items", "size", "beside"),
    [(ITEMS_AT_ONCE - 1, BYTES_AT_ONCE - 1, False), (ITEMS_AT_ONCE, 0, True), (0, BYTES_AT_ONCE, True)],
)
async def test_only_large_work_leaves_the_loops_thread(items: int, size: int, beside: bool) -> None:
    thread = await computed(threading.get_ident, items=items, size=size)
    assert (thread != threading.get_ident()) is beside


async def test_what_goes_wrong_there_is_raised_here() -> None:
    def work() -> None:
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        await computed(work, items=ITEMS_AT_ONCE)
