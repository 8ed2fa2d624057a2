"""What can be typed in `recollect chat` beside messages."""

from collections.abc import Callable

from rich.console import Console

from recollect import Recollect, errors
from recollect.v1 import chat_pb2, common_pb2, memory_pb2


def role_name(role: common_pb2.Role.ValueType) -> str:
    """Return `user` for ROLE_USER."""
    return common_pb2.Role.Name(role).removeprefix("ROLE_").lower()


class Spent:
    """What the turns of a chat cost."""

    def __init__(self) -> None:
        self._turns = self._hits = self._given = self._read = self._made = 0
        self._cost_usd = 0.0

    def add(self, turn: chat_pb2.Turn) -> None:
        """Count a turn."""
        usage = turn.usage
        self._turns += 1
        self._hits += turn.cache.hit
        self._given += usage.input_tokens + usage.cache_write_tokens
        self._read += usage.cache_read_tokens
        self._made += usage.output_tokens
        self._cost_usd += turn.cost_usd

    def __str__(self) -> str:
        return (
            f"{self._turns} turns, {self._hits} from the cache; tokens: {self._given} given, "
            f"{self._read} from the provider's cache, {self._made} made; ${self._cost_usd:.4f}"
        )


class Commands:
    """Runs lines that begin with a slash.

    Attributes:
        spent: of the turns so far.
    """

    def __init__(
        self, console: Console, client: Recollect, session: str, context: memory_pb2.ContextOptions
    ) -> None:
        self.spent = Spent()
        self._console = console
        self._client = client
        self._session = session
        self._context = context
        self._run: dict[str, tuple[str, str, Callable[[str], None]]] = {
            "/remember": ("FACT", "store a fact about you", self._remember),
            "/recall": ("QUERY", "find facts and messages", self._recall),
            "/forget": ("FACT_ID", "forget a fact", self._forget),
            "/context": ("[QUERY]", "show what the model would be given", self._show_context),
            "/cost": ("", "show what this chat has cost", self._cost),
            "/help": ("", "show this list", self._help),
        }

    def run(self, line: str) -> bool:
        """Run a line; False if it ends the chat. A failed call is shown."""
        name, _, rest = line.partition(" ")
        if name in ("/quit", "/exit"):
            return False
        wanted, _, command = self._run.get(name, ("", "", self._help))
        if wanted.isupper() and not rest.strip():
            self._print(f"{name} {wanted}")
            return True
        try:
            command(rest.strip())
        except errors.RecollectError as error:
            self._print(error.message)
        return True

    def _print(self, text: str) -> None:
        self._console.print(text, markup=False, style="dim")

    def _remember(self, text: str) -> None:
        for fact in self._client.memory.remember([text]).facts:
            self._print(f"{fact.fact_id}  {fact.text}")

    def _recall(self, query: str) -> None:
        response = self._client.memory.recall(query, top_k=5)
        if not response.hits:
            self._print("nothing found")
        for hit in response.hits:
            self._print(f"{hit.score:6.2f}  {_text(hit)}")

    def _forget(self, fact_id: str) -> None:
        self._client.memory.forget_fact(fact_id)
        self._print("forgotten")

    def _show_context(self, query: str) -> None:
        context = self._client.memory.get_context(self._session, query=query, options=self._context)
        if context.system:
            self._print(context.system)
        for message in context.messages:
            text = " ".join(part.text for part in message.parts if part.HasField("text"))
            self._print(f"{role_name(message.role)}: {text}")
        self._print(f"{context.token_count} tokens, as estimated")

    def _cost(self, _: str) -> None:
        self._print(str(self.spent))

    def _help(self, _: str) -> None:
        for name, (wanted, what, _run) in self._run.items():
            self._print(f"{name} {wanted}".ljust(20) + what)
        self._print("/quit".ljust(20) + "end the chat, as Ctrl-D does; Ctrl-C ends an answer")


def _text(hit: memory_pb2.RecallHit) -> str:
    if hit.HasField("fact"):
        return f"fact {hit.fact.fact_id}: {hit.fact.text}"
    if hit.HasField("episode"):
        return f"episode: {hit.episode.title}"
    words = " ".join(part.text for part in hit.turn.parts if part.HasField("text"))
    return f"{hit.turn.time.ToDatetime():%Y-%m-%d} {role_name(hit.turn.role)}: {words}"
