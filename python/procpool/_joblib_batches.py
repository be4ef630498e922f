"""How joblib's batches and their results travel: pickles in which large numpy arrays are names of memory-mapped files.

The files are joblib's, so its settings hold: `max_nbytes`, `mmap_mode`, `temp_folder`. Arrays below that size are pickled
once, as any other object.
"""

from __future__ import annotations

import io
import pickle
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import cloudpickle
from joblib._memmapping_reducer import (
    JOBLIB_MMAPS,
    ArrayMemmapForwardReducer,
    TemporaryResourcesManager,
    _get_backing_memmap,
    reduce_array_memmap_backward,
)

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

_PROTOCOL = 5
_Reduce = Callable[[Any], Any]


class BatchPickler:
    """Pickles the batches of one parallel call, and has the files that they need."""

    def __init__(self, max_nbytes: int | None, mmap_mode: str | None, temp_folder: str | None, verbose: int) -> None:
        """Take joblib's settings. `max_nbytes`: None if the workers can't read files of this process."""
        self._files: TemporaryResourcesManager | None = None
        self._reducers: dict[type, _Reduce] = {}
        if np is None or max_nbytes is None or mmap_mode is None:
            return
        self._files = TemporaryResourcesManager(temp_folder)
        # Files end with the call: the workers have no part in joblib's count of who uses them.
        to_file = ArrayMemmapForwardReducer(max_nbytes, self._files.resolve_temp_folder_name, mmap_mode, False, verbose)

        def reduce_array(array: Any) -> Any:
            has_file = isinstance(_get_backing_memmap(array), np.memmap)
            is_large = array.nbytes > max_nbytes and not array.dtype.hasobject
            return to_file(array) if has_file or is_large else _plain(array)

        self._reducers = {np.ndarray: reduce_array, np.memmap: reduce_array}

    def dumps(self, batch: Callable[[], Any]) -> bytes:
        """Return the pickle of a batch; write its large arrays to files.

        Raises:
            PicklingError: It can't be pickled.

        """
        try:
            return _dumps(batch, self._reducers)
        except Exception as error:
            raise pickle.PicklingError(f"Could not pickle the task to send to the workers: {error}") from error

    def close(self) -> None:
        """Remove the files."""
        if self._files is not None:
            self._files._clean_temporary_resources(allow_non_empty=True)


def dumps_results(results: Any) -> bytes:
    """Return the pickle of the results of a batch."""
    return _dumps(results, {} if np is None else {np.ndarray: _reduce_result, np.memmap: _reduce_result})


def _reduce_result(array: Any) -> Any:
    backing = _get_backing_memmap(array)
    if backing is None:
        return _plain(array)
    if backing.filename in JOBLIB_MMAPS:
        # The file ends with the call.
        return _plain(np.array(array))
    return reduce_array_memmap_backward(array)


def _plain(array: Any) -> Any:
    return np.asarray(array).__reduce_ex__(_PROTOCOL)


def _dumps(value: Any, reducers: dict[type, _Reduce]) -> bytes:
    stream = io.BytesIO()
    _Pickler(stream, reducers).dump(value)
    return stream.getvalue()


class _Pickler(cloudpickle.Pickler):
    def __init__(self, stream: io.BytesIO, reducers: dict[type, _Reduce]) -> None:
        # The pickler looks it up when it is made, not later.
        self.dispatch_table = ChainMap(reducers, cloudpickle.Pickler.dispatch_table)
        super().__init__(stream, protocol=_PROTOCOL)
