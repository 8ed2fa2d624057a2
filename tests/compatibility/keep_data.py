"""Make data by the server of an old source tree, and keep it for `test_upgrade.py`.

    git archive COMMIT | tar -x -C FOLDER
    python -m tests.compatibility.keep_data FOLDER NAME [--postgres]

writes `data/NAME/`: what the server said, its database, and what was in Valkey.
"""

import argparse
import base64
import gzip
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import grpc
from tests.compatibility.life import live, seen
from tests.compatibility.stub import Stub, read_contract
from tests.harness import RunningServer
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server as Valkey

DATA = Path(__file__).parent / "data"
BUSY = {"RECOLLECT_SUMMARY_RECENT": "3", "RECOLLECT_EPISODE_IDLE_SECONDS": "2"}


def main() -> None:
    """Make the data."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("name")
    parser.add_argument("--postgres", action="store_true")
    options = parser.parse_args()
    source = options.tree / "server"
    paths = (str(source), str(options.tree / "clients" / "python" / "src"))
    contract = read_contract(source / "recollect_server" / "rpc" / "contract.binpb")
    kept = DATA / options.name
    kept.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        valkey = Valkey()
        stack.callback(valkey.close)
        valkey.start()
        environment = BUSY | {
            "PYTHONPATH": os.pathsep.join(paths),
            "VALKEY_URL": valkey.url("valkey"),
        }
        postgres = None
        if options.postgres:
            postgres = stack.enter_context(PostgresServer())
            environment["DATABASE_URL"] = postgres.create()
            subprocess.run(
                [sys.executable, "-m", "recollect_server", "migrate"],
                check=True,
                env=os.environ | environment,
                cwd=tempfile.gettempdir(),
            )
        server = stack.enter_context(RunningServer(environment=environment))
        with grpc.insecure_channel(server.address) as channel:
            stub = Stub(contract, channel)
            live(stub)
            said = seen(stub)
        if postgres is None:
            _keep(kept / "valkey.json", _valkey(valkey))
        # By a crash, so that what a server has not tidied up is kept too.
        server.kill()
        if postgres is None:
            _keep(kept / "recollect.db.gz", _sqlite(server.data_dir / "recollect.db"))
            _keep(kept / "said.json", json.dumps(said, indent=1, ensure_ascii=False))
        else:
            program = postgres.programs / "pg_dump"
            url = environment["DATABASE_URL"]
            command = [program, "--no-owner", "--inserts", url]
            dumped = subprocess.run(command, check=True, capture_output=True, text=True)
            _keep(kept / "postgres.sql.gz", dumped.stdout)
            _keep(kept / "said-postgres.json", json.dumps(said, indent=1, ensure_ascii=False))


def _keep(file: Path, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(data, mtime=0) if file.suffix == ".gz" else data)


def _sqlite(path: Path) -> bytes:
    """Return the file as of now, with what is still in its log."""
    with closing(sqlite3.connect(path)) as database:
        return database.serialize()


def _valkey(valkey: Valkey) -> str:
    """Return all keys with their values as Valkey dumps them; what they live is left out."""
    kept = {
        base64.b64encode(key).decode(): base64.b64encode(valkey.admin.dump(key)).decode()
        for key in sorted(valkey.admin.keys())
    }
    return json.dumps(kept, indent=1)


if __name__ == "__main__":
    main()
