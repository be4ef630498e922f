"""Every verb of procpool with Python's grpcio and asyncio: python asyncio_client.py HOST:PORT, or unix:/PATH"""

import asyncio
import itertools
import sys

import grpc
from procpool.v1 import pool_pb2 as pb
from procpool.v1 import pool_pb2_grpc
from shared import CHANNEL_OPTIONS, describe, describe_status, from_value, from_values, indexes_of, show, to_values


async def main(address: str) -> None:
    async with grpc.aio.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        pool = pool_pb2_grpc.PoolServiceStub(channel)
        await unary_calls(pool)
        await streams(pool)
        await endless_input(pool)
        await errors(pool)
        await deadlines(pool)
        await cancel(pool)


async def unary_calls(pool) -> None:
    # A deadline on every call; wait_for_ready lets the call wait for a server that is just starting.
    request = pb.MapRequest(function="analyze_match", values=to_values([1, 2]))
    response = await pool.Map(request, timeout=60, wait_for_ready=True)
    show("Map", from_values(response.values))

    request = pb.StarMapRequest(function="power", values=to_values([[2, 10], [3, 3]]))
    response = await pool.StarMap(request, timeout=60)
    show("StarMap", from_values(response.values))

    request = pb.ApplyRequest(function="power", values=to_values([2]))
    request.kwargs["exponent"] = 5
    response = await pool.Apply(request, timeout=60)
    show("Apply with a keyword argument", from_value(response.value))

    options = pb.CallOptions(on_error=pb.ON_ERROR_COLLECT)
    request = pb.MapRequest(function="square_root", values=to_values([4, -1, 9]), options=options)
    response = await pool.Map(request, timeout=60)
    show("Map that collects errors", from_values(response.values))
    for error in response.errors:
        print(f"  {describe_status(error.status)}")


async def streams(pool) -> None:
    request = pb.IMapRequest(function="is_prime", values=to_values(range(7, 12)))
    async for response in pool.IMap(request, timeout=60):
        for index, result in zip(indexes_of(response), from_values(response.values)):
            show(f"IMap, item {index}", result)

    # Two workers run both items at once; the one that ends first comes first.
    request = pb.IMapRequest(function="rest", values=to_values([1, 0]), order=pb.RESULT_ORDER_UNORDERED)
    async for response in pool.IMap(request, timeout=60):
        for index, result in zip(indexes_of(response), from_values(response.values)):
            show(f"IMap as they finish, item {index}", result)


async def endless_input(pool) -> None:
    """Feed an endless iterator: take no more from it than the server allows, and tell it what has been taken."""
    numbers = itertools.count()
    primes, sent, taken = [], 0, 0
    call = pool.IMapStream(timeout=60)
    try:
        await call.write(pb.IMapStreamRequest(config=pb.IMapStreamConfig(function="is_prime", reports_taken=True)))
        while len(primes) < 1000:
            response = await call.read()
            primes += [index for index, result in zip(indexes_of(response), from_values(response.values)) if result]
            taken += len(response.values)
            items = to_values(itertools.islice(numbers, response.items_allowed - sent))
            sent += len(items)
            await call.write(pb.IMapStreamRequest(values=items, results_taken=taken))
    finally:
        call.cancel()  # There is no end to wait for.
    show("IMapStream, the 1000th prime", primes[999])


async def errors(pool) -> None:
    for title, call, request in [
        ("The function raised", pool.Map, pb.MapRequest(function="square_root", values=to_values([4, -1]))),
        ("No such function", pool.Map, pb.MapRequest(function="analyse_match", values=to_values([1]))),
        ("An item of the wrong form", pool.StarMap, pb.StarMapRequest(function="power", values=to_values([[2, 1], 3]))),
    ]:
        try:
            await call(request, timeout=60)
        except grpc.RpcError as error:
            print(f"{title}: {describe(error)}")


async def deadlines(pool) -> None:
    try:
        await pool.Map(pb.MapRequest(function="rest", values=to_values([0.2] * 1000)), timeout=0.5)
    except grpc.RpcError as error:
        print(f"Map, after its deadline: {error.code().name}")

    results = []
    try:
        async for response in pool.IMap(pb.IMapRequest(function="rest", values=to_values([0.2] * 1000)), timeout=1):
            results += response.values
    except grpc.RpcError as error:
        print(f"IMap, after its deadline: {error.code().name}, {'some' if results else 'no'} results came before")


async def cancel(pool) -> None:
    call = pool.IMap(pb.IMapRequest(function="rest", values=to_values([0] + [0.5] * 1000)), timeout=600)
    response = await call.read()
    show("IMap, the first result", from_values(response.values)[0])
    # So does cancelling the task that reads, as asyncio.timeout() does.
    call.cancel()
    print(f"IMap, after a cancel: {(await call.code()).name}")
    response = await pool.Map(pb.MapRequest(function="rest", values=to_values([0, 0])), timeout=10)
    show("The slots are free again", from_values(response.values))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
