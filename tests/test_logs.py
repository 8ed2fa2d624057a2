"""Lines of the log: who calls, what failed, and nothing of what was said."""

import json
import subprocess
import sys

from recollect_server import logs
from recollect_server.rpc.call import ANYONE

SAID = "axolotl-passport"

PROGRAM = """
import structlog
from recollect_server import logs
from recollect_server.rpc.call import Call, current_call

logs.configure("info", "json")
log, text = structlog.get_logger("test"), "-".join(("axolotl", "passport"))
try:
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError(text) from error
except ValueError:
    log.exception("failed")
call = Call("/recollect.v1.MemoryService/Recall", None)
call.call_id, call.trace_id = "r-1", "ab" * 16
current_call.set(call)
log.info("called")
"""


def _lines() -> list[dict[str, str]]:
    # The log is a process's own.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_an_exception_is_named_and_placed_without_its_text():
    failed, _ = _lines()
    assert SAID not in json.dumps(failed)
    after, _, before = failed["exception"].partition("\nraised after\n")
    assert after.endswith("builtins.ValueError")
    assert before.endswith("builtins.KeyError")
    assert 'File "<string>", line' in after


def test_a_call_is_named_by_its_ids_and_a_digest_of_its_tenant():
    _, called = _lines()
    assert called["call_id"] == "r-1"
    assert called["trace_id"] == "ab" * 16
    assert called["tenant"] == logs.tenant_digest(ANYONE.tenant) != ANYONE.tenant
