"""`recollect bench cache`: how often a lookup hits, how often it is right, and how fast."""

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from recollect import AsyncRecollect
from recollect.v1 import cache_pb2, common_pb2
from recollect_server.bench.cache_data import CacheData, Probe, Said
from recollect_server.bench.stats import percentile

Progress = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is to do."""

SCOPES = {"user": cache_pb2.CACHE_SCOPE_USER, "global": cache_pb2.CACHE_SCOPE_GLOBAL}
ROLES = {
    "user": common_pb2.ROLE_USER,
    "assistant": common_pb2.ROLE_ASSISTANT,
    "system": common_pb2.ROLE_SYSTEM,
}
RECIPE_DISTANCE = 0.12
LOOSEST_RATE = 0.5
TTL_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Found:
    """What a lookup brought.

    Attributes:
        answer: id of the entry that was served, None for a miss.
        sure: of a hit, how sure the cache was.
        exact: the exact tier served it.
    """

    probe: Probe
    answer: str | None
    sure: float
    exact: bool
    seconds: float

    @property
    def right(self) -> bool:
        """The expected entry was served."""
        return self.answer is not None and self.answer == self.probe.expect


@dataclass(frozen=True, slots=True)
class CacheRun:
    """A finished run.

    Attributes:
        exact_seconds: lookups of the very prompts that were stored.
        loosest: every probe again with the largest rate of false hits, for the curve; empty if it
            was not asked for.
        recipe: every probe again by the 0.12 recipe, likewise.
    """

    found: tuple[Found, ...]
    exact_seconds: tuple[float, ...]
    loosest: tuple[Found, ...]
    recipe: tuple[Found, ...]
    scope: str
    max_false_hit_rate: float


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who asks, where; a model's name of this run's own keeps its entries apart from others."""

    client: AsyncRecollect
    user: str
    model: str
    scope: cache_pb2.CacheScope.ValueType

    def prompt(self, messages: Sequence[Said]) -> common_pb2.Prompt:
        return common_pb2.Prompt(
            model=self.model,
            messages=[
                common_pb2.PromptMessage(
                    role=ROLES[said.role], parts=[common_pb2.ContentPart(text=said.text)]
                )
                for said in messages
            ],
        )

    async def store(self, name: str, messages: Sequence[Said]) -> None:
        await self.client.cache.store(
            self.prompt(messages), name, scope=self.scope, ttl=TTL_SECONDS, user_id=self.user
        )

    async def look_up(self, probe: Probe, **how: object) -> Found:
        prompt = self.prompt(probe.messages)
        started = time.perf_counter()
        response = await self.client.cache.lookup(
            prompt,
            scope=self.scope,
            user_id=self.user,
            **how,  # type: ignore[arg-type] # the keywords of lookup
        )
        seconds = time.perf_counter() - started
        return Found(
            probe,
            "".join(part.text for part in response.entry.answer) if response.hit else None,
            response.probability,
            response.tier == cache_pb2.CACHE_TIER_EXACT,
            seconds,
        )


async def run(
    client: AsyncRecollect,
    data: CacheData,
    *,
    scope: str,
    max_false_hit_rate: float,
    curve: bool,
    progress: Progress,
) -> CacheRun:
    """Store the entries of a file and look its probes up, one at a time.

    Args:
        scope: "user" or "global".
        curve: look every probe up twice more, for `curve` and the recipe beside it.
    """
    name = f"bench-{uuid.uuid4().hex[:8]}"
    asking = _Asking(client, name, name, SCOPES[scope])
    for done, entry in enumerate(data.entries, start=1):
        await asking.store(entry.id, entry.messages)
        progress("storing", done, len(data.entries))

    async def every(stage: str, probes: Sequence[Probe], **how: object) -> tuple[Found, ...]:
        found = []
        for done, probe in enumerate(probes, start=1):
            found.append(await asking.look_up(probe, **how))
            progress(stage, done, len(probes))
        return tuple(found)

    found = await every("looking up", data.probes, max_false_hit_rate=max_false_hit_rate)
    stored = [Probe("", entry.messages, entry.id) for entry in data.entries]
    exact = await every("looking up exactly", stored, tiers=[cache_pb2.CACHE_TIER_EXACT])
    semantic = [cache_pb2.CACHE_TIER_SEMANTIC]
    loosest: tuple[Found, ...] = ()
    recipe: tuple[Found, ...] = ()
    if curve:
        loosest = await every(
            "drawing the curve", data.probes, max_false_hit_rate=LOOSEST_RATE, tiers=semantic
        )
        recipe = await every(
            "trying the recipe",
            data.probes,
            strategy=cache_pb2.SEMANTIC_STRATEGY_CONTEXT_WINDOW,
            max_distance=RECIPE_DISTANCE,
            tiers=semantic,
        )
    times = tuple(each.seconds for each in exact)
    return CacheRun(found, times, loosest, recipe, scope, max_false_hit_rate)


def rates(found: Sequence[Found], at_least: float = 0.0) -> tuple[float, float]:
    """Return precision (1 without a hit) and hit rate of hits that are at least so sure."""
    hits = [each for each in found if each.answer is not None and each.sure >= at_least]
    right = sum(each.right for each in hits)
    expected = sum(each.probe.expect is not None for each in found)
    return right / len(hits) if hits else 1.0, right / expected if expected else 0.0


def curve(found: Sequence[Found]) -> list[tuple[float, float]]:
    """Return (hit rate, precision) for every threshold, the strictest first."""
    sure = sorted({each.sure for each in found if each.answer is not None}, reverse=True)
    return [rates(found, at_least)[::-1] for at_least in sure]


def _milliseconds(seconds: Sequence[float]) -> dict[str, float | None]:
    return {
        f"p{round(share * 100)}": (
            round(percentile([s * 1000 for s in seconds], share), 2) if seconds else None
        )
        for share in (0.5, 0.95, 0.99)
    }


def results(run: CacheRun) -> dict[str, object]:
    """Return the run as the JSON of `--json`."""
    precision, hit_rate = rates(run.found)
    hits = [each for each in run.found if each.answer is not None]
    cases = sorted({each.probe.case for each in run.found})
    figures: dict[str, object] = {
        "precision": round(precision, 4),
        "hit_rate": round(hit_rate, 4),
        "false_hits": sum(not each.right for each in hits),
        "cases": {
            case: {
                "probes": sum(each.probe.case == case for each in run.found),
                "hits": sum(each.probe.case == case for each in hits),
                "right": sum(each.probe.case == case and each.right for each in hits),
            }
            for case in cases
        },
        "lookup_ms": {
            "exact": _milliseconds(run.exact_seconds),
            "semantic": _milliseconds([each.seconds for each in run.found if not each.exact]),
        },
        "scope": run.scope,
        "max_false_hit_rate": run.max_false_hit_rate,
    }
    if run.recipe:
        recipe = rates(run.recipe)
        figures["recipe"] = {"precision": round(recipe[0], 4), "hit_rate": round(recipe[1], 4)}
    return figures
