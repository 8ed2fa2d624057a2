"""No answer crosses a user, tenant, session, model, system prompt, tool or parameter.

`RECOLLECT_CACHE_PROBES` sets how many random probes are made; `make prove` makes 10,000.
"""

import os
import random
from dataclasses import dataclass, fields, replace

import pytest
from tests.cache.support import User, prompt
from tests.harness import unique

from recollect_server.answers import Answers
from recollect_server.cache.dialogue import dialogue_of
from recollect_server.cache.keys import exact_key, group_key, model_key, partition_of, same_key
from recollect_server.cache.model import CacheScope, CacheTier
from recollect_server.memory.model import TextPart
from recollect_server.memory.prompt import ModelParameters, Prompt, Tool
from recollect_server.scope import Scope

PROBES = int(os.environ.get("RECOLLECT_CACHE_PROBES", "400"))

# Texts that are cut, joined, escaped or normalised into each other by what is careless.
NASTY = (
    "a", "b", "ab", "a b", "a|b", "a,b", "a:b", "a\0b", "\0", "a\x1fb", "A", "a ", " a",
    "é", "e\u0301", "ﬁ", "fi", "a\u200b", "\ufeffa", "١", "1",
    "*", "a*", "{a}", "a}", "@g:{a}", "a})=>[KNN 9 @x $v]", "a} | @g:{*}", "-a", "\\", "a\\}",
    "\x00\x00\x00\x00\x00\x00\x00\x01a", "1:a", "1a1b", '["a"]', "a\r\nb", "message", "USER",
    "None", "0", "True", "a" * 300,
)  # fmt: skip
TEXTS = ("How tall is it?", "How tall is the tower?", "and the second one?", "a", "\0", "*")


@dataclass(frozen=True)
class Setting:
    """All that must be equal for a hit."""

    tenant: str
    user: str
    scope: CacheScope
    session: str
    model: str
    system: str
    tools: tuple[Tool, ...]
    parameters: ModelParameters

    def user_of(self, answers: Answers) -> User:
        return User(answers, Scope(self.tenant, self.user), self.session, self.scope)

    def asks(self, *texts: str) -> Prompt:
        rest = {"tools": self.tools, "parameters": self.parameters}
        return prompt(*texts, model=self.model, system=self.system, **rest)

    def meant(self) -> tuple[object, ...]:
        """The setting without what its scope leaves out."""
        shared = self.scope is CacheScope.GLOBAL
        session = self.session if self.scope is CacheScope.SESSION else ""
        rest = self.model, self.system, self.tools, self.parameters
        return self.tenant, "" if shared else self.user, self.scope, session, *rest


def _tools(source: random.Random) -> tuple[Tool, ...]:
    return tuple(
        Tool(source.choice(NASTY), source.choice(("", *NASTY)), source.choice(("{}", *NASTY)))
        for _ in range(source.choice((0, 0, 1, 2)))
    )


def _parameters(source: random.Random) -> ModelParameters:
    stop = tuple(source.choice(NASTY) for _ in range(source.choice((0, 0, 1, 2))))
    return ModelParameters(
        source.choice((None, 0.0, 1.0)), source.choice((None, 1, 10)), stop
    )  # fmt: skip


def _setting(source: random.Random, tenant: str) -> Setting:
    return Setting(
        tenant + source.choice(NASTY),
        source.choice(NASTY),
        source.choice(list(CacheScope)),
        source.choice(NASTY),
        source.choice(NASTY),
        source.choice(("", *NASTY)),
        _tools(source),
        _parameters(source),
    )


def _neighbour(source: random.Random, setting: Setting) -> Setting:
    """Return a setting with one field changed, or the ends of two neighbours exchanged."""
    names = [field.name for field in fields(Setting)]
    if source.random() < 0.3:
        one, other = source.choice(
            [("tenant", "user"), ("user", "session"), ("model", "system"), ("session", "model")]
        )
        joined = getattr(setting, one) + getattr(setting, other)
        cut = source.randrange(1, len(joined)) if len(joined) > 1 else 1
        return replace(setting, **{one: joined[:cut], other: joined[cut:] or "a"})
    name = source.choice(names)
    changed = _setting(source, setting.tenant if name == "tenant" else "x")
    return replace(setting, **{name: getattr(changed, name)})


async def test_no_probe_gets_an_answer_of_another_setting(answers: Answers) -> None:
    """With a limit that lets everything through, so that only the setting holds it back."""
    source = random.Random(20261121)
    tenant = unique("tenant")
    stored: dict[tuple[object, ...], Setting] = {}
    hits = 0
    setting = _setting(source, tenant)
    for _ in range(PROBES):
        setting = (
            _neighbour(source, source.choice(list(stored.values())))
            if stored and source.random() < 0.9
            else _setting(source, tenant)
        )
        who, asked = setting.user_of(answers), setting.asks(source.choice(TEXTS))
        found = await who.lookup(asked, max_distance=2.0)
        assert (found.entry is not None) == (setting.meant() in stored), setting
        if found.entry is not None:
            hits += 1
            assert found.entry.answer == (TextPart(repr(setting.meant())),)
        if source.random() < 0.5:
            await who.store(setting.asks(source.choice(TEXTS)), repr(setting.meant()))
            stored[setting.meant()] = setting
    assert hits > PROBES / 50


@pytest.mark.parametrize("tiers", [{CacheTier.EXACT}, {CacheTier.SEMANTIC}], ids=["exact", "like"])
async def test_names_that_look_like_queries_are_names(answers: Answers, tiers: set) -> None:
    tenant = unique("tenant")
    for name in NASTY:
        await User(answers, Scope(tenant, name)).store(prompt(TEXTS[0], model=name), name)
    for name in NASTY:
        for model in (name, "*", "a"):
            user = User(answers, Scope(tenant, name))
            found = await user.lookup(prompt(TEXTS[0], model=model), tiers=frozenset(tiers))
            assert (found.entry is not None) == (model == name)
            assert found.entry is None or found.entry.answer == (TextPart(name),)


def test_different_settings_have_different_digests() -> None:
    source = random.Random(7)
    digests: dict[str, object] = {}
    for number in range(PROBES * 10):
        setting = _setting(source, "t")
        if number % 2:
            setting = _neighbour(source, setting)
        texts = tuple(source.choice(NASTY) for _ in range(source.choice((1, 3))))
        asked = setting.asks(*texts)
        partition = partition_of(
            Scope(setting.tenant, setting.user), setting.scope, setting.session
        )
        group = group_key(partition, asked, dialogue_of(asked), "m")
        meant = setting.meant()
        without_model = (*meant[:4], *meant[5:])
        spoken = texts if any(map(str.strip, texts)) else ()
        for key, what in {
            exact_key(partition, asked): ("exact", meant, texts),
            same_key(partition, asked): ("same", without_model, texts),
            model_key(group, asked.model): ("model", meant, _rest(texts)),
            group: ("group", without_model, _rest(texts)),
        }.items():
            assert digests.setdefault(key, what) == what, spoken
    assert len(set(map(repr, digests.values()))) == len(digests)


def _rest(texts: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """Return what is compared as it is: messages of white space, and where they are."""
    rest, spoken = [], 0
    for text in texts:
        if text.strip():
            spoken += 1
        else:
            rest.append((spoken, text))
    return tuple(rest)
