"""Episodes as a client sees them: stretches that ended by idleness or by clearing."""

from contextlib import closing

import pytest
from tests.e2e.deployments import token_of_now
from tests.harness import RunningServer, eventually, unique

from recollect import assistant, errors, user
from recollect.v1 import memory_pb2
from recollect.v1.common_pb2 import MEMORY_KIND_EPISODE

TALK = [
    user("I want to learn to sail on the lake this summer."),
    assistant("The sailing school on the lake has courses in July."),
    user("Good, then I shall book the sailing course in July."),
]


@pytest.fixture(scope="module")
def quick():
    with RunningServer(environment={"RECOLLECT_EPISODE_IDLE_SECONDS": "1"}) as running:
        yield running


@pytest.fixture
def name():
    return unique("ada")


@pytest.fixture
def client(quick, name):
    with quick.client(name) as opened:
        yield opened


def _episodes(client, count: int) -> list[memory_pb2.Episode]:
    eventually(lambda: len([*client.memory.list_episodes(page_size=1)]) >= count, 30)
    return [*client.memory.list_episodes(page_size=1)]


def test_an_idle_session_becomes_an_episode_that_is_recalled_and_shown(quick, name):
    with quick.client(name) as client:
        _becomes_an_episode(client, token_of_now(quick, name))


def _becomes_an_episode(client, token: str) -> None:
    session = client.memory.create_session().session_id
    done = client.memory.append_messages(session, TALK)
    (episode,) = _episodes(client, 1)
    assert client.memory.get_episode(episode.episode_id) == episode
    assert (episode.first_sequence, episode.last_sequence) == (1, 3)
    assert (episode.session_id, episode.model) == (session, "extractive")
    assert episode.start_time == done.messages[0].time
    assert episode.end_time == done.messages[-1].time
    assert "sailing" in episode.summary
    assert 0 < len(episode.title) < len(episode.summary)
    with closing(client.memory.watch(resume_token=token)) as changes:
        made = next(change for change in changes if change.HasField("episode"))
    assert (made.type, made.episode) == (memory_pb2.CHANGE_TYPE_CREATED, episode)
    found = client.memory.recall(
        "boats on water", kinds=[MEMORY_KIND_EPISODE], min_revision=made.user_revision
    )
    assert [hit.episode for hit in found.hits] == [episode]
    new = client.memory.create_session().session_id
    client.memory.append_messages(new, ["What about boats on water?"])
    context = client.memory.get_context(new)
    assert episode.summary.splitlines()[0] in context.system
    assert episode.episode_id in {item.item_id for item in context.items if not item.omitted}
    without = client.memory.get_context(new, options=memory_pb2.ContextOptions(max_episodes=0))
    assert "earlier_conversations" not in without.system


def test_later_messages_make_the_next_episode(client):
    session = client.memory.create_session(title="Sailing").session_id
    client.memory.append_messages(session, TALK)
    (first,) = _episodes(client, 1)
    client.memory.append_messages(session, ["Which shoes do I need on a boat?"])
    second, before = _episodes(client, 2)
    assert before == first
    assert (second.first_sequence, second.last_sequence) == (4, 4)
    assert {first.title, second.title} == {"Sailing"}


def test_clearing_ends_a_stretch_at_once(server):
    with server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        client.memory.clear_session(session)
        client.memory.append_messages(session, TALK)
        client.memory.clear_session(session)
        client.memory.append_messages(session, ["A new start."])
        (episode,) = _episodes(client, 1)
        assert (episode.first_sequence, episode.last_sequence) == (1, 3)
        assert "A new start" not in episode.summary


def test_deleting_the_session_deletes_its_episodes(client):
    session = client.memory.create_session().session_id
    client.memory.append_messages(session, TALK)
    (episode,) = _episodes(client, 1)
    client.memory.delete_session(session)
    assert not [*client.memory.list_episodes()]
    with pytest.raises(errors.NotFound) as caught:
        client.memory.get_episode(episode.episode_id)
    assert caught.value.reason == "EPISODE_NOT_FOUND"
    assert not client.memory.recall("sailing").hits
