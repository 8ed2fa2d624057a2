"""Loading goes without the garbage collector, which works as ever afterwards."""

import subprocess
import sys

LOAD = """
import gc
from recollect_server.cli.loading import loading

try:
    with loading():
        assert not gc.isenabled()
        import asyncio
        import no_such_module
except ModuleNotFoundError:
    pass
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
"""

SERVE = """
import gc, sys
from recollect_server.cli import main

try:
    main(["serve", "--help"])
except SystemExit:
    pass
assert "recollect_server.config" in sys.modules
assert gc.isenabled()
assert gc.get_freeze_count() > 1000
"""


def _run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_what_was_loaded_is_not_looked_through_again_also_when_loading_fails():
    _run(LOAD)


def test_commands_are_loaded_so():
    _run(SERVE)
