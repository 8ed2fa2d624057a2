"""What a tenant must see: a simple model of one tenant's memory and cache, in dictionaries."""

from dataclasses import dataclass, field

from recollect.v1 import cache_pb2


@dataclass(slots=True)
class SessionModel:
    """A session: (text, external id) of its messages, in order."""

    messages: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class UserModel:
    """A user's memory.

    Attributes:
        facts: text by id.
        said: texts of all messages ever appended, also of sessions since deleted, in order.
    """

    sessions: dict[str, SessionModel] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    @property
    def texts(self) -> set[str]:
        """The texts that recall may find, but for those of episodes."""
        turns = {text for s in self.sessions.values() for text, _ in s.messages}
        return turns | set(self.facts.values())


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one cached answer is: what a lookup's exact tier goes by."""

    scope: cache_pb2.CacheScope.ValueType
    user: str
    session: str
    question: str


@dataclass(slots=True)
class TenantModel:
    """A tenant.

    Attributes:
        answers: answer and tag by slot.
    """

    users: dict[str, UserModel] = field(default_factory=dict)
    answers: dict[Slot, tuple[str, str]] = field(default_factory=dict)

    def user(self, user: str) -> UserModel:
        """Return a user, who need not have been heard of."""
        return self.users.setdefault(user, UserModel())

    def drop_answers(self, user: str, session: str) -> None:
        """Forget the answers of a session that was deleted."""
        of_it = (cache_pb2.CACHE_SCOPE_SESSION, user, session)
        for kept in [s for s in self.answers if (s.scope, s.user, s.session) == of_it]:
            del self.answers[kept]


def slot(scope: cache_pb2.CacheScope.ValueType, user: str, session: str, question: str) -> Slot:
    """Return the slot of an answer, without what its scope leaves out."""
    return Slot(
        scope,
        "" if scope == cache_pb2.CACHE_SCOPE_GLOBAL else user,
        session if scope == cache_pb2.CACHE_SCOPE_SESSION else "",
        question,
    )
