"""The Python client's runner; README.md beside its folder has the protocol."""

import asyncio
import contextlib
import inspect
import json
import re
import sys
from collections.abc import AsyncIterator
from datetime import UTC
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from recollect import AsyncRecollect, errors
from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, memory_pb2

PARTS = {"MemoryService": "memory", "CacheService": "cache", "ChatService": "chat"}
NAMES = {"Chat": "send", "StreamChat": "stream", "ResumeChat": "resume"}
SERVICES = {
    service.name: service
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
}
UPDATED = {"UpdateSession": "session", "UpdateFact": "fact"}


def _open(address: str, tls_roots: str | None = None, **options: Any) -> AsyncRecollect:
    roots = Path(tls_roots).read_bytes() if tls_roots else None
    return AsyncRecollect(address, root_certificates=roots, **options)


def _arguments(method: str, request: Message) -> dict[str, Any]:
    """Return what a user of the client would pass: the fields that are set, as plain values."""
    given = {field.name: _plain(getattr(request, field.name)) for field, _ in request.ListFields()}
    if method in UPDATED:
        resource = given.pop(UPDATED[method], None)
        for path in given.pop("update_mask").paths if "update_mask" in given else ():
            given[path] = _plain(getattr(resource, path))
    return given


def _plain(value: Any) -> Any:
    if isinstance(value, Timestamp):
        return value.ToDatetime(UTC)
    return value.ToTimedelta() if isinstance(value, Duration) else value


def _call(client: AsyncRecollect, name: str, fields: Any, timeout: float | None) -> Any:
    service, _, method = name.partition("/")
    part = getattr(client, PARTS.get(service, "admin"))
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", method).lower()
    run = getattr(part, NAMES.get(method, snake))
    more = {} if timeout is None else {"timeout": timeout}
    if method == "ImportUser":
        return run(fields[0]["user_id"], [f["record_json"] for f in fields], **more)
    descriptor = SERVICES[service].methods_by_name[method].input_type
    request = json_format.ParseDict(fields, GetMessageClass(descriptor)())
    given = _arguments(method, request) | more
    for parameter in inspect.signature(run).parameters.values():
        if parameter.default is parameter.empty:
            given.setdefault(parameter.name, getattr(request, parameter.name, None))
    return run(**given)


def _json(value: Any) -> Any:
    if isinstance(value, Message):
        return json_format.MessageToDict(value, preserving_proto_field_name=True)
    return [_json(one) for one in value] if isinstance(value, list) else value


def _error(error: errors.RecollectError) -> dict[str, Any]:
    return {
        "code": error.code.name,
        "reason": error.reason,
        "message": error.message,
        "field_violations": [
            {"field": field, "description": text} for field, text in error.field_violations
        ],
        "retry_after": error.retry_after or 0,
        "metadata": error.metadata,
        "call_id": error.call_id,
    }


class Runner:
    """Executes steps and writes what comes of them."""

    def __init__(self) -> None:
        self._clients: dict[str, AsyncRecollect] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Execute what stdin says until it ends."""
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            step = json.loads(line)
            self._tasks[step["id"]] = asyncio.create_task(self._step(**step))
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        for client in self._clients.values():
            await client.close()

    async def _step(self, id: int, do: str, **more: Any) -> None:
        try:
            await getattr(self, f"_{do}")(id, **more)
        except errors.RecollectError as error:
            _say(id, error=_error(error))
        except asyncio.CancelledError:
            _say(id, error={"code": "CANCELLED"})
        except Exception as error:  # noqa: BLE001 - a refusal by the client itself, or a defect
            _say(id, error={"code": "CLIENT", "message": f"{type(error).__name__}: {error}"})

    async def _open(self, id: int, client: str, options: dict[str, Any]) -> None:
        self._clients[client] = _open(**options)
        _say(id, value=None)

    async def _close(self, id: int, client: str) -> None:
        await self._clients.pop(client).close()
        _say(id, value=None)

    async def _cancel(self, id: int, call: int) -> None:
        self._tasks[call].cancel()
        _say(id, value=None)

    async def _call(
        self,
        id: int,
        client: str,
        method: str,
        request: Any,
        timeout: float | None = None,
        take: int | None = None,
    ) -> None:
        called = _call(self._clients[client], method, request, timeout)
        if not isinstance(called, AsyncIterator):
            result = await called
            whole = isinstance(result, Message) and result.DESCRIPTOR.name.endswith("Response")
            _say(id, **{"result" if whole else "value": _json(result)})
            return
        seen = 0
        async with contextlib.aclosing(called) as items:  # type: ignore[type-var]
            async for item in items:
                _say(id, item=_json(item))
                seen += 1
                if seen == take:
                    break
        _say(id, value=None)


def _say(id: int, **answer: Any) -> None:
    print(json.dumps({"id": id, **answer}), flush=True)


if __name__ == "__main__":
    asyncio.run(Runner().run())
