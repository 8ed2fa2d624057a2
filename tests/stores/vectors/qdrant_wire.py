"""Qdrant's HTTP API in front of its client's local mode.

No package brings a Qdrant server here, so this stands in for one: requests are read by the models
of Qdrant's own description and answered by its own local mode. It shows that our requests are
right on the wire, not how a server performs.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from qdrant_client import QdrantClient, models


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    local: QdrantClient
    lock: threading.Lock

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else {}
        _, _, name, *rest = urlsplit(self.path).path.split("/")
        with self.lock:
            known = self.local.collection_exists(name)
            creates = self.command == "PUT" and not rest
            if known or creates or rest == ["exists"]:
                status, result = 200, self._answer(name, "/".join(rest), body)
            else:
                status, result = 404, None
        answer = json.dumps({"result": result, "status": "ok", "time": 0.0}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = _serve

    def _answer(self, name: str, what: str, body: dict[str, Any]) -> Any:
        done = {"operation_id": 0, "status": "completed"}
        match self.command, what:
            case "GET", "exists":
                return {"exists": self.local.collection_exists(name)}
            case "PUT", "":
                wanted = models.CreateCollection.model_validate(body)
                return self.local.create_collection(name, vectors_config=wanted.vectors)
            case "DELETE", "":
                return self.local.delete_collection(name)
            case "PUT", "index":
                models.CreateFieldIndex.model_validate(body)
            case "PUT", "points":
                self.local.upsert(name, models.PointsList.model_validate(body).points)
            case "POST", "points/delete":
                self.local.delete(name, models.FilterSelector.model_validate(body))
            case "POST", "points/count":
                asked = models.CountRequest.model_validate(body)
                return {"count": self.local.count(name, count_filter=asked.filter).count}
            case "POST", "points/query":
                query = models.QueryRequest.model_validate(body)
                found = self.local.query_points(
                    name,
                    query=query.query,
                    query_filter=query.filter,
                    limit=query.limit,
                    with_payload=query.with_payload,
                )
                return found.model_dump(mode="json")
            case other:
                raise AssertionError(f"unexpected: {other}")
        return done

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def qdrant_wire() -> Iterator[str]:
    """Serve on a free port; yields the store's URL."""
    state = {"local": QdrantClient(":memory:"), "lock": threading.Lock()}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), state))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"qdrant+http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
