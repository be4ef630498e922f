"""A backend for joblib, and so for scikit-learn: `parallel_config(backend="procpool")`."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle
from joblib import cpu_count, register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, FallbackToBackend, ParallelBackendBase, SequentialBackend

from ._idle_pool import IdlePool
from ._joblib_batches import BatchPickler, dumps_results
from .pool import Pool

_idle = IdlePool()

# pytest changes it with every test: workers would be replaced as often.
_NOT_FOR_WORKERS = frozenset({"PYTEST_CURRENT_TEST"})


class ProcpoolBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the batches of joblib in a pool: its own, or the server at `address`."""

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, address: str | None = None, **settings: Any) -> None:
        """Take the address of a server. Without one, a private pool is started, and kept for the next parallel call."""
        super().__init__(**settings)
        self._address = address
        self._pool: Pool | None = None
        self._key: object = None
        self._pickler: BatchPickler | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches run at a time."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(1, self._worker_count() + 1 + n_jobs)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        prefer: object = None,
        require: object = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        max_nbytes: int | None = 1_000_000,
        mmap_mode: str | None = "r",
        temp_folder: str | None = None,
        verbose: int = 0,
        **_: Any,
    ) -> int:
        """Prepare to run; return how many batches run at a time."""
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        settings = {"initializer": initializer, "initargs": initargs, **self.backend_kwargs}
        if self._address is not None:
            self._pool = Pool(self._address)
        else:
            self._pool = self._private_pool(n_jobs, settings["initializer"], tuple(settings["initargs"]))
        reads_our_files = self._address is None or self._address.startswith("unix:")
        self._pickler = BatchPickler(max_nbytes if reads_our_files else None, mmap_mode, temp_folder, verbose)
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], object]) -> Any:
        """Begin to run a batch. Whatever goes wrong, the callback hears of it: joblib calls this on its own threads, too."""
        try:
            assert self._pool is not None and self._pickler is not None, "joblib configures first"
            pickled = self._pickler.dumps(func)
            return self._pool.apply_async(_run, (pickled,), callback=callback, error_callback=callback)
        except Exception as error:
            callback(error)
            return None

    def retrieve_result_callback(self, out: bytes | BaseException) -> Any:
        """Return the results of a batch, or raise its exception: `out` is what the callback got."""
        if isinstance(out, BaseException):
            raise out
        return pickle.loads(out)

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel, **self.parallel._backend_kwargs)

    def terminate(self) -> None:
        """End the call: its pool is free for the next one."""
        pool, self._pool = self._pool, None
        if pool is not None and self._address is None:
            _idle.give(self._key, pool)
        elif pool is not None:
            pool.terminate()
        if self._pickler is not None:
            self._pickler.close()
            self._pickler = None
        self.reset_batch_stats()

    def _private_pool(self, n_jobs: int, initializer: Callable[..., object] | None, initargs: tuple[Any, ...]) -> Pool:
        limits = self._prepare_worker_env(n_jobs)
        # Workers are as this process was when they were started.
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_WORKERS}
        now = (environment, tuple(sys.path), os.getcwd())  # noqa: PTH109
        self._key = (n_jobs, limits, now, initializer and cloudpickle.dumps((initializer, initargs)))
        settings = {"environment": [f"{name}={value}" for name, value in limits.items()]}
        return _idle.take(self._key) or Pool(n_jobs, initializer, initargs, settings=settings)

    def _worker_count(self) -> int:
        if self._address is None:
            return int(cpu_count())
        with Pool(self._address) as pool:
            return pool.num_workers()


def _run(pickled: bytes) -> bytes:
    """Run a batch, in a worker; return the pickle of its results."""
    # A batch may have parallel calls itself.
    register()
    return dumps_results(pickle.loads(pickled)())


def register() -> None:
    """Make the backend known to joblib."""
    register_parallel_backend("procpool", ProcpoolBackend)
