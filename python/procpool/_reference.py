"""How a function is sent by value: as the name by which it can be imported where that is possible, else whole."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

from . import _pickling


class FunctionPickles:
    """Pickles functions, and keeps the pickles of those that are often called and cost much.

    Those are the functions of the main module: workers have another one, so they get these whole, with the global
    variables that they use. As with `multiprocessing.Pool`, whose workers are copies of this process, they see those as
    they were when the function was first used; a lambda or a closure is pickled anew in each call.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[Callable[..., Any], bytes] = WeakKeyDictionary()

    def dumps(self, function: Callable[..., Any]) -> bytes:
        """Return the pickle of a function.

        Raises:
            TypeError: It can't be called.
            Exception: It can't be pickled, whatever `pickle` says then.

        """
        if not callable(function):
            raise TypeError(f"the function must be callable or the name of one, not {type(function).__name__}")
        if type(function) is not FunctionType or function.__closure__ or function.__name__ == "<lambda>":
            return _pickling.dumps(function)
        pickled = self._kept.get(function)
        if pickled is None:
            pickled = self._kept[function] = _pickling.dumps(function)
        return pickled
