"""What holds for `multiprocessing.Pool` holds for `procpool.Pool`: each test runs with both."""

import multiprocessing
import operator
import threading
from multiprocessing.pool import MaybeEncodingError

import pytest
from pool import functions

NUMBERS = list(range(100))
SQUARES = [number * number for number in NUMBERS]


def test_apply(any_pool):
    assert any_pool.apply(functions.square, (7,)) == 49
    assert any_pool.apply(functions.power, (2,), {"exponent": 5}) == 32
    assert any_pool.apply(functions.keywords, [1, 2], {"three": 3}) == ((1, 2), {"three": 3})
    assert any_pool.apply(dict) == {}


def test_map(any_pool):
    assert any_pool.map(functions.square, NUMBERS) == SQUARES
    assert any_pool.map(functions.square, iter(NUMBERS), 7) == SQUARES
    assert any_pool.map(functions.square, range(100), chunksize=1) == SQUARES
    assert any_pool.map(functions.square, []) == []
    assert any_pool.map(str, {"a": 1, "b": 2}) == ["a", "b"]


def test_starmap(any_pool):
    pairs = [(base, 3) for base in range(10)]
    assert any_pool.starmap(functions.power, pairs) == [base**3 for base in range(10)]
    assert any_pool.starmap(operator.add, zip("ab", "cd", strict=True)) == ["ac", "bd"]
    assert any_pool.starmap(functions.keywords, ["ab", [1, 2]]) == [(("a", "b"), {}), ((1, 2), {})]


def test_imap(any_pool):
    iterator = any_pool.imap(functions.square, iter(NUMBERS))
    assert [next(iterator), iterator.next(), iterator.next(timeout=30)] == SQUARES[:3]
    assert list(iterator) == SQUARES[3:]
    with pytest.raises(StopIteration):
        next(iterator)
    assert sorted(any_pool.imap_unordered(functions.square, NUMBERS, chunksize=3)) == SQUARES
    assert list(any_pool.imap(functions.square, [])) == []


def test_the_next_result_may_take_too_long(any_pool):
    iterator = any_pool.imap(functions.sleep, [0.5])
    with pytest.raises(multiprocessing.TimeoutError):
        iterator.next(timeout=0.01)
    assert iterator.next(timeout=30) == 0.5


def test_values_of_many_types(any_pool):
    values = [None, True, 1, 1.0, -0.0, 2**70, "é", b"\0", (1, 2), [1, [2]], {"a": (1,)}, {1, 2}, frozenset(), 1j, ...]
    returned = any_pool.map(functions.identity, values)
    assert returned == values
    assert [type(value) for value in returned] == [type(value) for value in values]
    assert str(returned[4]) == "-0.0"


def test_an_exception_is_the_functions_own(any_pool):
    with pytest.raises(functions.OwnError) as raised:
        any_pool.map(functions.fail_at_three, range(10), 1)
    assert (raised.value.code, raised.value.detail) == (3, "three")
    cause = raised.value.__cause__
    assert type(cause) is multiprocessing.pool.RemoteTraceback
    assert 'raise OwnError(number, "three")' in str(cause)
    with pytest.raises(functions.OwnError):
        any_pool.apply(functions.fail_at_three, (3,))
    with pytest.raises(TypeError, match="positional"):
        any_pool.apply(functions.square, (1, 2))


def test_an_exception_of_an_iterator_comes_at_its_place(any_pool):
    iterator = any_pool.imap(functions.fail_at_three, range(5))
    assert [next(iterator) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(functions.OwnError):
        next(iterator)
    assert next(iterator) == 4
    with pytest.raises(StopIteration):
        next(iterator)


def test_what_the_iterable_raises(any_pool):
    def numbers():
        yield 1
        yield 2
        raise functions.OwnError(0, "the input")

    with pytest.raises(functions.OwnError):
        any_pool.map(functions.square, numbers())
    iterator = any_pool.imap(functions.square, numbers())
    assert [next(iterator), next(iterator)] == [1, 4]
    with pytest.raises(functions.OwnError):
        next(iterator)


def test_a_result_that_cannot_be_pickled(any_pool):
    with pytest.raises(MaybeEncodingError, match="Error sending result"):
        any_pool.map(functions.not_picklable, [1])


def test_an_async_result(any_pool):
    result = any_pool.apply_async(functions.sleep, (0.3,))
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    result.wait(0.01)
    assert not result.ready()
    result.wait()
    assert result.ready()
    assert result.successful()
    assert result.get() == 0.3
    assert result.get(1) == 0.3
    failed = any_pool.map_async(functions.fail_at_three, range(5))
    failed.wait(30)
    assert not failed.successful()
    with pytest.raises(functions.OwnError):
        failed.get()


def test_callbacks(any_pool):
    called = []
    result = any_pool.map_async(functions.square, range(3), callback=called.append, error_callback=called.append)
    result.wait(30)
    assert called == [[0, 1, 4]]
    result = any_pool.apply_async(functions.fail_at_three, (3,), callback=called.append, error_callback=called.append)
    result.wait(30)
    assert type(called[1]) is functions.OwnError
    threads = []
    any_pool.apply_async(functions.square, (1,), callback=lambda _: threads.append(threading.current_thread())).wait(30)
    assert threads[0] is not threading.current_thread()


def test_a_closed_pool(pool_type):
    pool = pool_type(1)
    assert repr(pool).startswith("<") and "RUN" in repr(pool)
    with pytest.raises(ValueError, match="Pool is still running"):
        pool.join()
    results = [pool.apply_async(functions.sleep, (0.05,)) for _ in range(4)]
    iterator = pool.imap(functions.square, range(1000))
    pool.close()
    for call in [pool.map, pool.map_async, pool.imap, pool.imap_unordered, pool.starmap]:
        with pytest.raises(ValueError, match="Pool not running"):
            call(functions.square, [1])
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(functions.square, (1,))
    pool.join()
    assert [result.get() for result in results] == [0.05] * 4
    assert list(iterator) == [number * number for number in range(1000)]
    pool.join()


def test_arguments(pool_type):
    for processes in [0, -1]:
        with pytest.raises(ValueError, match="Number of processes must be at least 1"):
            pool_type(processes)
    with pytest.raises(TypeError, match="initializer must be a callable"):
        pool_type(1, initializer=5)
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        pool_type(1, maxtasksperchild=0)


def test_an_initializer(pool_type):
    with pool_type(2, functions.set_up, ("ready",)) as pool:
        assert set(pool.map(functions.setting, range(20), 1)) == {"ready"}


def test_a_manager_is_shared_with_the_workers(any_pool):
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        any_pool.starmap(functions.put, [(shared, number) for number in range(5)])
        assert dict(shared) == {number: number * number for number in range(5)}


def test_an_initializer_may_get_what_a_manager_shares(pool_type):
    with multiprocessing.Manager() as manager:
        shared = manager.dict()
        with pool_type(1, functions.put, (shared, 7)) as pool:
            assert pool.apply(functions.square, (3,)) == 9
        assert dict(shared) == {7: 49}


def test_workers_are_replaced(pool_type):
    with pool_type(1, maxtasksperchild=2) as pool:
        pids = [pool.apply(functions.pid) for _ in range(6)]
    assert len(set(pids)) == 3


def test_a_pool_cannot_be_pickled(any_pool):
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        any_pool.__reduce__()


def test_an_open_pool_warns(pool_type):
    pool = pool_type(1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        pool.__del__()
    pool.terminate()
    pool.join()
