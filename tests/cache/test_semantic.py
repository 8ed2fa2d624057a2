"""The semantic tier: what is asked in other words is answered, what differs is not."""

import asyncio
from datetime import timedelta

import pytest
from tests.cache.conftest import OpenCache
from tests.cache.support import HOUR, OTHER_TOPIC, REWORDED, TALK, User, prompt

from recollect_server.answers import Answers
from recollect_server.cache.model import (
    CacheScope,
    CacheTier,
    MissReason,
    Strategy,
)
from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.parts import utc_now
from recollect_server.scope import Scope

SEMANTIC = frozenset({CacheTier.SEMANTIC})
EXACT = frozenset({CacheTier.EXACT})


async def test_the_same_conversation_in_other_words_is_a_hit(ada: User) -> None:
    entry = await ada.store(prompt(*TALK), "330 metres")
    found = await ada.lookup(prompt(*REWORDED), explain=True)
    assert found.entry == entry
    assert found.tier is CacheTier.SEMANTIC
    assert 0.5 < found.probability <= 1.0
    assert found.explanation is not None
    assert found.explanation.entry_id == entry.entry_id
    assert found.explanation.probability == found.probability >= found.explanation.threshold
    assert len(found.explanation.features) > 10


async def test_the_same_question_on_another_topic_is_a_miss_and_says_why(ada: User) -> None:
    entry = await ada.store(prompt(*TALK), "330 metres")
    found = await ada.lookup(prompt(*OTHER_TOPIC))
    assert (found.entry, found.miss_reason) == (None, MissReason.BELOW_THRESHOLD)
    assert found.explanation is not None
    assert found.explanation.entry_id == entry.entry_id
    assert found.explanation.probability < found.explanation.threshold
    assert found.explanation.features == {}


async def test_the_exact_tier_answers_first_and_alone_if_asked_to(ada: User) -> None:
    await ada.store(prompt(*TALK))
    assert (await ada.lookup(prompt(*TALK))).tier is CacheTier.EXACT
    assert (await ada.lookup(prompt(*TALK), tiers=SEMANTIC)).tier is CacheTier.SEMANTIC
    missed = await ada.lookup(prompt(*REWORDED), tiers=EXACT)
    assert (missed.entry, missed.miss_reason) == (None, MissReason.NOT_FOUND)
    assert missed.explanation is None


async def test_a_stricter_limit_never_gives_more(ada: User) -> None:
    await ada.store(prompt(*TALK))
    nothing = await ada.lookup(prompt(*REWORDED), max_false_hit_rate=0.0)
    assert (nothing.entry, nothing.miss_reason) == (None, MissReason.BELOW_THRESHOLD)
    assert (await ada.lookup(prompt(*REWORDED), max_false_hit_rate=0.05)).entry is not None


async def test_a_raw_distance_decides_where_it_is_given(ada: User) -> None:
    entry = await ada.store(prompt(*TALK))
    assert (await ada.lookup(prompt(*REWORDED), max_distance=0.3)).entry == entry
    near = await ada.lookup(prompt(*REWORDED), max_distance=0.001, explain=True)
    assert (near.entry, near.miss_reason) == (None, MissReason.BELOW_THRESHOLD)
    assert near.explanation is not None
    assert 0.001 < near.explanation.features["distance"] < 0.3
    assert (await ada.lookup(prompt(*OTHER_TOPIC), max_distance=2.0)).entry == entry


async def test_the_recipe_is_served_with_its_parameters(ada: User) -> None:
    entry = await ada.store(prompt(*TALK))
    recipe = {"strategy": Strategy.CONTEXT_WINDOW}
    assert (await ada.lookup(prompt(*REWORDED), **recipe)).entry == entry
    assert (await ada.lookup(prompt(*OTHER_TOPIC), **recipe)).entry is None
    # One message of context is the fault that the whole conversation is for.
    last = recipe | {"window_messages": 1}
    assert (await ada.lookup(prompt(*OTHER_TOPIC), **last)).entry == entry
    wide = recipe | {"max_distance": 1.5}
    assert (await ada.lookup(prompt(*OTHER_TOPIC), **wide)).entry == entry


PARAMETERS = ModelParameters(temperature=0.5)
TOOL = Tool("clock", "Tells the time.", "{}")


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"system": "Answer in French."},
        {"tools": (TOOL,)},
        {"parameters": PARAMETERS},
    ],
    ids=["model", "system", "tools", "parameters"],
)
async def test_another_setting_is_another_question(ada: User, change: dict) -> None:
    await ada.store(prompt(*TALK))
    for texts in (TALK, REWORDED):
        found = await ada.lookup(prompt(*texts, **change))
        assert (found.entry, found.miss_reason) == (None, MissReason.NOT_FOUND)


async def test_any_model_gives_answers_of_other_models_and_of_nothing_else(ada: User) -> None:
    entry = await ada.store(prompt(*TALK, model="one"))
    for tiers, texts in ((EXACT, TALK), (SEMANTIC, TALK), (SEMANTIC, REWORDED)):
        other = prompt(*texts, model="two")
        assert (await ada.lookup(other, tiers=tiers)).entry is None
        assert (await ada.lookup(other, tiers=tiers, any_model=True)).entry == entry
    elsewhere = prompt(*TALK, model="two", system="s")
    assert (await ada.lookup(elsewhere, any_model=True)).entry is None


async def test_users_sessions_and_tenants_are_apart_and_global_is_not(
    answers: Answers, tenant: str
) -> None:
    ada, eve, elsewhere = (
        Scope(tenant, "ada"),
        Scope(tenant, "eve"),
        Scope(f"{tenant}x", "ada"),
    )
    for texts in (TALK, REWORDED):
        await User(answers, ada).store(prompt(*TALK), "user")
        await User(answers, ada, "s", CacheScope.SESSION).store(prompt(*TALK), "session")
        asked = prompt(*texts)
        mine = await User(answers, ada, "s", CacheScope.SESSION).lookup(asked)
        assert mine.entry is not None
        assert mine.entry.answer == (TextPart("session"),)
        for who in (
            User(answers, eve),
            User(answers, elsewhere),
            User(answers, ada, "t", CacheScope.SESSION),
            User(answers, eve, "s", CacheScope.SESSION),
            User(answers, ada, "", CacheScope.GLOBAL),
        ):
            assert (await who.lookup(asked)).entry is None
    shared = await User(answers, ada, "", CacheScope.GLOBAL).store(prompt(*TALK), "all")
    found = await User(answers, eve, "", CacheScope.GLOBAL).lookup(prompt(*REWORDED))
    assert found.entry == shared
    foreign = await User(answers, elsewhere, "", CacheScope.GLOBAL).lookup(prompt(*TALK))
    assert foreign.entry is None


def _with_tool(result: str) -> Prompt:
    asked = prompt(*TALK)
    call = PromptMessage(Role.ASSISTANT, (ToolCallPart("c", "search", '{"q": "height"}'),))
    answer = PromptMessage(Role.TOOL, (ToolResultPart("c", result),))
    middle = (*asked.messages[:2], call, answer, *asked.messages[2:])
    return prompt(messages=middle)


async def test_what_tools_said_must_be_the_same(ada: User) -> None:
    entry = await ada.store(_with_tool("330 m"), "330 metres")
    assert (await ada.lookup(_with_tool("330 m"), tiers=SEMANTIC)).entry == entry
    for other in (_with_tool("324 m"), prompt(*TALK)):
        assert (await ada.lookup(other)).miss_reason is MissReason.NOT_FOUND


async def test_a_prompt_that_ends_in_a_tools_result_is_for_the_exact_tier_alone(
    ada: User,
) -> None:
    asked = _with_tool("330 m")
    ends = prompt(messages=asked.messages[:-1])
    entry = await ada.store(ends)
    assert (await ada.lookup(ends)).entry == entry
    assert (await ada.lookup(ends, tiers=SEMANTIC)).miss_reason is MissReason.NOT_FOUND


async def test_an_answer_older_than_a_fact_recalled_now_misses_in_both_tiers(ada: User) -> None:
    await ada.store(prompt(*TALK))
    for texts in (TALK, REWORDED):
        found = await ada.lookup(prompt(*texts), newest_fact=utc_now() + HOUR)
        assert (found.entry, found.miss_reason) == (None, MissReason.NEWER_MEMORY)
        assert (await ada.lookup(prompt(*texts), newest_fact=utc_now() - HOUR)).entry is not None


async def test_an_expired_answer_misses_and_says_so(ada: User) -> None:
    await ada.store(prompt(*TALK), ttl=timedelta(microseconds=1))
    await ada.store(prompt(*OTHER_TOPIC), ttl=timedelta(milliseconds=1))
    asked = [await ada.lookup(prompt(*t)) for t in (OTHER_TOPIC, OTHER_TOPIC)]
    assert asked[-1].miss_reason in (MissReason.EXPIRED, MissReason.NOT_FOUND)
    assert asked[-1].entry is None


class _Counting(MiniLmEmbedder):
    """The real embedder, counting what it is given."""

    def __init__(self) -> None:
        super().__init__(threads=1, cached_texts=0)
        self.texts: list[str] = []
        self.down = False

    async def embed(self, texts):  # type: ignore[no-untyped-def] # as the class above
        if self.down:
            raise Unavailable(Reason.MODEL_UNAVAILABLE, "down")
        self.texts += texts
        return await super().embed(texts)


@pytest.fixture
async def embedder():
    made = _Counting()
    yield made
    await made.close()


async def test_each_message_is_embedded_once(
    open_cache: OpenCache, embedder: _Counting, tenant: str
) -> None:
    ada = User(await open_cache(embedder=embedder), Scope(tenant, "ada"))
    texts: list[str] = []
    for turn in range(4):
        texts.append(f"Question {turn} " + "about many things " * 40)
        await ada.lookup(prompt(*texts))
        await ada.lookup(prompt(*texts), strategy=Strategy.VERIFIER)
        texts.append(f"Answer {turn}")
        await ada.store(prompt(*texts[:-1]), texts[-1])
    at_once = [ada.lookup(prompt(*texts, f"Asked by many {n % 2}")) for n in range(6)]
    await asyncio.gather(*at_once)
    assert sorted(embedder.texts) == sorted(set(embedder.texts))
    assert {*texts} <= {*embedder.texts}


async def test_without_an_embedder_the_exact_tier_goes_on(
    open_cache: OpenCache, embedder: _Counting, tenant: str
) -> None:
    ada = User(await open_cache(embedder=embedder), Scope(tenant, "ada"))
    await ada.store(prompt(*OTHER_TOPIC))
    embedder.down = True
    entry = await ada.store(prompt("Who built it, in one word?"))
    assert (await ada.lookup(prompt("Who built it, in one word?"))).entry == entry
    missed = await ada.lookup(prompt("Who built it?"))
    assert (missed.entry, missed.miss_reason) == (None, MissReason.DEGRADED)
    assert (missed.embedder_down, missed.answers_down) == (True, False)
    embedder.down = False
    assert (await ada.lookup(prompt(*OTHER_TOPIC), tiers=SEMANTIC)).entry is not None
