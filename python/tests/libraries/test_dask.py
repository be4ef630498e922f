"""dask computes the same with our executor as with its own."""

import os

import pytest

dask = pytest.importorskip("dask", reason="dask is not installed")

import procpool


def add(left, right):
    return left + right


def graph():
    squares = [dask.delayed(pow)(number, 2) for number in range(10)]
    while len(squares) > 1:
        squares = [dask.delayed(add)(*squares[:2]), *squares[2:]]
    return squares[0]


def test_the_same_result():
    with procpool.Executor(2) as executor:
        assert dask.compute(graph(), scheduler=executor) == dask.compute(graph())
        with dask.config.set(scheduler=executor):
            assert dask.compute(dask.delayed(lambda: "by value")()) == ("by value",)
            assert dask.compute(dask.delayed(os.getpid)()) != (os.getpid(),)


def test_an_exception_is_the_functions_own():
    with procpool.Executor(2) as executor, pytest.raises(ZeroDivisionError):
        dask.compute(dask.delayed(divmod)(1, 0), scheduler=executor)


def test_an_array():
    np = pytest.importorskip("numpy", reason="numpy is not installed")
    array = pytest.importorskip("dask.array", reason="dask has no arrays without numpy")
    data = array.from_array(np.arange(10_000.0).reshape(100, 100), chunks=(25, 25))
    with procpool.Executor(2) as executor:
        assert (data @ data.T).sum().compute(scheduler=executor) == (data @ data.T).sum().compute()
