"""The key with which `multiprocessing` talks to its own, such as to a `Manager`: workers have that of who made the pool."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

_MODULE = "multiprocessing.process"


def set_authkey(key: bytes) -> None:
    """Give `multiprocessing` its key, at once or when it is imported: many workers never need it."""
    if _MODULE in sys.modules:
        _set(sys.modules[_MODULE], key)
    else:
        sys.meta_path.insert(0, _KeyFinder(key))


class _KeyFinder:
    def __init__(self, key: bytes) -> None:
        self._key = key

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        # Many workers never come here.
        from importlib.util import find_spec

        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_set(module: ModuleType) -> None:
            execute(module)
            _set(module, self._key)

        spec.loader.exec_module = execute_and_set  # type: ignore[method-assign]
        return spec


def _set(module: ModuleType, key: bytes) -> None:
    module.current_process().authkey = key
