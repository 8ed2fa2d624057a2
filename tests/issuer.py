"""An issuer of JSON Web Tokens that publishes its keys at a URL."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://issuer.example"
AUDIENCE = "recollect"


class Issuer:
    """Signs tokens.

    Attributes:
        keys: private keys by name.
        published: the names of those that the key set holds.
        fetches: how often the key set was asked for.
        down: whether asking for it fails.
    """

    def __init__(self) -> None:
        self.keys: dict[str, tuple[str, Any]] = {}
        self.published: list[str] = []
        self.fetches = 0
        self.down = False

    def add_key(self, name: str, algorithm: str = "ES256", *, publish: bool = True) -> None:
        """Make a key pair."""
        make: Any = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
        }[algorithm]
        self.keys[name] = (algorithm, make())
        if publish:
            self.published.append(name)

    def key_set(self) -> dict[str, Any]:
        """Return the JSON Web Key Set."""
        found = []
        for name in self.published:
            algorithm, key = self.keys[name]
            kind: Any = {"ES256": ECAlgorithm, "RS256": RSAAlgorithm, "EdDSA": OKPAlgorithm}
            one = kind[algorithm].to_jwk(key.public_key(), as_dict=True)
            found.append(one | {"kid": name, "use": "sig", "alg": algorithm})
        return {"keys": found}

    def token(self, key: str, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """Return a token; a claim that is None is left out."""
        algorithm, private = self.keys[key]
        now = time.time()
        said = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "iat": now,
            "exp": now + 600,
            "tenant": "acme",
            "sub": "ada",
            "role": "writer",
        } | claims
        said = {name: value for name, value in said.items() if value is not None}
        head = {n: v for n, v in ({"kid": key} | (header or {})).items() if v is not None}
        return jwt.encode(said, private, algorithm, headers=head)


class IssuerServer(Issuer):
    """An issuer whose keys are at `url`."""

    def __init__(self) -> None:
        super().__init__()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps(issuer.key_set()).encode()
                self.send_response(500 if issuer.down else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks.json"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
