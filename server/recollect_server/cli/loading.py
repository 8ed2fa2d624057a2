"""Loading modules without looking for garbage among what they make."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Import, or open what lives as long as the process, without the garbage collector.

    Nearly nothing of it is garbage, and the collector would look at all of it again and again:
    for a third of the time that a server takes to start, at 0.1 s each time while it serves, and
    for 0.2 s when it ends. Hereafter the collector works as ever on what is made later.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
