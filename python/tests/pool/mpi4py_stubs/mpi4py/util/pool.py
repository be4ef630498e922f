"""The pool that is tested."""

from procpool import Pool

ThreadPool = Pool

__all__ = ["Pool", "ThreadPool"]
