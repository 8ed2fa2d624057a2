"""The bundled embedder against its records, against sentence-transformers and under load."""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from recollect_server.errors import Reason, Unavailable
from recollect_server.models import minilm
from recollect_server.models.local import _worker
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.models.minilm._encoder import MAX_TOKENS, Encoder, usable_cores

BUNDLE = Path(minilm.__file__).parent
HERE = Path(__file__).parent
TEXTS: list[str] = json.loads((HERE / "minilm_texts.json").read_text(encoding="utf-8"))
LONG = " ".join(f"the {number}th wave reached the harbour wall" for number in range(60))

# A text alone and the same text in a batch differ by the order of float32 sums.
BATCH_TOLERANCE = 1e-6


@pytest_asyncio.fixture
async def embedder() -> AsyncIterator[MiniLmEmbedder]:
    embedder = MiniLmEmbedder()
    yield embedder
    await embedder.close()


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(BUNDLE, threads=0)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The token counts of every batch that is computed from now on."""
    seen: list[list[int]] = []
    compute = Encoder.vectors

    def record(self: Encoder, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        seen.append([len(ids) for ids in tokens])
        return compute(self, tokens)

    monkeypatch.setattr(Encoder, "vectors", record)
    return seen


def distances(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float64]:
    """1 - cosine, row by row."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    result: NDArray[np.float64] = 1 - (a * b).sum(axis=1) / norms
    return result


def test_recorded_digests_match_the_files() -> None:
    digests = json.loads((BUNDLE / "digests.json").read_text(encoding="utf-8"))
    for name in ("model.onnx", "tokenizer.json"):
        found = hashlib.sha256((BUNDLE / name).read_bytes()).hexdigest()
        assert digests[name] == f"sha256:{found}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"model\.onnx is missing"):
        Encoder(tmp_path, threads=1)


def test_usable_cores_is_positive() -> None:
    assert usable_cores() >= 1


@pytest.mark.asyncio
async def test_vectors_equal_those_of_sentence_transformers(embedder: MiniLmEmbedder) -> None:
    reference = np.load(HERE / "minilm_reference.npz")["vectors"]
    found = await embedder.embed(TEXTS)
    assert found.shape == reference.shape == (200, 384)
    # Measured: at most 8e-7. A wrong mask, truncation or gelu costs more than 1e-5.
    assert distances(found, reference).max() < 1e-5


@pytest.mark.asyncio
async def test_rows_are_float32_of_unit_length(embedder: MiniLmEmbedder) -> None:
    found = await embedder.embed(["", "one", "two words", LONG])
    assert found.dtype == np.float32
    assert found.shape == (4, embedder.dimensions)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.asyncio
async def test_no_texts_give_no_rows(embedder: MiniLmEmbedder) -> None:
    assert (await embedder.embed([])).shape == (0, 384)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "\u200b",
        "\x00",
        "猫が好きです",
        "👩‍👩‍👧‍👦🍕",
        "e\u0301",
        "[CLS] [SEP]",
        "a" * 5000,
    ],
)
async def test_any_text_has_a_vector(embedder: MiniLmEmbedder, text: str) -> None:
    found = await embedder.embed([text])
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.asyncio
async def test_meaning_decides_which_text_is_nearest(embedder: MiniLmEmbedder) -> None:
    query, right, wrong = await embedder.embed(
        ["Where do I live?", "My home is in Lisbon.", "The invoice was paid twice."]
    )
    assert query @ right > query @ wrong + 0.2


@pytest.mark.asyncio
async def test_rows_keep_the_order_of_the_texts(embedder: MiniLmEmbedder) -> None:
    texts = [LONG, "short", "a text of middle length about boats", "", "another"]
    forward = await embedder.embed(texts)
    backward = await embedder.embed(texts[::-1])
    assert distances(forward, backward[::-1]).max() < BATCH_TOLERANCE
    for row, text in enumerate(texts):
        alone = await embedder.embed([text])
        assert distances(alone, forward[row : row + 1]).max() < BATCH_TOLERANCE


@pytest.mark.asyncio
async def test_equal_texts_of_a_call_are_computed_once(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    found = await embedder.embed([LONG, "b", LONG, "b", LONG])
    assert sum(len(batch) for batch in batches) == 2
    np.testing.assert_array_equal(found[[0, 0, 1]], found[[2, 4, 3]])


@pytest.mark.asyncio
async def test_a_recent_short_text_is_not_computed_again(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    first = await embedder.embed(["what is my name?"])
    expected = first.copy()
    first[:] = 0
    np.testing.assert_array_equal(await embedder.embed(["what is my name?"]), expected)
    assert len(batches) == 1


@pytest.mark.asyncio
async def test_a_long_text_is_not_cached(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    await embedder.embed([LONG])
    await embedder.embed([LONG])
    assert len(batches) == 2


@pytest.mark.asyncio
async def test_the_cache_drops_the_least_recently_used_text(batches: list[list[int]]) -> None:
    embedder = MiniLmEmbedder(cached_texts=2)
    for text in ("one", "two", "one", "three"):
        await embedder.embed([text])
    assert len(batches) == 3
    await embedder.embed(["one"])
    assert len(batches) == 3
    await embedder.embed(["two"])
    assert len(batches) == 4
    await embedder.close()


def test_a_text_is_cut_at_256_tokens(encoder: Encoder) -> None:
    (tokens,) = encoder.tokenise(["word " * 1000])
    assert len(tokens) == MAX_TOKENS
    assert (tokens[0], tokens[-1]) == (101, 102)


@pytest.mark.parametrize(
    "text",
    [
        "harbour lights " * 4000,
        "x" * 9000 + " tail",
        "a " + "b" * 20_000 + " c d",
        " " * 20_000 + "late words",
        "城市" * 8000,
        "wörd [SEP] " * 2000,
    ],
    ids=["spaces", "one long word first", "one long word later", "blank", "chinese", "special"],
)
def test_a_huge_text_has_the_tokens_it_has_uncut(
    encoder: Encoder, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = encoder.tokenise([text])
    monkeypatch.setattr(minilm._encoder, "_HEAD_CHARACTERS", len(text))
    assert found == encoder.tokenise([text])


@pytest.mark.asyncio
async def test_a_hundred_concurrent_calls_get_their_own_vectors(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    texts = [f"number {number} " + "and more " * (number % 20) for number in range(100)]
    together = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    assert len(batches) < len(texts)
    other = MiniLmEmbedder()
    for text, found in zip(texts, together, strict=True):
        assert distances(found, await other.embed([text])).max() < BATCH_TOLERANCE
    await other.close()


@pytest.mark.asyncio
async def test_batches_stay_within_their_bounds(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    await asyncio.gather(embedder.embed(TEXTS), embedder.embed([f"note {n}" for n in range(300)]))
    assert max(len(batch) for batch in batches) == _worker._BATCH_TEXTS
    assert max(max(batch) * len(batch) for batch in batches) <= _worker._BATCH_TOKENS


@pytest.mark.asyncio
async def test_a_query_overtakes_a_long_job(embedder: MiniLmEmbedder) -> None:
    job = asyncio.create_task(embedder.embed([f"{LONG} {number}" for number in range(64)]))
    await asyncio.sleep(0)
    await embedder.embed(["a short query"])
    assert not job.done()
    assert (await job).shape == (64, 384)


@pytest.mark.asyncio
async def test_a_long_job_is_not_starved_by_queries(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    job = asyncio.create_task(embedder.embed([f"{LONG} {number}" for number in range(4)]))
    queries = 0
    while not job.done():
        queries += 1
        assert queries < 1000
        await embedder.embed([f"query {queries}"])
    assert (await job).shape == (4, 384)


@pytest.mark.asyncio
async def test_cancelling_one_call_leaves_the_others_of_its_batch(
    embedder: MiniLmEmbedder,
) -> None:
    busy = asyncio.create_task(embedder.embed([LONG]))
    calls = [asyncio.create_task(embedder.embed([f"text {number}"])) for number in range(10)]
    await asyncio.sleep(0)
    calls[3].cancel()
    results = await asyncio.gather(busy, *calls, return_exceptions=True)
    assert isinstance(results[4], asyncio.CancelledError)
    assert all(isinstance(result, np.ndarray) for result in results[:4] + results[5:])


@pytest.mark.asyncio
async def test_a_cancelled_job_is_not_computed_to_its_end(
    embedder: MiniLmEmbedder, batches: list[list[int]]
) -> None:
    job = asyncio.create_task(embedder.embed([f"{LONG} {number}" for number in range(100)]))
    await asyncio.sleep(0)
    await embedder.embed(["behind the first batch"])
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    await embedder.embed(["after"])
    assert sum(len(batch) for batch in batches) < 50


@pytest.mark.asyncio
async def test_a_failed_inference_fails_its_callers_only(
    embedder: MiniLmEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Encoder, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "vectors", fail)
        with pytest.raises(MemoryError):
            await embedder.embed(["unlucky"])
    assert (await embedder.embed(["unlucky"])).shape == (1, 384)


@pytest.mark.asyncio
async def test_a_text_the_tokeniser_refuses_fails_its_caller_only(
    embedder: MiniLmEmbedder,
) -> None:
    bad, good = await asyncio.gather(
        embedder.embed(["lone surrogate \ud800"]), embedder.embed(["fine"]), return_exceptions=True
    )
    assert isinstance(bad, Exception)
    assert isinstance(good, np.ndarray)


@pytest.mark.asyncio
async def test_the_event_loop_runs_while_a_big_batch_is_embedded(
    embedder: MiniLmEmbedder,
) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticker = asyncio.create_task(tick())
    await embedder.embed([f"{LONG} {number}" for number in range(32)])
    ticker.cancel()
    assert ticks > 20


@pytest.mark.asyncio
async def test_close_finishes_what_waits_and_refuses_what_follows() -> None:
    embedder = MiniLmEmbedder(threads=1)
    waiting = asyncio.create_task(embedder.embed([LONG, "and a short one"]))
    await asyncio.sleep(0)
    await embedder.close()
    assert (await waiting).shape == (2, 384)
    with pytest.raises(Unavailable) as refused:
        await embedder.embed(["too late"])
    assert refused.value.reason is Reason.SHUTTING_DOWN
    await embedder.close()


def test_onnxruntime_leaves_no_id_of_the_machine_and_reports_to_nobody(tmp_path):
    """What it would send first lies in the home folder."""
    program = (
        "from pathlib import Path; import sys; "
        "from recollect_server.models.minilm._encoder import Encoder; "
        "encoder = Encoder(Path(sys.argv[1]), 1); encoder.vectors(encoder.tokenise(['a text']))"
    )
    outside = ("XDG_", "ORT_")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(outside)}
    subprocess.run(
        [sys.executable, "-c", program, str(BUNDLE)],
        env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60,
    )  # fmt: skip
    assert list(tmp_path.rglob("*")) == []
