"""Facts as a client sees them: kinds, reconciliation, history, and answers that cite them."""

import json

import pytest
from tests.harness import RunningServer, eventually, unique
from tests.mocks.llm import MockLlm
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect import errors
from recollect.v1 import common_pb2, memory_pb2

ADDED = memory_pb2.FACT_ACTION_ADDED
MERGED = memory_pb2.FACT_ACTION_MERGED
SUPERSEDED = memory_pb2.FACT_ACTION_SUPERSEDED
PREFERENCE = memory_pb2.FACT_KIND_PREFERENCE
ISSUE = memory_pb2.FACT_KIND_ISSUE
IGNORED = memory_pb2.FACT_ACTION_IGNORED


@pytest.fixture
def client(server):
    with server.client(unique("ada")) as opened:
        yield opened


def _texts(client, **which) -> list[str]:
    return sorted(fact.text for fact in client.memory.list_facts(**which))


def test_a_repeated_fact_is_stored_once_and_nothing_else_is_touched(client):
    first = client.memory.remember(["I live in Paris", "I live in Berlin"])
    again = client.memory.remember(["i live in paris."])
    assert list(first.actions) == [ADDED, ADDED]
    assert list(again.actions) == [IGNORED]
    assert again.facts[0] == first.facts[0]
    assert _texts(client) == ["I live in Berlin", "I live in Paris"]


def test_reconciled_facts_supersede_and_their_history_is_told(client):
    paris = client.memory.remember(["I live in Paris"]).facts[0]
    done = client.memory.remember(["I live in Berlin", "I like tea"], reconcile=True)
    assert list(done.actions) == [SUPERSEDED, ADDED]
    assert _texts(client) == ["I like tea", "I live in Berlin"]
    first, closed = client.memory.get_fact_history(paris.fact_id)
    assert first == paris
    assert closed.superseded_by == done.facts[0].fact_id
    assert closed.valid_to == done.facts[0].valid_from
    assert closed.recorded_at.ToDatetime() > first.recorded_at.ToDatetime()
    kinds = [common_pb2.MEMORY_KIND_FACT]
    hits = client.memory.recall("where do I live?", kinds=kinds).hits
    assert [hit.fact.text for hit in hits][:1] == ["I live in Berlin"]
    assert "I live in Paris" not in [hit.fact.text for hit in hits]
    merged = client.memory.remember(["I live in Berlin with Eve"], reconcile=True)
    assert list(merged.actions) == [MERGED]
    assert (merged.facts[0].fact_id, merged.facts[0].version) == (done.facts[0].fact_id, 2)


def test_facts_are_listed_recalled_and_shown_by_kind(client):
    client.memory.remember(
        [
            memory_pb2.NewFact(
                text="Prefers pour-over coffee", kind=memory_pb2.FACT_KIND_PREFERENCE
            ),
            memory_pb2.NewFact(
                text="The coffee grinder is broken", kind=memory_pb2.FACT_KIND_ISSUE
            ),
            "Coffee comes on Mondays",
        ]
    )
    assert _texts(client, kinds=[ISSUE]) == ["The coffee grinder is broken"]
    only = memory_pb2.RecallFilter(fact_kinds=[PREFERENCE])
    hits = client.memory.recall("coffee", filter=only).hits
    assert [hit.fact.text for hit in hits] == ["Prefers pour-over coffee"]
    session = client.memory.create_session().session_id
    shown = client.memory.get_context(session, query="coffee").system
    assert ", preference: Prefers pour-over coffee" in shown
    assert ", other" not in shown
    (fact,) = client.memory.list_facts(kinds=[memory_pb2.FACT_KIND_OTHER])
    assert fact.text == "Coffee comes on Mondays"
    changed = client.memory.update_fact(fact.fact_id, kind=memory_pb2.FACT_KIND_ENVIRONMENT)
    assert (changed.kind, changed.version) == (memory_pb2.FACT_KIND_ENVIRONMENT, 2)
    with pytest.raises(errors.InvalidArgument) as caught:
        client.memory.remember([memory_pb2.NewFact(text="x", kind=77)])  # type: ignore[arg-type]  # not of the enum
    assert "facts[0].kind" in str(caught.value)


def test_recall_returns_five_items_unless_told_otherwise(client):
    client.memory.remember([f"Owns kite number {n}" for n in range(9)])
    assert len(client.memory.recall("kite").hits) == 5
    assert len(client.memory.recall("kite", top_k=7).hits) == 7


def _prompt(text: str) -> common_pb2.Prompt:
    message = common_pb2.PromptMessage(
        role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=text)]
    )
    return common_pb2.Prompt(model="m", messages=[message])


def test_answers_that_cite_a_forgotten_or_changed_fact_go(client):
    facts = client.memory.remember(["Likes tea", "Likes figs", "Likes rain"]).facts
    entries = {}
    for fact in facts:
        entries[fact.text] = client.cache.store(
            _prompt(fact.text), "yes", holds_memory=True, cited_fact_ids=[fact.fact_id]
        )
        assert client.cache.lookup(_prompt(fact.text)).hit
    client.memory.forget_fact(facts[0].fact_id)
    client.memory.update_fact(facts[1].fact_id, text="Likes dates")
    for fact in facts[:2]:
        found = client.cache.lookup(_prompt(fact.text))
        assert not found.hit, "at once"
    assert client.cache.lookup(_prompt("Likes rain")).hit

    def gone(text: str) -> bool:
        try:
            client.cache.get_entry(entries[text].entry_id)
        except errors.NotFound:
            return True
        return False

    eventually(lambda: gone("Likes tea") and gone("Likes figs"))
    assert not gone("Likes rain")


def test_an_outage_of_valkey_delays_what_is_forgotten_and_loses_nothing():
    valkey = Valkey()
    valkey.start()
    try:
        with (
            RunningServer(environment={"VALKEY_URL": valkey.url("valkey")}) as server,
            server.client("ada") as client,
        ):
            fact = client.memory.remember(["Likes tea"]).facts[0]
            valkey.kill()
            client.memory.forget_fact(fact.fact_id)
            waiting = eventually(
                lambda: [j for j in client.admin.list_jobs() if j.kind == "forget" and j.last_error]
            )
            assert waiting[0].attempts == 0, "an outage is no attempt"
            valkey.start()
            eventually(lambda: not [j for j in client.admin.list_jobs() if j.kind == "forget"], 60)
    finally:
        valkey.close()


def _answers(**found) -> list[dict]:
    return [
        {"match": {"userMessage": f"<{tag}>"}, "response": {"content": json.dumps(content)}}
        for tag, content in found.items()
    ]


def test_a_small_model_compares_and_rules_do_while_it_is_down(tmp_path):
    decision = {"statement": 1, "action": "supersede", "facts": [1], "text": ""}
    mock = MockLlm(tmp_path, _answers(statements={"decisions": [decision]}))
    mock.start()
    environment = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": mock.url}
    try:
        with RunningServer(environment=environment) as server, server.client("ada") as client:
            client.memory.remember(["Cycles to the office"])
            done = client.memory.remember(["Takes the bus to the office"], reconcile=True)
            assert (list(done.actions), list(done.degradations)) == ([SUPERSEDED], [])
            assert _texts(client) == ["Takes the bus to the office"]
            mock.stop()
            down = client.memory.remember(["Walks to the office"], reconcile=True)
            assert list(down.actions) == [ADDED]
            assert [d.component for d in down.degradations] == [common_pb2.COMPONENT_SMALL_MODEL]
    finally:
        mock.stop()
