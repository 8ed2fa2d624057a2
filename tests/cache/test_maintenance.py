"""Looking at, removing, judging and counting answers."""

import asyncio

import pytest
from tests.cache.conftest import OpenCache
from tests.cache.support import OTHER_TOPIC, REWORDED, TALK, USAGE, User, prompt

from recollect_server.answers import Answers
from recollect_server.cache.maintenance import Doomed
from recollect_server.cache.model import (
    CacheScope,
    CacheTier,
    MissReason,
    Verdict,
)
from recollect_server.errors import InvalidArgument, NotFound, PermissionDenied
from recollect_server.memory.model import TextPart, ThinkingPart
from recollect_server.scope import Scope

SEMANTIC = frozenset({CacheTier.SEMANTIC})


async def _count(user: User, doomed: Doomed, *, everyones: bool = False) -> int:
    """Return how many go, after a dry run that takes none."""
    ask = user.maintenance.invalidate
    dry = await ask(user.scope, doomed, dry_run=True, everyones=everyones)
    assert await ask(user.scope, doomed, dry_run=False, everyones=everyones) == dry
    assert await ask(user.scope, doomed, dry_run=False, everyones=everyones) == 0
    return dry


async def test_answers_are_removed_by_what_they_are(
    answers: Answers, ada: User, tenant: str
) -> None:
    in_session = User(answers, ada.scope, "s", CacheScope.SESSION)
    eve = User(answers, Scope(tenant, "eve"))
    kept = await eve.store(prompt("q"), tags=("t",), cited_fact_ids=("f",))
    one = await ada.store(prompt("one"))
    await ada.store(prompt("two"), tags=("t", "u"))
    await ada.store(prompt("three"), cited_fact_ids=("f", "g"))
    await in_session.store(prompt("four"), tags=("t",))
    await in_session.store(prompt("five"))
    assert await _count(eve, Doomed(entry_id=one.entry_id)) == 0
    assert await _count(ada, Doomed(entry_id=one.entry_id)) == 1
    assert await _count(ada, Doomed(tag="t")) == 2
    assert await _count(ada, Doomed(fact_id="g")) == 1
    assert await _count(ada, Doomed(scope=CacheScope.SESSION, session_id="r")) == 0
    assert await _count(ada, Doomed(scope=CacheScope.SESSION, session_id="s")) == 1
    for texts in ("one", "two", "three"):
        assert (await ada.lookup(prompt(texts))).entry is None
    assert await eve.cache.get_entry(eve.scope, kept.entry_id) == kept


async def test_answers_to_similar_conversations_are_removed(ada: User) -> None:
    await ada.store(prompt(*TALK))
    await ada.store(prompt(*TALK, model="n", system="s"))
    other = await ada.store(prompt("What do penguins eat?"))
    with pytest.raises(InvalidArgument, match=r"similar\.prompt\.messages"):
        await _count(ada, Doomed(similar=prompt(messages=prompt(*TALK).messages[:2])))
    assert await _count(ada, Doomed(similar=prompt(*REWORDED), min_similarity=1.0)) == 0
    assert await _count(ada, Doomed(similar=prompt(*REWORDED), min_similarity=0.8)) == 2
    assert (await ada.lookup(prompt("What do penguins eat?"))).entry == other


async def test_only_a_service_removes_everyones_answers(ada: User, everyone: User) -> None:
    entry = await everyone.store(prompt("q"), tags=("t",))
    for doomed in (Doomed(tag="t"), Doomed(entry_id=entry.entry_id)):
        assert await _count(ada, doomed) == 0
    with pytest.raises(PermissionDenied):
        await _count(ada, Doomed(scope=CacheScope.GLOBAL))
    assert (await everyone.lookup(prompt("q"))).entry == entry
    assert await _count(ada, Doomed(tag="t"), everyones=True) == 1
    await everyone.store(prompt("q"))
    assert await _count(ada, Doomed(scope=CacheScope.GLOBAL), everyones=True) == 1


async def test_answers_fall_with_the_facts_they_cite(
    ada: User, everyone: User, answers: Answers
) -> None:
    in_session = User(answers, ada.scope, "s", CacheScope.SESSION)
    await ada.store(prompt("one"), cited_fact_ids=("f", "g"))
    await in_session.store(prompt("one"), cited_fact_ids=("g",))
    await everyone.store(prompt("one"), cited_fact_ids=("f",))
    kept = await ada.store(prompt("two"), cited_fact_ids=("h",))
    await ada.cache.forget_facts(ada.scope, ["f", "g", "f"])
    for user in (ada, in_session, everyone):
        assert (await user.lookup(prompt("one"))).entry is None
    assert await ada.cache.get_entry(ada.scope, kept.entry_id) == kept


async def test_the_answers_of_a_session_fall_with_it(ada: User, answers: Answers) -> None:
    gone, kept = (User(answers, ada.scope, name, CacheScope.SESSION) for name in ("s", "s2"))
    bea = User(answers, Scope(ada.scope.tenant, "bea"), "s", CacheScope.SESSION)
    for user in (ada, gone, kept, bea):
        await user.store(prompt("one"))
    await ada.cache.forget_session(ada.scope, "s")
    assert (await gone.lookup(prompt("one"))).entry is None
    for user in (ada, kept, bea):
        assert (await user.lookup(prompt("one"))).entry is not None


async def test_entries_are_listed_page_by_page(ada: User, everyone: User) -> None:
    for user in (ada, everyone):
        stored = [await user.store(prompt(f"q{n}")) for n in range(7)]
        listed = []
        after = None
        while True:
            page, after = await user.maintenance.list_entries(
                user.scope, user.cache_scope, "", limit=3, after=after
            )
            listed += page
            if after is None:
                break
        assert listed == stored[::-1]


async def test_a_wrong_answer_is_not_served_to_its_question_again(ada: User) -> None:
    asked = prompt(*TALK)
    entry = await ada.store(asked, "12 metres")
    await ada.maintenance.report(ada.scope, entry.entry_id, asked, Verdict.WRONG)
    assert (await ada.lookup(asked)).entry is None
    assert (await ada.lookup(prompt(*REWORDED))).entry is None
    again = await ada.store(asked, "12 metres")
    assert again.entry_id == entry.entry_id
    assert (await ada.lookup(asked)).entry is None
    right = await ada.store(asked, "330 metres")
    assert (await ada.lookup(asked)).entry == right


async def test_a_wrong_hit_is_forgotten_by_no_restart_and_no_new_copy(
    open_cache: OpenCache, tenant: str
) -> None:
    scope = Scope(tenant, "ada")
    ada = User(await open_cache(), scope)
    asked, reworded = prompt(*TALK), prompt(*REWORDED)
    entry = await ada.store(asked, "yes")
    assert (await ada.lookup(reworded)).entry == entry
    await ada.maintenance.report(scope, entry.entry_id, reworded, Verdict.WRONG)
    later = User(await open_cache(), scope)
    for user in (ada, later):
        again = await user.store(asked, "yes")
        # The entry answers its own question as before.
        assert (await user.lookup(asked)).entry == again
        for tiers in (frozenset(CacheTier), SEMANTIC):
            found = await user.lookup(reworded, tiers=tiers)
            assert (found.entry, found.miss_reason) == (None, MissReason.BELOW_THRESHOLD)
        # Nor does what is nearer to the wrong one than to the entry's own get it.
        assert (await user.lookup(prompt(*REWORDED[:2], "How tall is the tower"))).entry is None
    better = await later.store(asked, "330 metres")
    assert (await later.lookup(reworded)).entry == better


async def test_a_wrong_answer_of_another_model_is_not_served_in_its_place(ada: User) -> None:
    one, two = prompt(*TALK, model="one"), prompt(*TALK, model="two")
    entry = await ada.store(one, "12 metres")
    same = await ada.store(two, "12 metres")
    await ada.maintenance.report(ada.scope, entry.entry_id, one, Verdict.WRONG)
    for tiers in (frozenset(CacheTier), frozenset({CacheTier.EXACT}), SEMANTIC):
        assert (await ada.lookup(one, tiers=tiers, any_model=True)).entry is None
    right = await ada.store(prompt(*TALK, model="three"), "330 metres")
    assert same != right
    assert (await ada.lookup(one, any_model=True)).entry == right


async def test_a_wrong_answer_is_the_same_with_other_reasoning(ada: User) -> None:
    asked = prompt(*TALK)
    first, again = (
        (ThinkingPart(reasoning, reasoning), TextPart("12 metres")) for reasoning in ("hm", "well")
    )
    entry = await ada.store(asked, first)
    await ada.maintenance.report(ada.scope, entry.entry_id, asked, Verdict.WRONG)
    await ada.store(asked, again)
    assert (await ada.lookup(asked)).entry is None


async def test_after_a_wrong_answer_the_next_surest_is_served(ada: User) -> None:
    wrong = await ada.store(prompt(*TALK), "12 metres")
    await ada.maintenance.report(ada.scope, wrong.entry_id, prompt(*REWORDED), Verdict.WRONG)
    right = await ada.store(prompt(*TALK, model="two"), "330 metres")
    for texts in (REWORDED, (*REWORDED[:2], "How tall is the tower")):
        found = await ada.lookup(prompt(*texts), any_model=True, explain=True)
        assert (found.entry, found.explanation.entry_id) == (right, right.entry_id)


async def test_feedback_on_what_is_not_there_or_anothers_is_refused(
    answers: Answers, ada: User, tenant: str
) -> None:
    entry = await ada.store(prompt("q"))
    report = ada.maintenance.report
    with pytest.raises(NotFound):
        await report(ada.scope, "0" * 64, prompt("q"), Verdict.WRONG)
    with pytest.raises(NotFound):
        await report(Scope(tenant, "eve"), entry.entry_id, prompt("q"), Verdict.WRONG)
    assert (await ada.lookup(prompt("q"))).entry == entry


async def test_counts_are_shared_and_kept(open_cache: OpenCache, tenant: str) -> None:
    scope = Scope(tenant, "ada")
    one, other = User(await open_cache(), scope), User(await open_cache(), scope)
    entry = await one.store(prompt(*TALK))
    await one.lookup(prompt(*TALK))
    await other.lookup(prompt(*TALK))
    await other.lookup(prompt(*REWORDED))
    await other.lookup(prompt(*OTHER_TOPIC))
    await other.lookup(prompt(*TALK, model="n"))
    await one.maintenance.report(scope, entry.entry_id, prompt(*REWORDED), Verdict.WRONG)
    for question in ("a", "b", "c"):
        await one.maintenance.report(scope, entry.entry_id, prompt(question), Verdict.RIGHT)
    await one.stats()
    await other.stats()
    restarted = User(await open_cache(), scope)
    stats = await restarted.stats()
    assert (stats.lookups, stats.exact_hits, stats.semantic_hits) == (5, 2, 1)
    assert stats.misses == {MissReason.BELOW_THRESHOLD: 1, MissReason.NOT_FOUND: 1}
    assert stats.saved_usage.input_tokens == 3 * USAGE.input_tokens
    assert stats.saved_usage.output_tokens == 3 * USAGE.output_tokens
    assert (stats.reported_wrong, stats.reported_right) == (1, 3)
    assert stats.observed_false_hit_rate == 0.25
    assert stats.entries == 1
    assert stats.entry_bytes > 500
    assert 0 < stats.median_seconds < 60
    empty = User(await open_cache(), scope, "s", CacheScope.SESSION)
    assert (await empty.stats()).lookups == 0


async def test_erasing_a_user_leaves_nothing_of_theirs(
    answers: Answers, ada: User, tenant: str
) -> None:
    eve = User(answers, Scope(tenant, "eve"))
    kept = await eve.store(prompt("q"))
    await ada.store(prompt("q"))
    await User(answers, ada.scope, "s", CacheScope.SESSION).store(prompt("q"))
    await ada.lookup(prompt("q"))
    assert await ada.maintenance.erase(ada.scope) == 2
    assert (await ada.lookup(prompt("q"))).entry is None
    assert (await ada.stats()).lookups == 1
    assert await eve.cache.get_entry(eve.scope, kept.entry_id) == kept


async def test_lookups_at_once_are_all_answered(ada: User) -> None:
    entry = await ada.store(prompt(*TALK))
    found = await asyncio.gather(
        *(ada.lookup(prompt(*REWORDED)) for _ in range(20)),
        *(ada.lookup(prompt(f"About {n}?")) for n in range(20)),
    )
    assert [result.entry for result in found] == [entry] * 20 + [None] * 20
