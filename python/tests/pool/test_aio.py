"""`procpool.aio.Pool`: the verbs of a pool, awaited."""

import asyncio

import pytest
from pool import functions

import procpool
import procpool.aio


def run(main):
    """Runs a coroutine function with a pool, and ends the pool."""

    async def with_pool():
        async with procpool.aio.Pool(2) as pool:
            return await asyncio.wait_for(main(pool), 60)

    return asyncio.run(with_pool())


def test_verbs():
    async def main(pool):
        assert await pool.apply(functions.power, (2,), {"exponent": 3}) == 8
        assert await pool.map(functions.square, range(5)) == [0, 1, 4, 9, 16]
        assert await pool.starmap(functions.power, [(2, 3)]) == [8]
        assert [result async for result in pool.imap(functions.square, range(3))] == [0, 1, 4]
        assert sorted([result async for result in pool.imap_unordered(functions.square, range(3))]) == [0, 1, 4]
        with pytest.raises(functions.OwnError):
            await pool.map(functions.fail_at_three, range(5))

    run(main)


def test_the_loop_goes_on_meanwhile():
    async def main(pool):
        results = await asyncio.gather(*(pool.apply(functions.square, (n,)) for n in range(20)))
        assert results == [n * n for n in range(20)]

    run(main)


def test_the_items_come_from_the_loop():
    async def numbers():
        for number in range(10):
            await asyncio.sleep(0)
            yield number

    async def main(pool):
        results = [result async for result in pool.imap(functions.square, numbers())]
        assert results == [n * n for n in range(10)]

    run(main)


def test_to_cancel_the_task_cancels_the_call():
    async def main(pool):
        task = asyncio.ensure_future(pool.map(functions.sleep, [60] * 4))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await pool.map(functions.square, range(4)) == [0, 1, 4, 9]

    run(main)


def test_stop_iteration_does_not_hang():
    async def main():
        async with procpool.aio.Pool(1) as pool:
            with pytest.raises(RuntimeError, match="raised StopIteration"):
                await asyncio.wait_for(pool.apply(lambda: next(iter([]))), 60)

    asyncio.run(main())
