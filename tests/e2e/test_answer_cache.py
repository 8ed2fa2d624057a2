"""The answer cache as a client sees it: by meaning, judged, removed, counted, and in outages."""

import os
import signal
import statistics
import time
from datetime import UTC, datetime

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from tests.harness import RunningServer, children, eventually, unique
from tests.stores.valkey.setups import start_search
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect import errors
from recollect.v1 import cache_pb2 as pb
from recollect.v1 import common_pb2

TALK = (
    "Tell me about the Eiffel Tower.",
    "The Eiffel Tower is an iron lattice tower in Paris, built from 1887 to 1889.",
    "How tall is it?",
)
REWORDED = (*TALK[:2], "How tall is the tower?")
OTHER_TOPIC = (
    "Tell me about Mount Everest.",
    "Mount Everest is Earth's highest mountain above sea level, in the Himalayas.",
    "How tall is it?",
)


def _prompt(*texts: str, model: str = "m") -> common_pb2.Prompt:
    roles = (common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT)
    return common_pb2.Prompt(
        model=model,
        messages=[
            common_pb2.PromptMessage(role=roles[n % 2], parts=[common_pb2.ContentPart(text=text)])
            for n, text in enumerate(texts)
        ],
    )


@pytest.fixture(scope="module")
def searching():
    """A Valkey with a search module."""
    made = start_search()
    yield made
    made.close()


@pytest.fixture(scope="module", params=["mirror", "search"])
def served(request: pytest.FixtureRequest):
    environment = {}
    if request.param == "search":
        searching: Valkey = request.getfixturevalue("searching")
        environment = {"REDIS_URL": searching.url("redis")}
    with RunningServer(environment=environment) as running:
        assert f"index={request.param}" in running.log
        yield running


@pytest.fixture
def client(served):
    with served.client(unique("ada")) as opened:
        yield opened


@pytest.mark.parametrize("nanos", [0, 1, 999])
def test_an_answer_of_no_time_to_live_is_not_kept(served, nanos):
    user_id, asked = unique("ada"), _prompt("What is the time?")
    with served.client(user_id) as client:
        entry = client.cache.store(asked, "noon")
        request = pb.StoreRequest(
            user_id=user_id, prompt=asked, answer=entry.answer, ttl=Duration(nanos=nanos)
        )
        code, *_ = served.raw("recollect.v1.CacheService/Store", request.SerializeToString())
        assert code is grpc.StatusCode.OK
        assert not client.cache.lookup(asked).hit


def test_what_asks_the_same_is_answered_and_what_does_not_is_explained(client):
    entry = client.cache.store(_prompt(*TALK), "330 metres")
    found = client.cache.lookup(_prompt(*REWORDED), explain=True)
    assert (found.hit, found.tier, found.entry) == (True, pb.CACHE_TIER_SEMANTIC, entry)
    seen = found.explanation
    assert seen.nearest_entry_id == entry.entry_id
    assert found.probability == seen.probability >= seen.threshold
    assert len({feature.name for feature in seen.features}) > 10
    missed = client.cache.lookup(_prompt(*OTHER_TOPIC), explain=True)
    assert (missed.hit, missed.miss_reason) == (False, pb.MISS_REASON_BELOW_THRESHOLD)
    assert missed.explanation.probability < missed.explanation.threshold
    assert not client.cache.lookup(_prompt(*REWORDED)).HasField("explanation")


def test_the_options_of_a_lookup_do_what_they_say(client):
    client.cache.store(_prompt(*TALK), "330 metres")
    recipe = {"strategy": pb.SEMANTIC_STRATEGY_CONTEXT_WINDOW}
    other = _prompt(*OTHER_TOPIC)
    assert not client.cache.lookup(other, **recipe).hit
    last = pb.ContextWindowParameters(messages=1)
    assert client.cache.lookup(other, **recipe, context_window=last).hit
    assert client.cache.lookup(other, **recipe, max_distance=2.0).hit
    assert client.cache.lookup(other, max_distance=2.0).hit
    assert not client.cache.lookup(_prompt(*TALK), max_distance=2.0, tiers=[1]).degradations
    with pytest.raises(errors.InvalidArgument) as caught:
        client.cache.lookup(other, **recipe, max_false_hit_rate=0.01)
    assert "max_distance" in str(caught.value)
    assert client.cache.lookup(_prompt(*TALK, model="n"), any_model=True).hit
    requests = [pb.LookupRequest(prompt=_prompt(*texts)) for texts in (REWORDED, OTHER_TOPIC)]
    assert [r.hit for r in client.cache.batch_lookup(requests)] == [True, False]


def test_an_answer_made_of_what_a_fact_said_before_is_not_served(client):
    fact = client.memory.remember(["Lives in Lisbon"]).facts[0].fact_id
    cited = {"cited_fact_ids": [fact]}
    client.cache.store(_prompt("Where?"), "Lisbon", **cited)
    read = datetime.now(UTC)
    client.memory.update_fact(fact, text="Lives in Porto")
    # What was stored before falls in the background, together with what is stored meanwhile.
    gone = pb.MISS_REASON_NOT_FOUND
    eventually(lambda: client.cache.lookup(_prompt("Where?")).miss_reason == gone)
    client.cache.store(_prompt("Where do I live?"), "Lisbon", **cited, context_time=read)
    found = client.cache.lookup(_prompt("Where do I live?"))
    assert (found.hit, found.miss_reason) == (False, pb.MISS_REASON_NEWER_MEMORY)
    read = datetime.now(UTC)
    client.cache.store(_prompt("Where do I live?"), "Porto", **cited, context_time=read)
    assert client.cache.lookup(_prompt("Where do I live?")).hit
    with pytest.raises(errors.InvalidArgument):
        client.cache.store(_prompt("q"), "a", context_time=datetime(1969, 1, 1, tzinfo=UTC))


def test_the_answers_of_a_session_fall_when_it_is_deleted(client):
    scope = {"scope": pb.CACHE_SCOPE_SESSION, "session_id": "s"}
    client.memory.create_session(session_id="s")
    client.cache.store(_prompt(*TALK), "330 metres", **scope)
    assert client.cache.lookup(_prompt(*TALK), **scope).hit
    client.memory.delete_session("s")
    eventually(lambda: not client.cache.lookup(_prompt(*TALK), **scope).hit)


def test_a_reported_answer_stays_reported_and_is_counted(client):
    entry = client.cache.store(_prompt(*TALK), "12 metres", usage=common_pb2.Usage(input_tokens=7))
    assert client.cache.lookup(_prompt(*REWORDED)).hit
    client.cache.report_feedback(entry.entry_id, _prompt(*REWORDED), pb.VERDICT_WRONG)
    client.cache.store(_prompt(*TALK), "12 metres")
    assert not client.cache.lookup(_prompt(*REWORDED)).hit
    stats = client.cache.get_stats()
    assert (stats.lookups, stats.semantic_hits, stats.saved_usage.input_tokens) == (2, 1, 7)
    assert [(m.reason, m.count) for m in stats.misses] == [(pb.MISS_REASON_BELOW_THRESHOLD, 1)]
    assert (stats.reported_wrong, stats.observed_false_hit_rate) == (1, 1.0)
    assert stats.entries == 1
    assert stats.median_lookup.ToMicroseconds() > 0
    with pytest.raises(errors.NotFound) as caught:
        client.cache.report_feedback("none", _prompt("x"), pb.VERDICT_RIGHT)
    assert caught.value.reason == "CACHE_ENTRY_NOT_FOUND"


def test_answers_are_listed_in_pages_and_removed(client):
    for number in range(5):
        client.cache.store(_prompt(f"question {number}"), "a", tags=["odd"] * (number % 2))
    listed = [entry.question for entry in client.cache.list_entries(page_size=2)]
    assert listed == [f"question {number}" for number in (4, 3, 2, 1, 0)]
    assert client.cache.invalidate(tag="odd", dry_run=True) == 2
    assert client.cache.invalidate(tag="odd") == 2
    similar = pb.SimilaritySelector(prompt=_prompt("question 4"), min_similarity=0.99)
    assert client.cache.invalidate(similar=similar) == 1
    everything = pb.CacheScopeSelector(scope=pb.CACHE_SCOPE_USER)
    assert client.cache.invalidate(scope=everything) == 2
    assert not [*client.cache.list_entries()]
    with pytest.raises(errors.FailedPrecondition):
        client.cache.invalidate(scope=pb.CacheScopeSelector(scope=pb.CACHE_SCOPE_GLOBAL))


def test_a_restart_forgets_neither_counts_nor_what_was_wrong(tmp_path):
    flags = ("--data-dir", str(tmp_path))
    prompt = _prompt("How tall is the Eiffel Tower?")
    with RunningServer(*flags) as server, server.client("ada") as client:
        entry = client.cache.store(prompt, "12 metres")
        assert client.cache.lookup(prompt).hit
        client.cache.report_feedback(entry.entry_id, prompt, pb.VERDICT_WRONG)
        server.stop()
    with RunningServer(*flags) as server, server.client("ada") as client:
        assert client.cache.get_stats().exact_hits == 1
        client.cache.store(prompt, "12 metres")
        assert not client.cache.lookup(prompt).hit
        client.cache.store(prompt, "330 metres")
        assert client.cache.lookup(prompt).hit
        assert client.cache.get_stats().exact_hits == 2


def test_a_frozen_valkey_costs_lookups_little_and_none_when_it_is_back():
    with (
        RunningServer(environment={"RECOLLECT_CACHE_TIMEOUT": "0.04"}) as server,
        server.client("ada") as client,
    ):
        prompt = _prompt("How tall is the Eiffel Tower?")
        eventually(lambda: _stored(client, prompt))
        eventually(lambda: client.cache.lookup(prompt).hit)
        (valkey,) = children(server.pid)
        os.kill(valkey, signal.SIGSTOP)
        times = []
        for _ in range(40):
            started = time.perf_counter()
            missed = client.cache.lookup(prompt)
            times.append(time.perf_counter() - started)
            assert missed.miss_reason == pb.MISS_REASON_DEGRADED
            (down,) = missed.degradations
            assert down.component == common_pb2.COMPONENT_ANSWER_CACHE
        # Less than the patience for all but the first: what is known to be down is not waited for.
        assert statistics.median(times) < 0.04
        os.kill(valkey, signal.SIGCONT)
        eventually(lambda: client.cache.lookup(prompt).hit)


def test_a_dead_valkey_is_a_miss_and_works_again_when_it_is_back():
    valkey = Valkey()
    valkey.start()
    try:
        with (
            RunningServer(environment={"VALKEY_URL": valkey.url("valkey")}) as server,
            server.client("ada") as client,
        ):
            client.cache.store(_prompt(*TALK), "a")
            valkey.kill()
            missed = client.cache.lookup(_prompt(*TALK))
            assert (missed.hit, missed.miss_reason) == (False, pb.MISS_REASON_DEGRADED)
            with pytest.raises(errors.Unavailable):
                client.cache.store(_prompt(*TALK), "a")
            valkey.start()
            eventually(lambda: _stored(client, _prompt(*TALK)))
            assert client.cache.lookup(_prompt(*REWORDED)).hit
    finally:
        valkey.close()


def test_a_server_starts_without_valkey_and_finds_by_meaning_when_it_is_there():
    valkey = Valkey()
    try:
        with (
            RunningServer(environment={"VALKEY_URL": valkey.url("valkey")}) as server,
            server.client("ada") as client,
        ):
            assert client.cache.lookup(_prompt(*TALK)).miss_reason == pb.MISS_REASON_DEGRADED
            valkey.start()
            eventually(lambda: _stored(client, _prompt(*TALK)))
            assert client.cache.lookup(_prompt(*REWORDED)).hit
    finally:
        valkey.close()


def _stored(client, prompt: common_pb2.Prompt) -> bool:
    try:
        return bool(client.cache.store(prompt, "a").entry_id)
    except errors.Unavailable:
        return False
