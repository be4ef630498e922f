"""The worker of a private pool: it has no module, and runs what comes with each call."""

from __future__ import annotations

from .. import _native
from .process import Program, run, takes_pickles


def run_by_value(initialization: bytes | None) -> None:
    """Run a worker until the server shuts it down or goes away.

    `initialization` is the pickle of a function and a tuple of arguments, to call before the first item.
    """
    takes_pickles()
    program = Program()
    if initialization is not None:
        program.initializer = lambda: _call_pickled(initialization)
    run(program, by_value=True)


def _call_pickled(initialization: bytes) -> None:
    function, arguments = _native.loads(initialization)
    function(*arguments)
