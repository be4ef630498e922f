"""`procpool.Executor` does what a `concurrent.futures` executor does, and cancels what runs."""

import asyncio
import itertools
import subprocess
import sys
import threading
from concurrent import futures

import pytest
from pool import functions

import procpool


@pytest.fixture(scope="module")
def executor():
    with procpool.Executor(2) as executor:
        yield executor


def test_submit(executor):
    future = executor.submit(functions.power, 2, exponent=5)
    assert isinstance(future, futures.Future)
    assert future.result(30) == 32
    several = [executor.submit(lambda n: n + 1, n) for n in range(50)]
    assert sorted(future.result() for future in futures.as_completed(several, 30)) == list(range(1, 51))
    assert executor._max_workers == 2


def test_an_exception(executor):
    future = executor.submit(functions.fail_at_three, 3)
    assert type(future.exception(30)) is functions.OwnError
    # A worker that dies fails its own future only.
    died, others = executor.submit(functions.die_at_three, 3), [executor.submit(functions.square, n) for n in range(9)]
    assert [future.result(30) for future in others] == [n * n for n in range(9)]
    assert type(died.exception(30)) is procpool.WorkerCrashedError
    assert executor.submit(functions.square, 3).result(30) == 9


def test_running_work_is_cancelled(executor):
    slow = [executor.submit(functions.sleep, 60) for _ in range(2)]
    assert all(future.cancel() for future in slow)
    with pytest.raises(futures.CancelledError):
        slow[0].result(30)
    assert executor.submit(functions.square, 3).result(30) == 9


def test_map(executor):
    assert list(executor.map(functions.power, [2, 3], [4, 5])) == [16, 243]
    assert list(executor.map(functions.square, range(100), chunksize=7)) == [n * n for n in range(100)]
    endless = executor.map(functions.square, itertools.count(), buffersize=4)
    assert [next(endless) for _ in range(5)] == [0, 1, 4, 9, 16]
    endless.close()
    with pytest.raises(TimeoutError):
        list(executor.map(functions.sleep, [60], timeout=0.1))
    with pytest.raises(functions.OwnError):
        list(executor.map(functions.fail_at_three, range(5)))


def test_shutdown():
    executor = procpool.Executor(1)
    assert executor.submit(functions.square, 3).result(30) == 9
    waiting = [executor.submit(functions.sleep, 60) for _ in range(3)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in waiting)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(functions.square, 1)
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        procpool.Executor(0)


def test_an_event_loop_runs_things_in_it(executor):
    async def main():
        loop = asyncio.get_running_loop()
        results = [loop.run_in_executor(executor, functions.square, n) for n in range(5)]
        return await asyncio.gather(*results)

    assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_from_many_threads(executor):
    results = []

    def work():
        results.extend(executor.submit(functions.square, n).result(60) for n in range(50))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 400


@pytest.mark.parametrize("end", ["", "del executor, future"])
def test_the_end_of_the_program_waits_for_futures(end):
    script = f"""
import time
import procpool
executor = procpool.Executor(1)
future = executor.submit(time.sleep, 0.5)
future.add_done_callback(lambda future: print("done", future.result()))
{end}
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert result.stdout == "done None\n", result.stderr
