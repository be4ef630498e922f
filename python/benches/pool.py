"""`procpool.Pool` beside `multiprocessing.Pool`, in one run: `python benches/pool.py [--quick]`.

Each case is run with one pool and then the other, several times, and the best time of each counts: the machine has other
things to do, too. The last column is how many times as fast procpool is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy

import procpool

PROCESSES = 2


def identity(value: Any) -> Any:
    return value


def nothing(value: Any) -> None:
    pass


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def apply_latency(pool: Any) -> float:
    return statistics.median(seconds(lambda: pool.apply(identity, (1,))) for _ in range(300))


def exhaust(iterator: Iterator[Any]) -> None:
    for _ in iterator:
        pass


def cases(scale: int) -> dict[str, Callable[[Any], float]]:
    """Returns what is measured, each as a function that returns a time in seconds."""
    count = 1_000_000 // scale
    ints, tuples = list(range(count)), [(n, n + 0.5) for n in range(count)]
    few, megabyte = list(range(count // 20)), bytes(1 << 20)
    array = numpy.ones(8 << 20)
    return {
        f"map, {count:,} ints": lambda pool: seconds(lambda: pool.map(identity, ints)),
        f"map, {count:,} ints, no results": lambda pool: seconds(lambda: pool.map(nothing, ints)),
        f"map, {count:,} tuples": lambda pool: seconds(lambda: pool.map(identity, tuples)),
        f"imap, {len(few):,} ints": lambda pool: seconds(lambda: exhaust(pool.imap(identity, few))),
        "apply, median": apply_latency,
        "map, 64 bytes of 1 MiB": lambda pool: seconds(lambda: pool.map(identity, [megabyte] * 64, chunksize=1)),
        "map, 4 arrays of 64 MiB": lambda pool: seconds(lambda: pool.map(identity, [array] * 4, chunksize=1)),
    }


def start(pool_type: Any) -> float:
    """Returns how long the first result takes."""
    begin = time.perf_counter()
    with pool_type(PROCESSES) as pool:
        pool.apply(identity, (1,))
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    types = {"multiprocessing": multiprocessing.Pool, "procpool": procpool.Pool}
    measured = {"start to first result": {name: min(start(kind) for _ in range(5)) for name, kind in types.items()}}
    pools = {name: kind(PROCESSES) for name, kind in types.items()}
    for name, case in cases(10 if arguments.quick else 1).items():
        best = dict.fromkeys(pools, float("inf"))
        for _ in range(arguments.rounds):
            for kind, pool in pools.items():
                best[kind] = min(best[kind], case(pool))
        measured[name] = best
    for pool in pools.values():
        pool.terminate()
        pool.join()
    print(f"{'':34} {'multiprocessing':>16} {'procpool':>12} {'ratio':>7}")
    for name, times in measured.items():
        theirs, ours = times["multiprocessing"], times["procpool"]
        print(f"{name:34} {theirs * 1e3:13.3f} ms {ours * 1e3:9.3f} ms {theirs / ours:6.2f} x")


if __name__ == "__main__":
    main()
