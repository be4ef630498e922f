"""Imports the user's module and finds the functions in it."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from .._function import FunctionOptions, options_of
from .errors import shorten
from .source import SourceLoader, load_by_content

_T = TypeVar("_T")

_MAX_NAME_BYTES = 256
_MAX_SIGNATURE_BYTES = 4 << 10
_MAX_DOC_BYTES = 16 << 10
_MAX_EXAMPLE_BYTES = 16 << 10


class LoadError(Exception):
    """A worker cannot run the module; the message says why and what to do."""


@dataclass(frozen=True)
class WorkerFunction:
    """A function that can be called by name."""

    name: str
    call: Callable[..., Any]
    signature: str
    doc: str
    example: str
    idempotent: bool
    nan_as_null: bool


def load_module(target: str) -> ModuleType:
    """Import a module by its dotted name, or from a `.py` file. Exceptions of the import are not caught.

    Raises:
        LoadError: If there is no such file, or it would hide a module of Python itself.

    """
    sys.argv = [target]
    load_by_content()
    if not target.endswith(".py") and os.sep not in target:
        # As with `python -m`, modules of the current directory can be imported.
        if "" not in sys.path and str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        return importlib.import_module(target)
    path = Path(target).absolute()
    if not path.is_file():
        raise LoadError(f"there is no file {path}")
    if path.suffix != ".py":
        raise LoadError(f"{path} is not a Python file: its name must end in .py")
    name = path.stem
    if name in sys.stdlib_module_names or name in sys.modules:
        raise LoadError(f"{path.name} has the name of a module that Python itself imports; rename the file")
    # The modules beside it can be imported, and processes that it starts can import it by its name.
    sys.path.insert(0, str(path.parent))
    loader = SourceLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert spec is not None, "it has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    loader.exec_module(module)
    return module


def find_initializer(module: ModuleType, name: str) -> Callable[[], Any]:
    """Return the function to run before the first item.

    Raises:
        LoadError: If the module has no such function.

    """
    initializer = getattr(module, name, None)
    if not callable(initializer):
        raise LoadError(f"--init {name}: the module {module.__name__} has no such function")
    return _runnable(initializer)


def find_functions(module: ModuleType, initializer: str | None = None) -> dict[str, WorkerFunction]:
    """Return the public functions of a module, by name.

    They are the callables that `__all__` lists; without `__all__`, the functions that the module defines and whose
    names do not start with `_`, and those that it decorates with `procpool.function`.

    Raises:
        LoadError: If there is none, or one of them cannot be exposed.

    """
    functions: dict[str, WorkerFunction] = {}
    for attribute in _public_names(module):
        if attribute == initializer:
            continue
        function = _describe(attribute, getattr(module, attribute))
        if function.name in functions:
            raise LoadError(f"the module {module.__name__} has two functions with the name {function.name!r}")
        functions[function.name] = function
    if not functions:
        raise LoadError(
            f"the module {module.__name__} has no public functions: define one whose name does not start with _, or "
            "list what it imports in __all__"
        )
    return dict(sorted(functions.items()))


def _public_names(module: ModuleType) -> list[str]:
    listed = getattr(module, "__all__", None)
    if listed is not None:
        missing = [name for name in listed if not _attempt(partial(hasattr, module, name), False)]
        if missing:
            raise LoadError(f"__all__ of the module {module.__name__} lists {missing[0]!r}, which it does not have")
        return [name for name in dict.fromkeys(listed) if callable(getattr(module, name))]
    # A copy: inspecting an object may run code that adds a name.
    return [name for name, value in list(vars(module).items()) if _is_exposed(module, name, value)]


def _is_exposed(module: ModuleType, name: str, value: object) -> bool:
    def look() -> bool:
        if not callable(value) or inspect.isclass(value) or getattr(value, "__module__", None) != module.__name__:
            return False
        if options_of(value) is not None:
            return True
        # An object of a class with __call__ is a function only if it is decorated or listed.
        is_function = inspect.isroutine(value) or hasattr(value, "__wrapped__")
        return is_function and not name.startswith("_")

    # An object that fails these checks is not a function, such as a proxy of something that does not exist yet.
    return _attempt(look, False)


def _attempt(look: Callable[[], _T], otherwise: _T) -> _T:
    """Inspect a user's object, whose code may raise anything: one function must not make all others unavailable."""
    try:
        return look()
    except BaseException:
        return otherwise


def _describe(attribute: str, value: Callable[..., Any]) -> WorkerFunction:
    options = _attempt(lambda: options_of(value), None) or FunctionOptions()
    name = options.name or attribute
    if len(name.encode(errors="replace")) > _MAX_NAME_BYTES or not name.isprintable():
        raise LoadError(f"a function can't be called {name[:100]!r}: at most 256 bytes, all of them printable")
    # Some functions written in C have none.
    signature = _attempt(lambda: inspect.signature(value), None)
    # protobuf takes no lone surrogates.
    example = _example(name, signature, options.example).encode(errors="backslashreplace").decode()
    return WorkerFunction(
        name=name,
        call=_runnable(value),
        signature=_text(lambda: "" if signature is None else str(signature), _MAX_SIGNATURE_BYTES),
        doc=_text(lambda: inspect.getdoc(value) or "", _MAX_DOC_BYTES),
        # An incomplete example is dropped.
        example=example if len(example.encode()) <= _MAX_EXAMPLE_BYTES else "",
        idempotent=options.idempotent,
        nan_as_null=options.nan == "null",
    )


def _text(look: Callable[[], str], max_bytes: int) -> str:
    """Return a text for people; empty if it cannot be determined."""
    return _attempt(lambda: shorten(look(), max_bytes), "")


def _runnable(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs to completion: a coroutine function gets an event loop for each item."""
    # An object may have a coroutine function as its __call__.
    is_coroutine_function = _attempt(lambda: inspect.iscoroutinefunction(function), False) or _attempt(
        lambda: inspect.iscoroutinefunction(type(function).__call__), False
    )
    return (lambda *args, **kwargs: asyncio.run(function(*args, **kwargs))) if is_coroutine_function else function


# By the annotated type of a parameter: example values for the first and the second item.
_SAMPLES: dict[str, tuple[Any, Any]] = {
    "int": (2, 3),
    "float": (0.5, 1.5),
    "str": ("a", "b"),
    "bool": (True, False),
    "list": ([1, 2], [3]),
    "dict": ({"key": 1}, {"key": 2}),
}


def _example(name: str, signature: inspect.Signature | None, wanted: str | list[Any] | None) -> str:
    """Return a request as JSON, to paste: the author's, or one made from the signature."""
    if isinstance(wanted, str):
        return wanted
    if wanted is not None:
        try:
            return json.dumps({"function": name, "values": wanted}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise LoadError(f"the example of {name} is not JSON: {error}") from error
    return "" if signature is None else _attempt(lambda: _example_for(name, signature), "")


def _example_for(name: str, signature: inspect.Signature) -> str:
    positional = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    required = [parameter for parameter in positional if parameter.default is parameter.empty]
    if any(
        parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty
        for parameter in signature.parameters.values()
    ):
        return ""
    if not required and not positional:
        return json.dumps({"function": name})
    samples = [_sample(parameter) for parameter in required or positional[:1]]
    if len(samples) == 1:
        return json.dumps({"function": name, "values": list(samples[0])})
    return json.dumps({"function": name, "values": [list(item) for item in zip(*samples, strict=True)]})


def _sample(parameter: inspect.Parameter) -> tuple[Any, Any]:
    annotation = parameter.annotation
    written = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return _SAMPLES.get(written.partition("[")[0], _SAMPLES["int"])
