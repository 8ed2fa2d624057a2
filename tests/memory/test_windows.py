"""Windows of this process: bounded, and only as good as their revision."""

from datetime import UTC, datetime, timedelta

from recollect_server.memory.model import Retention, Session
from recollect_server.memory.ports import Window
from recollect_server.memory.windows import ENTRY_BYTES, Windows
from recollect_server.scope import Scope

ADA = Scope("acme", "ada")


class Nothing:
    """A window cache that holds nothing."""

    async def get(self, scope: Scope, session_id: str) -> Window | None:
        return None

    async def put(self, scope: Scope, session_id: str, window: Window, ttl_seconds: float) -> None:
        """Forget it."""

    async def delete(self, scope: Scope, session_id: str) -> None:
        """There is none."""


def _session(session_id: str, revision: int = 1) -> Session:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    return Session(
        session_id=session_id,
        title="",
        retention=Retention.DURABLE,
        metadata={},
        window_size=20,
        window_ttl=timedelta(hours=1),
        idle_ttl=timedelta(0),
        create_time=now,
        update_time=now,
        revision=revision,
        last_sequence=0,
        message_count=0,
    )


async def test_windows_without_messages_take_room_too():
    windows = Windows(Nothing(), budget=10 * ENTRY_BYTES)
    for number in range(100):
        windows.put(ADA, _session(f"s{number}"), ())
    known = [(await windows.get(ADA, _session(f"s{n}")))[0] is not None for n in range(100)]
    assert known == [False] * 90 + [True] * 10


async def test_a_window_of_another_revision_is_not_known():
    windows = Windows(Nothing(), budget=10 * ENTRY_BYTES)
    windows.put(ADA, _session("s", revision=1), ())
    assert await windows.get(ADA, _session("s", revision=1)) == ((), False)
    assert await windows.get(ADA, _session("s", revision=2)) == (None, False)
