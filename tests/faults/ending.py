"""What must be true in the end: all work is done, and nothing that was stored has changed."""

import asyncio
import time
from collections import defaultdict

from tests.faults.connection import connected
from tests.faults.deployment import RECENT
from tests.faults.rounds import Campaign
from tests.faults.watched import wrong_episodes, wrong_order
from tests.faults.watcher import watching
from tests.faults.workload import Place

from recollect import AsyncRecollect
from recollect.v1 import admin_pb2, memory_pb2

END_SECONDS = 180.0
"""Longer than some leases, each of which work of a process that died may wait for."""

Episodes = dict[str, list[memory_pb2.Episode]]


async def ending(campaign: Campaign) -> list[str]:
    """Wait until all work is done, and return what is wrong, in sentences."""
    places = [place for load in campaign.loads for place in load.places]
    async with (
        watching(campaign.watchers),
        connected(campaign.running.server.address) as (client, _),
    ):
        found = await _work_left(client, places)
        found += await _not_found(client, campaign)
        found += await _changed(client, campaign)
        for watcher in campaign.watchers:
            await watcher.catch_up(client)
            found += wrong_order(watcher.changes)
            watched = {c.episode.episode_id for _, c in watcher.changes if c.HasField("episode")}
            stored = {e.episode_id async for e in client.memory.list_episodes(user_id=watcher.user)}
            if watched != stored:
                found.append(f"Watch shows the episodes {watched}, stored are {stored}")
    return found


async def _work_left(client: AsyncRecollect, places: list[Place]) -> list[str]:
    """Wait for the work to end; return what is left of it after END_SECONDS, or is dead."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        found = await _unfinished(client, places)
        jobs = [job async for job in client.admin.list_jobs()]
        dead = [job for job in jobs if job.state == admin_pb2.JOB_STATE_DEAD]
        found += [f"a job that waits: {job}" for job in jobs]
        if not found or dead or time.monotonic() > deadline:
            return found
        await asyncio.sleep(0.5)


async def _unfinished(client: AsyncRecollect, places: list[Place]) -> list[str]:
    found = []
    for user in sorted({place.user for place in places}):
        episodes: Episodes = defaultdict(list)
        async for episode in client.memory.list_episodes(user_id=user):
            episodes[episode.session_id].append(episode)
        async for session in client.memory.list_sessions(user_id=user):
            name = f"{user}/{session.session_id}"
            wrong = wrong_episodes(episodes[session.session_id], session.last_sequence)
            found += [f"{name}: {what}" for what in wrong]
            covered = max(session.summary.through_sequence, session.window_start - 1)
            if session.last_sequence - covered > 2 * RECENT:
                found.append(f"{name}: only {covered} of {session.last_sequence} are summarised")
    return found


async def _not_found(client: AsyncRecollect, campaign: Campaign) -> list[str]:
    """Return whose writes cannot be recalled by meaning."""
    revisions: dict[str, int] = defaultdict(int)
    for load in campaign.loads:
        for user, revision in load.user_revisions.items():
            revisions[user] = max(revision, revisions[user])
    found = []
    for user, revision in revisions.items():
        recalled = await client.memory.recall(
            "garden", user_id=user, min_revision=revision, timeout=END_SECONDS
        )
        if recalled.indexed_revision < revision:
            found.append(f"{user}: recall is at {recalled.indexed_revision}, not {revision}")
        if not recalled.hits:
            found.append(f"{user}: nothing is recalled")
    return found


async def _changed(client: AsyncRecollect, campaign: Campaign) -> list[str]:
    """Return which sessions do not hold the messages that they held after their round."""
    found = []
    for load in campaign.loads:
        for place in load.places:
            listed = client.memory.list_messages(place.session, user_id=place.user, page_size=1000)
            texts = tuple([message.parts[0].text async for message in listed])
            if texts != load.listed(place):
                found.append(f"{place.name}: other messages than after its round")
    return found
