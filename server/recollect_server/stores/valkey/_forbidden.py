"""What a server's access rules (ACL) forbid, told to the log once in a while."""

import re
import time

import structlog

log = structlog.get_logger("recollect.valkey")

AGAIN_SECONDS = 600.0
"""After which the same is told again, if it still is forbidden."""


_IN_SCRIPT = re.compile("ACL failure in script|The user executing the script can't run")
"""So begins what is a plain error to the libraries; the second is of Redis before 7.2."""


class Forbidden:
    """Logs what is refused for want of a permission: no outage, and nothing that ends by itself.

    Args:
        kind: the library's name for it.
    """

    def __init__(self, kind: type[Exception]) -> None:
        self._kind = kind
        self._quiet: dict[tuple[str, str], float] = {}

    def __contains__(self, error: Exception) -> bool:
        """Whether this is what went wrong."""
        return isinstance(error, self._kind) or _IN_SCRIPT.match(str(error)) is not None

    def tell(self, place: str, refusal: Exception) -> None:
        """Log a refusal, unless it was of late.

        Args:
            place: the server's address, fit for logs.
        """
        what = _what(str(refusal))
        now = time.monotonic()
        if now >= self._quiet.get((place, what), 0.0):
            self._quiet[place, what] = now + AGAIN_SECONDS
            log.warning("store forbids what it is asked", store=place, forbidden=what)


def _what(text: str) -> str:
    """Name what is forbidden without the text, which may name the user."""
    if command := re.search(r"'([\w.|-]+)' command", text):
        return command[1]
    found = re.search("key|channel|script", text)
    return found[0] if found else "unknown"
