"""A backend for joblib, and so for scikit-learn: `parallel_config(backend="procpool")`."""

from __future__ import annotations

from typing import Any

from joblib import register_parallel_backend
from joblib._parallel_backends import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

from .pool import Pool


class ProcpoolBackend(AutoBatchingMixin, ParallelBackendBase):
    """Runs the batches of joblib in a pool: its own, or the server at `address`."""

    supports_retrieve_callback = True
    supports_timeout = True
    supports_return_generator = True
    uses_threads = False
    supports_sharedmem = False

    def __init__(self, address: str | None = None, **settings: Any) -> None:
        """Take the address of a server; without one, each parallel call has a server of its own."""
        super().__init__(**settings)
        self._address = address
        self._pool: Pool | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many workers there are."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        import os

        count = len(os.sched_getaffinity(0))
        return max(1, count + 1 + n_jobs) if n_jobs < 0 else n_jobs

    def configure(self, n_jobs: int = 1, parallel: Any = None, **_: Any) -> int:
        """Prepare to run; return how many workers there are."""
        n_jobs = self.effective_n_jobs(n_jobs)
        self._pool = Pool(self._address if self._address is not None else n_jobs)
        self.parallel = parallel
        return n_jobs

    def submit(self, func: Any, callback: Any = None) -> Any:
        """Begin to run a batch."""
        assert self._pool is not None, "joblib configures first"
        return self._pool.apply_async(func, callback=callback, error_callback=callback)

    def retrieve_result_callback(self, out: Any) -> Any:
        """Return the result of a batch, or raise its exception: `out` is what the callback got."""
        if isinstance(out, BaseException):
            raise out
        return out

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End what runs."""
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def terminate(self) -> None:
        """End the pool."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    def get_nested_backend(self) -> Any:
        """Return the backend for what is parallel within an item: there is none."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def register() -> None:
    """Make the backend known to joblib."""
    register_parallel_backend("procpool", ProcpoolBackend)
