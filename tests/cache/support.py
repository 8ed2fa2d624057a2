"""The answer cache with its real parts, as the domain's tests use it."""

from datetime import datetime, timedelta
from typing import Any

from msgspec.structs import replace

from recollect_server.answers import Answers
from recollect_server.cache.model import (
    CacheEntry,
    CacheOptions,
    CacheScope,
    LookupOptions,
    LookupResult,
)
from recollect_server.memory.model import Part, PromptMessage, Role, TextPart
from recollect_server.memory.prompt import ModelParameters, Prompt, Usage
from recollect_server.scope import Scope

USAGE = Usage(100, 20)


def prompt(*texts: str, model: str = "m", system: str = "", **more: Any) -> Prompt:
    """Return a conversation of user and assistant in turns, that ends with the user."""
    roles = [Role.USER, Role.ASSISTANT]
    first = 1 - len(texts) % 2
    messages = tuple(
        PromptMessage(roles[(n + first) % 2], (TextPart(text),)) for n, text in enumerate(texts)
    )
    made = Prompt(model, system, (), ModelParameters(), messages)
    return replace(made, **more)


class User:
    """One user's view of the cache."""

    def __init__(
        self,
        answers: Answers,
        scope: Scope,
        session_id: str = "",
        cache_scope: CacheScope = CacheScope.USER,
    ) -> None:
        self.cache = answers.cache
        self.maintenance = answers.maintenance
        self.scope = scope
        self.session_id = session_id
        self.cache_scope = cache_scope

    async def store(
        self, asked: Prompt, answer: str | tuple[Part, ...] = "yes", **options: Any
    ) -> CacheEntry:
        parts: tuple[Part, ...] = (TextPart(answer),) if isinstance(answer, str) else answer
        return await self.cache.store(
            self.scope,
            self.session_id,
            asked,
            parts,
            USAGE,
            cache_scope=self.cache_scope,
            options=CacheOptions(**options),
        )

    async def lookup(
        self, asked: Prompt, newest_fact: datetime | None = None, **options: Any
    ) -> LookupResult:
        return await self.cache.lookup(
            self.scope,
            self.session_id,
            asked,
            cache_scope=self.cache_scope,
            options=LookupOptions(**options),
            newest_fact=newest_fact,
        )

    async def stats(self) -> Any:
        return await self.maintenance.stats(self.scope, self.cache_scope, self.session_id)


HOUR = timedelta(hours=1)

# What a conversation is about, how it is asked, and how it is asked in other words.
TALK = (
    "Tell me about the Eiffel Tower.",
    "The Eiffel Tower is an iron lattice tower in Paris, built from 1887 to 1889.",
    "How tall is it?",
)
REWORDED = (
    "Please tell me about the Eiffel Tower.",
    "The Eiffel Tower is an iron lattice tower in Paris, built from 1887 to 1889.",
    "How tall is the tower?",
)
OTHER_TOPIC = (
    "Tell me about Mount Everest.",
    "Mount Everest is Earth's highest mountain above sea level, in the Himalayas.",
    "How tall is it?",
)
