"""Makes contexts: recent window, summary and what was recalled, in a budget."""

from dataclasses import replace

from msgspec import structs

from recollect_server.memory.audit import AuditLog, Caller
from recollect_server.memory.block import fit, memory_pieces
from recollect_server.memory.context import Context, ContextItem, ContextOptions, ContextPart
from recollect_server.memory.model import MemoryKind, Message, Role
from recollect_server.memory.ports import RecallFilter
from recollect_server.memory.recalling import Recalled, Recaller, RecallHit
from recollect_server.memory.service import Memory
from recollect_server.memory.tokens import estimate_text
from recollect_server.scope import Scope

LONGEST_QUESTION = 8000
"""Characters of a message that are recalled for."""


class ContextBuilder:
    """Makes contexts out of a user's memory."""

    def __init__(self, memory: Memory, recaller: Recaller, audit: AuditLog) -> None:
        self._memory = memory
        self._recaller = recaller
        self._audit = audit

    def expect(self, scope: Scope, query: str, options: ContextOptions) -> None:
        """Begin what a context that is asked for in a moment will wait for."""
        if query and _most(options):
            self._recaller.expect(scope, query)

    async def build(
        self, scope: Scope, session_id: str, query: str, options: ContextOptions, caller: Caller
    ) -> Context:
        """Make the context of a session for a query.

        Args:
            query: what to recall for; "" means the newest message of the user in the window.
            caller: for the audit log, if the options ask for an entry.
        """
        context = await self._build(scope, session_id, query, options)
        if options.audit:
            await self._audit.record(scope, caller, _resource(context), "OK")
        return context

    async def _build(
        self, scope: Scope, session_id: str, query: str, options: ContextOptions
    ) -> Context:
        self.expect(scope, query, options)
        window = await self._memory.recent_window(scope, session_id)
        shown = window.messages
        if options.summary:
            shown = await self._memory.messages_since(
                scope, window, window.session.summary_through, options.token_budget
            )
        asked = options.asked
        if asked is not None:
            # A turn that is run again may have been overtaken by others.
            shown = tuple(m for m in shown if m.sequence <= asked.sequence)
            if not shown or shown[-1].message_id != asked.message_id:
                shown = (asked,)
        recalled = await self._recall(scope, query, options, window.messages, shown)
        if not options.window:
            shown = shown[-1:]
        pieces = memory_pieces(window.session, recalled, options)
        kept_messages, kept_pieces, system = fit(shown, pieces, options)
        left_out = shown[: len(shown) - len(kept_messages)]
        taken = {(p.item.part, p.item.item_id) for p in kept_pieces}
        left_out_pieces = tuple(p for p in pieces if (p.item.part, p.item.item_id) not in taken)
        return Context(
            system=system,
            messages=kept_messages,
            items=(
                *_window_items(kept_messages, omitted=False),
                *[p.item for p in kept_pieces],
                *_window_items(left_out, omitted=True),
                *[structs.replace(p.item, omitted=True) for p in left_out_pieces],
            ),
            recalled=tuple(p.source for p in kept_pieces if p.source is not None),
            token_count=sum([m.token_count for m in kept_messages]) + estimate_text(system),
            session=window.session,
            indexed_revision=recalled.indexed_revision,
            cache_down=window.cache_down,
            words_only=recalled.words_only,
        )

    async def _recall(
        self,
        scope: Scope,
        query: str,
        options: ContextOptions,
        window: tuple[Message, ...],
        shown: tuple[Message, ...],
    ) -> Recalled:
        wanted = _most(options)
        query = query or (_last_question(window) if wanted else "")
        if not wanted or not query:
            return Recalled((), 0, words_only=False)
        shown_keys = {(m.session_id, m.sequence) for m in shown}
        recalled = await self._recaller.recall(
            scope,
            query,
            kinds=frozenset(wanted),
            filter=RecallFilter(),
            limit=sum(wanted.values()) + len(shown),
        )
        left = dict(wanted)
        hits: list[RecallHit] = []
        for hit in recalled.hits:
            seen = isinstance(hit.item, Message) and (
                (hit.item.session_id, hit.item.sequence) in shown_keys
            )
            if not seen and left[hit.kind] > 0:
                left[hit.kind] -= 1
                hits.append(hit)
        return replace(recalled, hits=tuple(hits))


def _most(options: ContextOptions) -> dict[MemoryKind, int]:
    """Return how much is recalled at most of each kind that is."""
    most = {
        MemoryKind.FACT: options.max_facts,
        MemoryKind.TURN: options.max_turns,
        MemoryKind.EPISODE: options.max_episodes,
    }
    return {kind: number for kind, number in most.items() if number}


def _resource(context: Context) -> str:
    """Return the ids of what a context shows."""
    shown: dict[ContextPart, list[str]] = {}
    for item in context.items:
        if not item.omitted:
            shown.setdefault(item.part, []).append(item.item_id)
    parts = (f"{part.name.lower()}={','.join(ids)}" for part, ids in shown.items())
    return " ".join([f"session_id={context.session.session_id}", *parts])


def _last_question(messages: tuple[Message, ...]) -> str:
    for message in reversed(messages):
        if message.role is Role.USER and message.text:
            return message.text[:LONGEST_QUESTION]
    return ""


def _window_items(messages: tuple[Message, ...], *, omitted: bool) -> list[ContextItem]:
    window = ContextPart.WINDOW
    return [
        ContextItem(window, m.message_id, m.session_id, m.sequence, m.token_count, 0.0, omitted)
        for m in messages
    ]
