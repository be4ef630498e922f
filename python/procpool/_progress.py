"""How far a call is, for people: a bar of tqdm, if that is there, else a line on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = bool | Callable[[int, int], object]
"""Whether to show how far a call is; or what to call with the number of items that have ended, and of all."""


@contextmanager
def reporter(progress: Progress) -> Iterator[Callable[[int, int], object]]:
    """Return what to tell how far the call is."""
    if callable(progress):
        yield progress
        return
    try:
        from tqdm.auto import tqdm
    except ImportError:
        yield _write_line
        sys.stderr.write("\n")
        return
    with tqdm() as bar:

        def update(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield update


def _write_line(done: int, total: int) -> None:
    sys.stderr.write(f"\r{done} of {total} items")
    sys.stderr.flush()
