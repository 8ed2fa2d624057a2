"""OpenAI's embedder over the real SDK, against a mock of the API."""

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
from tests.mocks.llm import MockLlm, free_port

from recollect_server.errors import InvalidArgument, Reason, RecollectError, Unavailable
from recollect_server.memory.tokens import estimate_text
from recollect_server.models.openai import OpenAiEmbedder, _embedder

KEY = "sk-secret-key"


def _failure(text: str, status: int, **more):
    error = {"error": {"message": "SECRET-TEXT", "type": "error"}, "status": status, **more}
    return {"match": {"inputText": text}, "response": error}


FIXTURES = [
    {**_failure("busy once", 500), "match": {"inputText": "busy once", "sequenceIndex": 0}},
    _failure("down", 500),
    _failure("limited", 429),
    _failure("no key", 401),
    _failure("no model", 404),
    _failure("refused", 400),
    {"match": {"inputText": "wrong length"}, "response": {"embedding": [1.0, 0.0]}},
]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockLlm]:
    with MockLlm(tmp_path_factory.mktemp("api"), FIXTURES) as running:
        yield running


@pytest.fixture
async def embedder(api: MockLlm) -> AsyncIterator[OpenAiEmbedder]:
    made = OpenAiEmbedder(KEY, base_url=f"{api.url}/v1")
    yield made
    await made.close()


def _asked(api: MockLlm) -> list[str]:
    return [body["embeddingInput"] for body in api.requests() if "embeddingInput" in body]


async def test_rows_are_of_unit_length_and_in_the_order_of_the_texts(embedder):
    texts = ["a boat", "a car", "a boat", "", " "]
    found = await embedder.embed(texts)
    assert found.shape == (5, 1536)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found[0], found[2])
    alone = await embedder.embed(["a car"])
    np.testing.assert_array_equal(found[1], alone[0])
    assert (await embedder.embed([])).shape == (0, 1536)


async def test_a_text_is_asked_for_once_a_call_and_a_question_once_in_all(api, embedder):
    before = len(_asked(api))
    await embedder.embed(["where is it?", "where is it?"])
    await embedder.embed(["where is it?"])
    assert _asked(api)[before:] == ["where is it?"]


async def test_the_name_tells_the_dimensions_if_they_are_not_the_models_own(api):
    base = f"{api.url}/v1"
    small = OpenAiEmbedder(KEY, dimensions=256, base_url=base)
    assert (small.model, small.dimensions) == ("openai:text-embedding-3-small@256", 256)
    assert (await small.embed(["x"])).shape == (1, 256)
    await small.close()
    assert OpenAiEmbedder(KEY).model == "openai:text-embedding-3-small"
    assert OpenAiEmbedder(KEY, model="text-embedding-3-large").dimensions == 3072
    with pytest.raises(ValueError, match="not known"):
        OpenAiEmbedder(KEY, model="someone-elses")


async def test_many_texts_are_divided_into_requests_the_api_takes(api, embedder, monkeypatch):
    monkeypatch.setattr(_embedder, "REQUEST_TEXTS", 3)
    before = len(_asked(api))
    texts = [f"text {number} of many" for number in range(8)]
    found = await embedder.embed(texts)
    assert len(_asked(api)) - before == 3
    for text, row in zip(texts, found, strict=True):
        np.testing.assert_array_equal((await embedder.embed([text]))[0], row)


def test_a_request_stays_within_the_apis_number_of_tokens():
    texts = [f"{number} " + "the harbour wall " * 2000 for number in range(60)]
    parts = list(_embedder._requests(texts))
    assert [text for part in parts for text in part] == texts
    assert len(parts) > 1
    for part in parts:
        heads = [_embedder._head(text) for text in part]
        assert sum(estimate_text(head) for head in heads) <= _embedder.REQUEST_TOKENS


@pytest.mark.parametrize(
    "text", ["word " * 100_000, "猫" * 30_000, "x" * 200_000, "\U0001f355" * 9000]
)
def test_a_long_text_is_cut_to_what_the_api_takes(text):
    head = _embedder._head(text)
    assert text.startswith(head)
    assert 1000 < estimate_text(head) <= _embedder.TEXT_TOKENS
    assert len(_embedder._certain(text).encode()) <= _embedder.CERTAIN_BYTES


async def test_a_long_text_that_is_refused_is_cut_to_what_certainly_fits(api, embedder):
    before = len(_asked(api))
    # The mock refuses the whole, not its beginning.
    found = await embedder.embed(["harbour " * 1500 + "refused"])
    assert found.shape == (1, 1536)
    whole, shortened = _asked(api)[before:]
    assert whole.startswith(shortened)
    assert len(shortened) == _embedder.CERTAIN_BYTES


async def test_a_failure_that_passes_is_not_seen(embedder):
    assert (await embedder.embed(["busy once"])).shape == (1, 1536)


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("down", Unavailable, Reason.MODEL_UNAVAILABLE),
        ("limited", Unavailable, Reason.MODEL_RATE_LIMITED),
        ("no key", Unavailable, Reason.MODEL_CREDENTIAL),
        ("no model", Unavailable, Reason.MODEL_REJECTED),
        ("wrong length", Unavailable, Reason.MODEL_REJECTED),
        ("refused", InvalidArgument, Reason.MODEL_REJECTED),
    ],
)
async def test_failures_have_reasons_and_none_of_the_apis_text(embedder, text, kind, reason):
    with pytest.raises(RecollectError) as failed:
        await embedder.embed([text])
    assert type(failed.value) is kind
    assert failed.value.reason is reason
    assert "SECRET" not in failed.value.message
    assert KEY not in failed.value.message


async def test_an_api_that_cannot_be_reached_is_an_outage():
    embedder = OpenAiEmbedder(KEY, base_url=f"http://127.0.0.1:{free_port()}/v1")
    with pytest.raises(Unavailable) as failed:
        await embedder.embed(["x"])
    assert failed.value.reason is Reason.MODEL_UNAVAILABLE
    await embedder.close()


async def test_an_api_that_does_not_answer_is_not_waited_for_without_end(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        embedder = OpenAiEmbedder(KEY, base_url=f"http://127.0.0.1:{port}/v1")
        monkeypatch.setattr(embedder, "_seconds", 0.3)
        with pytest.raises(Unavailable) as failed:
            async with asyncio.timeout(30):
                await embedder.embed(["x"])
        assert failed.value.reason is Reason.MODEL_UNAVAILABLE
        await embedder.close()


async def test_the_key_is_never_logged(api, caplog):
    caplog.set_level(logging.DEBUG)
    embedder = OpenAiEmbedder(KEY, base_url=f"{api.url}/v1")
    await embedder.embed(["x"])
    with pytest.raises(Unavailable):
        await embedder.embed(["down"])
    await embedder.close()
    assert caplog.records
    assert KEY not in caplog.text


def test_the_sdk_is_not_imported_before_it_is_needed():
    code = "import sys, recollect_server.app; assert 'openai' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
