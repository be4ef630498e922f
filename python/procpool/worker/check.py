"""`python -m procpool.worker --check MODULE [FUNCTION ARGUMENT…]`: looks at a module, or calls a function of it, in this
process. There is no server, so a debugger works.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

from .errors import one_line
from .loader import LoadError, WorkerFunction, find_functions, find_initializer, load_module

EXIT_FAILED = 1


def check(target: str, initializer_name: str | None, call: list[str]) -> int:
    """Print the functions of a module, or the result of one; it and the arguments are JSON. Return the exit code."""
    try:
        module = load_module(target)
        initializer = None if initializer_name is None else find_initializer(module, initializer_name)
        functions = find_functions(module, initializer_name)
    except LoadError as error:
        print(f"procpool.worker: {error}", file=sys.stderr)
        return EXIT_FAILED
    if not call:
        for function in functions.values():
            _show(function)
        return 0
    name, *texts = call
    if name not in functions:
        print(f"procpool.worker: {target} has no function {name}; it has: {', '.join(functions)}", file=sys.stderr)
        return EXIT_FAILED
    try:
        arguments = [_argument(text) for text in texts]
        if initializer is not None:
            initializer()
        print(json.dumps(functions[name].call(*arguments), default=repr))
    except Exception as error:
        traceback.print_exc()
        print(f"procpool.worker: {name} has failed: {one_line(error)}", file=sys.stderr)
        return EXIT_FAILED
    return 0


def _show(function: WorkerFunction) -> None:
    summary = function.doc.strip().partition("\n")[0]
    print(f"{function.name}{function.signature}" + (f"  {summary}" if summary else ""))


def _argument(text: str) -> Any:
    """Return what a text is as JSON; else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
