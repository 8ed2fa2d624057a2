"""Which part of a prompt can be compared by meaning, and which must be equal."""

from dataclasses import dataclass

from recollect_server.memory.model import Part, PromptMessage, Role, TextPart, ThinkingPart
from recollect_server.memory.prompt import Prompt

_SPEAKERS = (Role.USER, Role.ASSISTANT)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What the user and the model said to each other, and everything else between it.

    Attributes:
        roles: USER or ASSISTANT of each message, oldest first.
        texts: of each message, not empty.
        rest: messages of other kinds, such as tool calls, results and instructions: each with the
            number of messages of `texts` before it. They are compared as they are.
    """

    roles: tuple[Role, ...]
    texts: tuple[str, ...]
    rest: tuple[tuple[int, PromptMessage], ...]

    @property
    def comparable(self) -> bool:
        """Whether the prompt asks by a text of the user, so that meaning can be compared."""
        return bool(self.roles) and self.roles[-1] is Role.USER and not self._ends_in_rest()

    def _ends_in_rest(self) -> bool:
        return bool(self.rest) and self.rest[-1][0] == len(self.texts)


def spoken_text(parts: tuple[Part, ...]) -> str:
    """Return what a message says, without reasoning and tools."""
    return "\n".join(part.text for part in parts if isinstance(part, TextPart))


def dialogue_of(prompt: Prompt) -> Dialogue:
    """Take a prompt apart. The model's reasoning counts for nothing beside what it said."""
    roles: list[Role] = []
    texts: list[str] = []
    rest: list[tuple[int, PromptMessage]] = []
    for message in prompt.messages:
        plain = all(isinstance(part, TextPart | ThinkingPart) for part in message.parts)
        text = spoken_text(message.parts)
        if plain and message.role in _SPEAKERS and text.strip():
            roles.append(message.role)
            texts.append(text)
        else:
            rest.append((len(texts), message))
    return Dialogue(tuple(roles), tuple(texts), tuple(rest))
