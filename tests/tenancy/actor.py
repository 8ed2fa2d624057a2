"""One tenant that does things at random and compares all it sees with its model.

Every tenant uses the same ids, and what it writes bears its mark; a mark of another one in any
response is a leak, whatever the model says. Users and tenants are named so that names joined
without care collide: `acme` + `ada` is `acm` + `eada`.
"""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from google.protobuf.message import Message
from tests.tenancy.model import SessionModel, TenantModel, slot

from recollect import AsyncRecollect, assistant, errors, user
from recollect.v1 import cache_pb2, chat_pb2, common_pb2, memory_pb2

MARKS = {
    "acme": "amber", "acm": "birch", "ac": "cobalt", "a": "dune",
    "ACME": "ember", "acme ": "fjord", "acme:ada": "garnet", "acmé": "heath",
}  # fmt: skip
"""The tenants, and the word that only theirs say."""

USERS = ("ada", "eada", "meada")
SESSIONS = ("s0", "s1", "s2", "s3")
FACTS = tuple(f"fact-{number}" for number in range(12))
QUESTIONS = ("How tall is it?", "When does it open?", "Who built it?", "What does it cost?")
TAGS = ("red", "green")
TOPICS = ("museum", "harbour", "orchestra", "glacier", "bicycle", "library")
SCOPES = (
    cache_pb2.CACHE_SCOPE_USER,
    cache_pb2.CACHE_SCOPE_SESSION,
    cache_pb2.CACHE_SCOPE_GLOBAL,
)
EXACT = (cache_pb2.CACHE_TIER_EXACT,)
MOST_MESSAGES = 60
"""Messages after which a session is deleted, so that listings stay short."""

PATIENCE_SECONDS = 30.0

_REQUESTS = uuid.UUID("5f3c1a3e-2b6d-4c58-9a53-0c4be1a8b6a1")


class Wrong(AssertionError):
    """A tenant saw what is not its own, or did not see what is."""


@dataclass(slots=True)
class Actor:
    """A tenant.

    Attributes:
        counts: how often each operation was done.
    """

    tenant: str
    client: AsyncRecollect
    random: Random
    model: TenantModel = field(default_factory=TenantModel)
    counts: Counter[str] = field(default_factory=Counter)
    writes: int = 0

    @property
    def mark(self) -> str:
        """The word that only this tenant says."""
        return MARKS[self.tenant]

    async def run(self, operations: int) -> None:
        """Do a number of things, one after the other."""
        weights, choices = zip(*self._operations(), strict=True)
        for _ in range(operations):
            operation = self.random.choices(choices, weights)[0]
            await self._do(operation)
        for name in USERS:
            await self.verify(name)

    async def _do(self, operation: Callable[[str, str], Awaitable[None]]) -> None:
        name, session = self.random.choice(USERS), self.random.choice(SESSIONS)
        self.counts[operation.__name__] += 1
        try:
            await operation(name, session)
        except errors.RecollectError as error:
            raise Wrong(
                f"{self.tenant!r}: {operation.__name__}({name}, {session}): {error}"
            ) from error

    def _operations(self) -> list[tuple[int, Callable[[str, str], Awaitable[None]]]]:
        return [
            (6, self.create_session), (20, self.append), (12, self.list_messages),
            (6, self.get_session), (6, self.list_sessions), (6, self.context), (2, self.delete),
            (8, self.remember), (6, self.get_fact), (4, self.list_facts), (3, self.update_fact),
            (2, self.forget), (8, self.recall), (10, self.store), (12, self.lookup),
            (2, self.look_for_like), (3, self.list_entries), (1, self.invalidate),
            (1, self.who_am_i), (1, self.chat),
        ]  # fmt: skip

    def _own(self, *responses: Message) -> None:
        """Check that no response holds what only another tenant says."""
        for response in responses:
            data = response.SerializeToString()
            for tenant, mark in MARKS.items():
                if tenant != self.tenant and mark.encode() in data:
                    raise Wrong(f"{self.tenant!r} sees what {tenant!r} wrote: {response}")

    def _equal(self, what: str, seen: Any, expected: Any) -> None:
        if seen != expected:
            raise Wrong(f"{self.tenant!r}: {what} is {seen!r}, must be {expected!r}")

    def _text(self, name: str) -> str:
        self.writes += 1
        topic = self.random.choice(TOPICS)
        return f"{name} of {self.mark} says its text {self.writes} about the {topic}"

    def _request_id(self) -> str:
        """Return the next request id; each tenant has the same ones in the same order."""
        self.writes += 1
        return str(uuid.uuid5(_REQUESTS, str(self.writes)))

    async def _missing(self, reason: str, call: Awaitable[Any]) -> None:
        """Check that a call is refused, because the tenant has no such thing, or has it already."""
        try:
            response = await call
        except errors.RecollectError as error:
            self._equal("the refusal", error.reason, reason)
        else:
            raise Wrong(f"{self.tenant!r}: no {reason}, but {response}")

    # Sessions and messages.

    async def create_session(self, name: str, session: str) -> None:
        sessions = self.model.user(name).sessions
        create = self.client.memory.create_session(
            session_id=session, title=self.mark, user_id=name, request_id=self._request_id()
        )
        if session in sessions:
            return await self._missing("SESSION_EXISTS", create)
        self._own(await create)
        sessions[session] = SessionModel()
        return None

    async def append(self, name: str, session: str) -> None:
        who = self.model.user(name)
        external = f"external-{self.random.randrange(5)}"
        said = [user(self._text(name), external_id=external)]
        if self.random.random() < 0.3:
            said.append(assistant(self._text(name), external_id=external))
        request_id = self._request_id()

        def send() -> Awaitable[memory_pb2.AppendMessagesResponse]:
            return self.client.memory.append_messages(
                session, said, user_id=name, request_id=request_id
            )

        if session not in who.sessions:
            return await self._missing("SESSION_NOT_FOUND", send())
        stored = await send()
        if self.random.random() < 0.2:
            again = await send()
            self._equal("a repeated append", again.messages, stored.messages)
        self._own(stored)
        kept = who.sessions[session].messages
        self._equal("the sequence", stored.messages[0].sequence, len(kept) + 1)
        kept += [(message.parts[0].text, external) for message in said]
        who.said += [message.parts[0].text for message in said]
        if len(kept) > MOST_MESSAGES:
            await self.delete(name, session)
        return None

    async def list_messages(self, name: str, session: str) -> None:
        sessions = self.model.user(name).sessions
        listed = self.client.memory.list_messages(session, user_id=name)
        if session not in sessions:
            return await self._missing("SESSION_NOT_FOUND", anext(listed))
        found = [message async for message in listed]
        self._own(*found)
        seen = [(message.parts[0].text, message.external_id) for message in found]
        self._equal(f"{name}/{session}", seen, sessions[session].messages)
        return None

    async def get_session(self, name: str, session: str) -> None:
        sessions = self.model.user(name).sessions
        get = self.client.memory.get_session(session, user_id=name)
        if session not in sessions:
            return await self._missing("SESSION_NOT_FOUND", get)
        found = await get
        self._own(found)
        self._equal("the title", found.title, self.mark)
        self._equal("message_count", found.message_count, len(sessions[session].messages))
        return None

    async def list_sessions(self, name: str, session: str) -> None:
        found = [s async for s in self.client.memory.list_sessions(user_id=name)]
        self._own(*found)
        seen = sorted(s.session_id for s in found)
        self._equal(f"{name}'s sessions", seen, sorted(self.model.user(name).sessions))

    async def context(self, name: str, session: str) -> None:
        who = self.model.user(name)
        options = memory_pb2.ContextOptions(token_budget=100_000)
        get = self.client.memory.get_context(
            session, query=self.random.choice(TOPICS), options=options, user_id=name
        )
        if session not in who.sessions:
            return await self._missing("SESSION_NOT_FOUND", get)
        found = await get
        self._own(found)
        texts = [message.parts[0].text for message in found.messages]
        kept = [text for text, _ in who.sessions[session].messages]
        self._equal("the window", texts, kept[len(kept) - len(texts) :])
        return None

    async def delete(self, name: str, session: str) -> None:
        sessions = self.model.user(name).sessions
        delete = self.client.memory.delete_session(
            session, user_id=name, request_id=self._request_id()
        )
        if session not in sessions:
            return await self._missing("SESSION_NOT_FOUND", delete)
        await delete
        del sessions[session]
        # Its answers fall in the background, as would those stored meanwhile under the same id.
        deadline = time.monotonic() + PATIENCE_SECONDS
        while await self._forgetting(name):
            if time.monotonic() > deadline:
                raise Wrong(f"{self.tenant!r}: the answers of {session} are kept")
            await asyncio.sleep(0.1)
        self.model.drop_answers(name, session)
        return None

    async def _forgetting(self, name: str) -> bool:
        """Whether it is still passed on what a user's answers must not rest on."""
        jobs = [job async for job in self.client.admin.list_jobs()]
        return any(job.kind == "forget" and job.user_id == name for job in jobs)

    async def chat(self, name: str, session: str) -> None:
        who = self.model.user(name)
        text = self._text(name)
        options = chat_pb2.ChatOptions(
            cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF)
        )
        send = self.client.chat.send(
            session, text, options=options, user_id=name, request_id=self._request_id()
        )
        if session not in who.sessions:
            return await self._missing("SESSION_NOT_FOUND", send)
        turn = await send
        self._own(turn)
        reply = turn.reply.parts[0].text
        who.sessions[session].messages += [(text, ""), (reply, "")]
        who.said += [text, reply]
        return None

    # Facts and recall.

    async def remember(self, name: str, session: str) -> None:
        facts = self.model.user(name).facts
        fact_id, text, request_id = self.random.choice(FACTS), self._text(name), self._request_id()
        fact = memory_pb2.NewFact(fact_id=fact_id, text=text, metadata={"of": self.mark})

        def send() -> Awaitable[memory_pb2.RememberResponse]:
            return self.client.memory.remember([fact], user_id=name, request_id=request_id)

        if fact_id in facts:
            return await self._missing("FACT_EXISTS", send())
        stored = await send()
        self._own(stored)
        if self.random.random() < 0.2:
            self._equal("a repeated Remember", (await send()).facts, stored.facts)
        facts[fact_id] = text
        return None

    async def get_fact(self, name: str, session: str) -> None:
        facts, fact_id = self.model.user(name).facts, self.random.choice(FACTS)
        get = self.client.memory.get_fact(fact_id, user_id=name)
        if fact_id not in facts:
            return await self._missing("FACT_NOT_FOUND", get)
        found = await get
        self._own(found)
        self._equal(fact_id, (found.text, found.metadata["of"]), (facts[fact_id], self.mark))
        return None

    async def list_facts(self, name: str, session: str) -> None:
        found = [fact async for fact in self.client.memory.list_facts(user_id=name)]
        self._own(*found)
        seen = {fact.fact_id: fact.text for fact in found}
        self._equal(f"{name}'s facts", seen, self.model.user(name).facts)

    async def update_fact(self, name: str, session: str) -> None:
        facts, fact_id = self.model.user(name).facts, self.random.choice(FACTS)
        text = self._text(name)
        update = self.client.memory.update_fact(
            fact_id, text=text, user_id=name, request_id=self._request_id()
        )
        if fact_id not in facts:
            return await self._missing("FACT_NOT_FOUND", update)
        self._own(await update)
        facts[fact_id] = text
        return None

    async def forget(self, name: str, session: str) -> None:
        facts, fact_id = self.model.user(name).facts, self.random.choice(FACTS)
        forget = self.client.memory.forget_fact(
            fact_id, user_id=name, request_id=self._request_id()
        )
        if fact_id not in facts:
            return await self._missing("FACT_NOT_FOUND", forget)
        await forget
        del facts[fact_id]
        return None

    async def recall(self, name: str, session: str) -> None:
        found = await self.client.memory.recall(self.random.choice(TOPICS), user_id=name, top_k=10)
        self._own(found)
        for hit in found.hits:
            if hit.HasField("episode"):
                continue
            text = hit.turn.parts[0].text if hit.HasField("turn") else hit.fact.text
            if text not in self.model.user(name).texts:
                raise Wrong(f"{self.tenant!r}: {name} recalls {text!r}")

    # The cache.

    def _prompt(self, question: str) -> common_pb2.Prompt:
        return common_pb2.Prompt(
            model="m",
            messages=[
                common_pb2.PromptMessage(
                    role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=question)]
                )
            ],
        )

    async def store(self, name: str, session: str) -> None:
        scope, question = self.random.choice(SCOPES), self.random.choice(QUESTIONS)
        answer, tag = self._text(name), self.random.choice(TAGS)
        stored = await self.client.cache.store(
            self._prompt(question), answer, session_id=session, scope=scope, tags=[tag],
            user_id=name,
        )  # fmt: skip
        self._own(stored)
        self.model.answers[slot(scope, name, session, question)] = answer, tag

    async def lookup(self, name: str, session: str) -> None:
        scope, question = self.random.choice(SCOPES), self.random.choice(QUESTIONS)
        found = await self.client.cache.lookup(
            self._prompt(question), session_id=session, scope=scope, tiers=EXACT, user_id=name
        )
        self._own(found)
        if found.miss_reason == cache_pb2.MISS_REASON_DEGRADED:
            self.counts["degraded"] += 1
            return
        kept = self.model.answers.get(slot(scope, name, session, question))
        seen = found.entry.answer[0].text if found.hit else None
        self._equal("the answer", seen, kept and kept[0])

    async def look_for_like(self, name: str, session: str) -> None:
        """Take whatever answer is nearest: it must be one of this very scope."""
        scope = self.random.choice(SCOPES)
        found = await self.client.cache.lookup(
            self._prompt("And how high is it?"), session_id=session, scope=scope,
            tiers=(cache_pb2.CACHE_TIER_SEMANTIC,), max_distance=2.0, user_id=name,
        )  # fmt: skip
        self._own(found)
        if found.hit:
            seen = found.entry.answer[0].text
            there = [slot(scope, name, session, question) for question in QUESTIONS]
            kept = [self.model.answers[s][0] for s in there if s in self.model.answers]
            if seen not in kept:
                raise Wrong(f"{self.tenant!r}: {name} is answered {seen!r}, not one of {kept}")

    async def list_entries(self, name: str, session: str) -> None:
        scope = self.random.choice(SCOPES)
        listed = self.client.cache.list_entries(scope=scope, session_id=session, user_id=name)
        found = [entry async for entry in listed]
        self._own(*found)
        there = [slot(scope, name, session, question) for question in QUESTIONS]
        kept = [self.model.answers[s][0] for s in there if s in self.model.answers]
        self._equal("the entries", sorted(e.answer[0].text for e in found), sorted(kept))

    async def invalidate(self, name: str, session: str) -> None:
        tag = self.random.choice(TAGS)
        gone = [
            s for s, (_, of) in self.model.answers.items() if of == tag and s.user in ("", name)
        ]
        count = await self.client.cache.invalidate(tag=tag, user_id=name, dry_run=True)
        self._equal(f"the number of {tag} answers", count, len(gone))
        # The client may have repeated it, which counts what was still there.
        count = await self.client.cache.invalidate(tag=tag, user_id=name)
        self._equal("more than there were", max(count, len(gone)), len(gone))
        for each in gone:
            del self.model.answers[each]

    # The tenant.

    async def who_am_i(self, name: str, session: str) -> None:
        info = await self.client.admin.get_server_info()
        keys = [key async for key in self.client.admin.list_api_keys()]
        jobs = [job async for job in self.client.admin.list_jobs()]
        self._own(info, *keys, *jobs)
        self._equal("the tenant", info.tenant, self.tenant)
        self._equal("the keys", [key.name for key in keys], [self.mark])

    async def verify(self, name: str) -> None:
        """Compare everything of a user."""
        await self.list_sessions(name, "")
        await self.list_facts(name, "")
        for session in SESSIONS:
            await self.list_messages(name, session)
            await self.get_session(name, session)
            await self.list_entries(name, session)
        async for episode in self.client.memory.list_episodes(user_id=name):
            self._own(episode)

    async def watch(self, name: str, begun: asyncio.Event) -> None:
        """Watch a user until cancelled: only what the user said, in the order it was said."""
        position = 0
        async for change in self.client.memory.watch(user_id=name):
            begun.set()
            self._own(change)
            self.counts["watched"] += 1
            if not change.HasField("message"):
                continue
            text, said = change.message.parts[0].text, self.model.user(name).said
            # A change may be seen before the answer to the call that made it.
            deadline = time.monotonic() + PATIENCE_SECONDS
            while text not in said[position:]:
                if time.monotonic() > deadline:
                    raise Wrong(f"{self.tenant!r}: {name} watches {text!r}, not said or not next")
                await asyncio.sleep(0.01)
            position = said.index(text, position) + 1
