"""`python -m recollect_server` is the `recollect` command."""

from recollect_server.cli import main

main()
