"""Background work goes on after a defect, and ends with what it is for."""

import asyncio

import pytest

from recollect_server import background


async def test_a_loop_that_fails_is_started_again_and_one_that_returns_is_not(monkeypatch):
    monkeypatch.setattr(background, "RESTART_SECONDS", 0.01)
    failed, returned = 0, 0
    often = asyncio.Event()

    async def fails() -> None:
        nonlocal failed
        failed += 1
        if failed == 3:
            often.set()
        raise RuntimeError("a defect")

    async def returns() -> None:
        nonlocal returned
        returned += 1

    async with asyncio.timeout(30), background.running({"fails": fails, "returns": returns}):
        await often.wait()
    assert returned == 1


@pytest.mark.parametrize("error", [None, RuntimeError("the body's own")])
async def test_loops_end_with_what_they_run_beside(error):
    ended = []

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def run() -> None:
        async with background.running({"lasts": lasts}):
            await asyncio.sleep(0)
            if error is not None:
                raise error

    if error is None:
        await run()
    else:
        with pytest.raises(RuntimeError, match="own"):
            await run()
    assert ended == [True]
