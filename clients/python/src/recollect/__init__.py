"""Client for the Recollect memory server.

`Recollect` blocks, `AsyncRecollect` awaits; both have the same methods. Results are the messages of
`recollect.v1`; failures are the exceptions of `recollect.errors`.
"""

from recollect import errors
from recollect._async.client import AsyncRecollect
from recollect._messages import assistant, system, tool_result, user
from recollect._sync.client import Recollect

__all__ = [
    "AsyncRecollect",
    "Recollect",
    "assistant",
    "errors",
    "system",
    "tool_result",
    "user",
]
