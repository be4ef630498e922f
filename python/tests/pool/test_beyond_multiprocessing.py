"""What `procpool.Pool` has beyond `multiprocessing.Pool`."""

import itertools
import multiprocessing
import os
import signal
import threading

import pytest
from pool import functions

import procpool


def test_a_killed_worker_takes_its_item_only(pool):
    results = pool.map(functions.die_at_three, range(10), on_error="return")
    assert [result for result in results if type(result) is int] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    error = results[3]
    assert type(error) is procpool.WorkerCrashedError
    assert (error.index, error.signal, error.attempt) == (3, signal.SIGKILL, 1)
    with pytest.raises(procpool.WorkerCrashedError):
        pool.map(functions.die_at_three, range(10))
    with pytest.raises(procpool.WorkerCrashedError):
        pool.apply(functions.die_at_three, (3,))


def test_a_crash_takes_one_of_a_hundred_thousand_items(pool):
    results = pool.map(functions.die_at_three, range(100_000), on_error="return")
    assert type(results[3]) is procpool.WorkerCrashedError
    assert results[:3] == [0, 1, 2]
    assert results[4:] == list(range(4, 100_000))


def test_errors_are_returned_at_their_places(pool):
    results = pool.map(functions.fail_at_three, range(6), on_error="return")
    assert results[:3] + results[4:] == [0, 1, 2, 4, 5]
    assert type(results[3]) is functions.OwnError
    iterated = list(pool.imap(functions.fail_at_three, range(6), on_error="return"))
    assert type(iterated[3]) is functions.OwnError
    assert iterated[4:] == [4, 5]


def test_an_item_has_a_time_limit(pool):
    results = pool.map(functions.sleep, [0, 60, 0], chunksize=1, timeout=0.2, on_error="return")
    assert results[::2] == [0, 0]
    assert type(results[1]) is procpool.ItemTimeoutError
    assert isinstance(results[1], TimeoutError)


def test_functions_of_every_kind(pool):
    factor = 3

    class Local:
        def __init__(self, value):
            self.value = value

        def times(self, other):
            return self.value * other

    assert pool.map(lambda number: number * factor, range(3)) == [0, 3, 6]
    assert pool.map(Local(5).times, range(3)) == [0, 5, 10]
    made = pool.map(Local, range(3))
    assert [type(one) for one in made] == [Local] * 3
    assert [one.value for one in made] == [0, 1, 2]
    assert pool.map(Local.times, [Local(4)] * 0) == []
    assert pool.starmap(Local.times, [(Local(4), 2)]) == [8]
    assert pool.map(str.upper, ["a"]) == ["A"]
    assert pool.apply(lambda *items, **named: (items, named), (1,), {"a": 2}) == ((1,), {"a": 2})
    # The arguments may be functions, too.
    assert pool.map(functions.identity, [lambda: 7])[0]() == 7


def test_a_closure_is_as_it_is_when_it_is_called(pool):
    counter = 0

    def read(_):
        return counter

    assert pool.map(read, range(2)) == [0, 0]
    counter = 1
    assert pool.map(read, range(2)) == [1, 1]


def test_an_endless_input_is_read_as_results_are_taken(pool):
    taken = []
    iterator = pool.imap(functions.square, (taken.append(n) or n for n in itertools.count()), buffersize=8)
    for expected in range(200):
        assert next(iterator) == expected**2
        assert len(taken) <= expected + 1 + 8
    iterator.close()
    assert list(iterator) == []


def test_an_iterator_that_is_dropped_frees_the_pool(pool):
    for _ in range(20):
        next(pool.imap_unordered(functions.sleep, itertools.repeat(0.001)))
    assert pool.map(functions.square, range(3)) == [0, 1, 4]


def test_istarmap(pool):
    assert list(pool.istarmap(functions.power, ((n, 2) for n in range(5)))) == [0, 1, 4, 9, 16]
    assert sorted(pool.istarmap_unordered(functions.power, ((n, 2) for n in range(5)))) == [0, 1, 4, 9, 16]


def test_items_and_results_may_be_longer_than_the_messages_of_other_servers(pool):
    [returned] = pool.map(functions.identity, [bytes(80 << 20)])
    assert len(returned) == 80 << 20


def test_progress(pool, capfd):
    reported = []
    assert pool.map(functions.sleep, [0.05] * 8, chunksize=1, progress=lambda *now: reported.append(now)) == [0.05] * 8
    assert reported[-1] == (8, 8)
    assert reported == sorted(reported)
    assert pool.starmap(functions.power, [(2, 3)], progress=True) == [8]
    assert "1" in capfd.readouterr().err


def test_progress_of_a_call_that_has_ended_before_somebody_looks(pool):
    result = pool.map_async(functions.square, range(3))
    assert result.get(30) == [0, 1, 4]
    reported = []
    assert pool._calls.wait_for(result, lambda *now: reported.append(now)) == [0, 1, 4]
    assert reported == [(3, 3)]


def test_running_work_is_cancelled(pool):
    result = pool.apply_async(functions.sleep, (60,))
    result.cancel()
    with pytest.raises(procpool.TerminatedError):
        result.get(30)
    assert pool.map(functions.square, range(3)) == [0, 1, 4]


def test_terminate_tells_who_waits():
    pool = procpool.Pool(1)
    called = []
    result = pool.apply_async(functions.sleep, (60,), error_callback=called.append)
    other = pool.map_async(functions.sleep, [60] * 3)
    iterator = pool.imap(functions.sleep, [60] * 3)
    threading.Timer(0.2, pool.terminate).start()
    for wait in [lambda: result.get(30), lambda: other.get(30), lambda: next(iterator)]:
        with pytest.raises(multiprocessing.TimeoutError) as raised:
            wait()
        assert type(raised.value) is procpool.TerminatedError
    assert type(called[0]) is procpool.TerminatedError
    pool.join()


def test_a_failing_initializer_is_told():
    with (
        procpool.Pool(1, functions.fail_to_set_up) as pool,
        pytest.raises(procpool.CallError, match="no luck") as raised,
    ):
        pool.map(functions.square, range(3))
    assert raised.value.reason == "POOL_DEGRADED"


def test_what_cannot_be_pickled_or_unpickled(pool):
    with pytest.raises(TypeError, match="pickle"):
        pool.map(functions.identity, [threading.Lock()])
    with pytest.raises(TypeError, match="pickle"):
        pool.map(threading.Lock().acquire, [1])
    with pytest.raises(procpool.RemoteError, match="not here"):
        pool.map(functions.identity, [Homebound()])
    with pytest.raises(ValueError, match="not here"):
        pool.map(lambda _: Homebound(), [1])
    assert pool.map(functions.square, range(3)) == [0, 1, 4]


HOME = os.getpid()


class Homebound:
    """It can be unpickled in the process that has made it, and nowhere else."""

    def __reduce__(self):
        return fail_elsewhere, (HOME,)


def fail_elsewhere(home):
    if os.getpid() != home:
        raise ValueError("not here")


def test_what_a_worker_starts_does_not_inherit_what_it_may(pool):
    assert pool.map(os.environ.get, ["PROCPOOL_ALLOW_PICKLE", "PROCPOOL_FD"]) == [None, None]
    # All else is as it is here.
    assert pool.map(os.environ.get, ["PATH"]) == [os.environ["PATH"]]
