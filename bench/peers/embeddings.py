"""The server's own MiniLM behind OpenAI's `/v1/embeddings`, so that all search by one model.

Run as `python -m bench.peers.embeddings PORT`.
"""

import base64
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from recollect_server.models.minilm import Encoder

ENCODER = Encoder.bundled(0)
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers every POST with the vectors of its `input`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        """Embed a text or a list of texts."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        with LOCK:
            vectors = ENCODER.vectors(ENCODER.tokenise(texts))
        coded = asked.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(v.tobytes()).decode() if coded else v.tolist(),
            }
            for index, v in enumerate(vectors)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        answer = {"object": "list", "data": data, "model": asked.get("model"), "usage": usage}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a line a request costs more than the request."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
