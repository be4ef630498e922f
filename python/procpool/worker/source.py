"""Imports the user's modules from their current source.

Python's cache of compiled modules goes by the size of a file and the second in which it was written, so that a worker
that was started after a quick edit would run the code from before it. Here a cached module counts only if it has the
hash of its source, and is written in this form, which plain Python reads, too (PEP 552).
"""

from __future__ import annotations

import marshal
import os
import sys
import sysconfig
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.importlib import PathEntryFinderProtocol as PathEntryFinder

# The module is valid if its hash is that of the source, which must be compared.
_CHECKED_HASH = (0b11).to_bytes(4, "little")
_INSTALLED = ("site-packages", "dist-packages")


class SourceLoader(SourceFileLoader):
    """Loads a module by the content of its file."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of a module, from the cache if that was compiled from this source."""
        path = self.get_filename(fullname)
        source = self.get_data(path)
        header = MAGIC_NUMBER + _CHECKED_HASH + source_hash(source)
        try:
            cache_path = cache_from_source(path)
        except NotImplementedError:  # This Python has no cache.
            return self.source_to_code(source, path)
        code = self._cached(cache_path, header)
        # The code has another file name if the folder was moved.
        if code is None or code.co_filename != path:
            code = self.source_to_code(source, path)
            if not sys.dont_write_bytecode:
                # The cache is optional.
                self.set_data(cache_path, header + marshal.dumps(code))
        return code

    def _cached(self, path: str, header: bytes) -> CodeType | None:
        try:
            data = self.get_data(path)
            code = marshal.loads(data[len(header) :]) if data.startswith(header) else None
        except (OSError, EOFError, ValueError, TypeError):
            return None
        return code if isinstance(code, CodeType) else None


def load_by_content() -> None:
    """From now on, import by content all modules outside the standard library and site-packages."""
    hook = FileFinder.path_hook(
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )
    pythons = {os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")}

    def hook_of_users_folders(folder: str) -> PathEntryFinder:
        path = os.path.realpath(folder) + os.sep
        if path.startswith(tuple(pythons)) or not set(_INSTALLED).isdisjoint(Path(path).parts):
            raise ImportError(f"{folder} has no modules that somebody edits", path=folder)
        return hook(folder)

    sys.path_hooks.insert(0, hook_of_users_folders)
    sys.path_importer_cache.clear()
