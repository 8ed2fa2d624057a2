"""Vectors that are there already, or on their way."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from recollect_server.errors import Reason, Unavailable
from recollect_server.models.recent import CHARACTERS, RecentVectors


class Computing:
    """Computes a text's length, when it is let to; knows what it was asked for."""

    def __init__(self, kept: int = 8) -> None:
        self.asked: list[list[str]] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.down = False
        self.recent = RecentVectors(self._compute, 1, kept)

    async def embed(self, *texts: str) -> list[float]:
        vectors = await self.recent.embed(texts)
        return [float(row[0]) for row in vectors]

    async def _compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.asked.append(list(texts))
        await self.may_go_on.wait()
        if self.down:
            raise Unavailable(Reason.MODEL_UNAVAILABLE, "the embedder is down")
        return np.array([[len(text)] for text in texts], np.float32)


async def test_an_expected_text_is_computed_once_however_many_ask_for_it():
    computing = Computing()
    computing.may_go_on.clear()
    computing.recent.expect("four")
    computing.recent.expect("four")
    asked = [asyncio.create_task(computing.embed("four", "longer")) for _ in range(2)]
    await asyncio.sleep(0)
    computing.may_go_on.set()
    assert await asyncio.gather(*asked) == [[4.0, 6.0], [4.0, 6.0]]
    assert computing.asked.count(["four"]) == 1
    assert await computing.embed("four") == [4.0]
    computing.recent.expect("four")
    await asyncio.sleep(0)
    assert computing.asked.count(["four"]) == 1


async def test_who_waits_for_an_expected_text_gets_its_error_and_the_next_tries_again():
    computing = Computing()
    computing.down = True
    computing.recent.expect("four")
    with pytest.raises(Unavailable):
        await computing.embed("four")
    assert computing.asked == [["four"]]
    computing.down = False
    assert await computing.embed("four") == [4.0]


async def test_a_caller_that_goes_leaves_the_text_to_others():
    computing = Computing()
    computing.may_go_on.clear()
    computing.recent.expect("four")
    gone, stays = (asyncio.create_task(computing.embed("four")) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    computing.may_go_on.set()
    assert await stays == [4.0]
    assert gone.cancelled()


@pytest.mark.parametrize(("text", "kept"), [("x" * (CHARACTERS + 1), 8), ("four", 0)])
async def test_what_would_not_be_kept_is_not_expected(text, kept):
    computing = Computing(kept)
    computing.recent.expect(text)
    assert await computing.embed(text) == [len(text)]
    assert computing.asked == [[text]]
