"""Plays a scenario with one language's runner, and evaluates what comes of it."""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from google.protobuf import any_pb2
from google.protobuf.json_format import ParseError
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from tests.conformance.contract import METHODS, Method, item, plain, result
from tests.conformance.matching import at, differences, filled
from tests.conformance.proxy import Fault, Proxy
from tests.conformance.runner import Call, Runner
from tests.conformance.servers import CERTIFICATE, act
from tests.harness import RunningServer

FOLDER = Path(__file__).parent
UNTIL_SECONDS = 30.0
UNTIL_PAUSE = 0.05


@dataclass(frozen=True)
class Scenario:
    """A scenario of the files, which `scenario.schema.json` describes."""

    topic: str
    name: str
    server: str
    needs: tuple[str, ...]
    data: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.topic}:{self.name}"


class NotServed(Exception):
    """The server does not serve yet what the scenario needs."""


class Failed(AssertionError):
    """The client, or the server, did not do what the scenario says."""


def scenarios() -> list[Scenario]:
    """Return all scenarios.

    Raises:
        jsonschema.ValidationError: a file breaks the schema.
    """
    schema = json.loads((FOLDER / "scenario.schema.json").read_text())
    found = []
    for file in sorted((FOLDER / "scenarios").glob("*.yaml")):
        listed = yaml.safe_load(file.read_text())
        jsonschema.validate(listed, schema)
        found += [
            Scenario(file.stem, s["name"], s.get("server", "plain"), tuple(s.get("needs", ())), s)
            for s in listed
        ]
    return found


def status(error: dict[str, Any]) -> status_pb2.Status:
    """Return the status by which a server would say an error."""
    made = status_pb2.Status(
        code=code_pb2.Code.Value(error["code"]), message=error.get("message", "injected")
    )
    details: list[Message] = []
    if "reason" in error:
        details.append(
            error_details_pb2.ErrorInfo(
                reason=error["reason"], domain="recollect", metadata=error.get("metadata")
            )
        )
        details.append(error_details_pb2.RequestInfo(request_id="injected-1"))
    if "retry_after" in error:
        seconds, rest = divmod(error["retry_after"], 1)
        delay = {"seconds": int(seconds), "nanos": int(rest * 1e9)}
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        made.details.append(packed)
    return made


class Play:
    """One playing of a scenario.

    Args:
        admin_key: a key of the role ADMIN, where the server asks for keys.
    """

    def __init__(
        self, scenario: Scenario, runner: Runner, server: RunningServer, admin_key: str = ""
    ) -> None:
        self._scenario = scenario
        self._runner = runner
        self._server = server
        self._calls: dict[str, tuple[Method, Call]] = {}
        self._clients: list[str] = []
        self._variables: dict[str, Any] = {
            "admin_key": admin_key,
            "uuid": str(uuid.uuid4()),
            "unique": uuid.uuid4().hex[:12],
            "user": f"ada-{uuid.uuid4().hex[:12]}",
            "roots": str(CERTIFICATE),
        }

    def run(self) -> None:
        """Play it.

        Raises:
            Failed: something is not as the scenario says.
            NotServed: the server does not serve yet what it needs.
        """
        with Proxy(self._server.address) as proxy:
            self._proxy = proxy
            port = self._server.address.rpartition(":")[2]
            self._variables["proxy"] = proxy.address
            self._variables["direct"] = f"localhost:{port}"
            self._faults(self._scenario.data.get("faults", []))
            try:
                self._open("main", self._scenario.data.get("client", {}))
                for number, step in enumerate(self._scenario.data["steps"], 1):
                    try:
                        self._step(step)
                    except Failed as error:
                        raise Failed(f"{self._scenario}, step {number}: {error}") from None
                self._check_sent()
            finally:
                for client in self._clients:
                    self._runner.ask("close", client=client)

    def _open(self, client: str, options: dict[str, Any], expected: Any = None) -> None:
        default = {"address": self._variables["proxy"], "user_id": self._variables["user"]}
        options = default | filled(options, self._variables)
        answer = self._runner.ask("open", client=client, options=options)
        if expected is None:
            self._answered(answer)
            self._clients.append(client)
        elif found := differences(expected, answer):
            raise Failed("; ".join(found))

    def _answered(self, answer: dict[str, Any]) -> None:
        if "error" in answer:
            raise Failed(f"the client answers {answer['error']}")

    def _step(self, step: dict[str, Any]) -> None:
        if "open" in step:
            self._open(step["open"], step.get("options", {}), step.get("expect"))
        elif "close" in step:
            self._clients.remove(step["close"])
            self._answered(self._runner.ask("close", client=step["close"]))
        elif "faults" in step:
            self._faults(step["faults"])
        elif "server" in step:
            act(self._server, step["server"])
        elif "cancel" in step:
            _, call = self._calls[step["cancel"]]
            self._answered(self._runner.ask("cancel", call=call.number))
        elif "wait" in step:
            method, call = self._calls[step["wait"]]
            call.wait(step.get("items"))
            self._judge(step, method, call)
        else:
            self._call(step)

    def _faults(self, faults: list[dict[str, Any]]) -> None:
        made = []
        for fault in faults:
            values = filled(fault, self._variables)
            error = values.pop("error", None)
            made.append(Fault(**values, status=status(error) if error else None))
        self._proxy.faults = made

    def _call(self, step: dict[str, Any]) -> None:
        ends = time.monotonic() + UNTIL_SECONDS
        while True:
            method, call = self._begin(step)
            if "start" in step:
                self._calls[step["start"]] = method, call
                return
            call.wait()
            try:
                self._judge(step, method, call)
            except Failed:
                if not step.get("until") or time.monotonic() > ends:
                    raise
                time.sleep(UNTIL_PAUSE)
            else:
                return

    def _begin(self, step: dict[str, Any]) -> tuple[Method, Call]:
        method = METHODS[step["call"]]
        more = {name: step[name] for name in ("timeout", "take") if name in step}
        request = filled(step.get("request", {}), self._variables)
        return method, self._runner.tell(
            "call",
            client=step.get("client", "main"),
            method=method.name,
            request=request,
            **more,
        )

    def _judge(self, step: dict[str, Any], method: Method, call: Call) -> None:
        outcome = _outcome(method, call)
        error = outcome.get("error", {})
        expected = filled(step.get("expect", {}), self._variables)
        if error.get("reason") == "NOT_IMPLEMENTED" and self._scenario.needs:
            raise NotServed(", ".join(self._scenario.needs))
        if "error" in outcome and "error" not in expected:
            raise Failed(f"{method.name} fails with {error}")
        found = [line for key in expected for line in self._compare(key, expected, outcome)]
        if found:
            raise Failed(f"{method.name}: " + "; ".join(found))
        source = outcome.get("result", outcome.get("items"))
        for name, path in filled(step.get("save", {}), self._variables).items():
            try:
                self._variables[name] = at(source, path)
            except (KeyError, IndexError):
                raise Failed(f"{method.name}: no {path} in {source}") from None

    def _compare(
        self, key: str, expected: dict[str, Any], outcome: dict[str, Any]
    ) -> Iterator[str]:
        if key not in outcome:
            yield f"no {key} but {outcome}"
        else:
            yield from differences(expected[key], outcome[key], key)

    def _check_sent(self) -> None:
        for name, expected in self._scenario.data.get("sent", {}).items():
            tries = [sent for sent in self._proxy.sent if sent.method == name]
            found: list[str] = []
            if "tries" in expected and len(tries) != expected["tries"]:
                found.append(f"{len(tries)} tries, not {expected['tries']}")
            for sent in tries:
                pattern = filled(expected.get("metadata", {}), self._variables)
                found += differences(pattern, sent.metadata, "metadata")
            kind = next(m.request for m in METHODS.values() if m.name.endswith(f"/{name}"))
            requests = [plain(kind.FromString(data)) for t in tries for data in t.messages()]
            if "requests" in expected:
                pattern = filled(expected["requests"], self._variables)
                found += differences(pattern, requests, "requests")
            if "request_ids" in expected:
                ids = {request["request_id"] for request in requests}
                if "" in ids or len(ids) != expected["request_ids"]:
                    found.append(f"request ids {sorted(ids)}")
            if found:
                raise Failed(f"{self._scenario}: clients sent {name}: " + "; ".join(found))


def _outcome(method: Method, call: Call) -> dict[str, Any]:
    """Return what has come of a call: `error`, `result`, and for streams and lists `items`."""
    try:
        outcome: dict[str, Any] = {}
        if method.item is not None:
            outcome["items"] = [item(method, one) for one in call.items]
        if call.end is not None and "error" in call.end:
            outcome["error"] = call.end["error"]
        elif call.end is not None and method.item is None:
            outcome["result"] = result(method, call.end)
    except ParseError as error:
        raise Failed(f"{method.name}: the runner's answer is no message: {error}") from None
    return outcome
