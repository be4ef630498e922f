"""Every verb of procpool with Python's grpcio: python sync_client.py HOST:PORT, or unix:/PATH"""

import itertools
import sys
import threading

import grpc
from procpool.v1 import pool_pb2 as pb
from procpool.v1 import pool_pb2_grpc
from shared import CHANNEL_OPTIONS, describe, describe_status, from_value, from_values, indexes_of, show, to_values


def main(address: str) -> None:
    with grpc.insecure_channel(address, CHANNEL_OPTIONS) as channel:
        pool = pool_pb2_grpc.PoolServiceStub(channel)
        unary_calls(pool)
        streams(pool)
        endless_input(pool)
        errors(pool)
        deadlines(pool)
        cancel(pool)


def unary_calls(pool) -> None:
    # A deadline on every call; wait_for_ready lets the call wait for a server that is just starting.
    response = pool.Map(
        pb.MapRequest(function="analyze_match", values=to_values([1, 2])), timeout=60, wait_for_ready=True
    )
    show("Map", from_values(response.values))

    response = pool.StarMap(pb.StarMapRequest(function="power", values=to_values([[2, 10], [3, 3]])), timeout=60)
    show("StarMap", from_values(response.values))

    request = pb.ApplyRequest(function="power", values=to_values([2]))
    request.kwargs["exponent"] = 5
    response = pool.Apply(request, timeout=60)
    show("Apply with a keyword argument", from_value(response.value))

    options = pb.CallOptions(on_error=pb.ON_ERROR_COLLECT)
    request = pb.MapRequest(function="square_root", values=to_values([4, -1, 9]), options=options)
    response = pool.Map(request, timeout=60)
    show("Map that collects errors", from_values(response.values))
    for error in response.errors:
        print(f"  {describe_status(error.status)}")


def streams(pool) -> None:
    request = pb.IMapRequest(function="is_prime", values=to_values(range(7, 12)))
    for response in pool.IMap(request, timeout=60):
        for index, result in zip(indexes_of(response), from_values(response.values)):
            show(f"IMap, item {index}", result)

    # Two workers run both items at once; the one that ends first comes first.
    request = pb.IMapRequest(function="rest", values=to_values([1, 0]), order=pb.RESULT_ORDER_UNORDERED)
    for response in pool.IMap(request, timeout=60):
        for index, result in zip(indexes_of(response), from_values(response.values)):
            show(f"IMap as they finish, item {index}", result)


def endless_input(pool) -> None:
    """Feed an endless iterator: take no more from it than the server allows, and tell it what has been taken."""
    numbers = itertools.count()
    changed, allowed, taken, done = threading.Condition(), 0, 0, False

    def requests():
        yield pb.IMapStreamRequest(config=pb.IMapStreamConfig(function="is_prime", reports_taken=True))
        sent, told = 0, 0
        while True:
            with changed:
                changed.wait_for(lambda: done or allowed > sent or taken > told)
                if done:
                    return
                count, told = allowed - sent, taken
            yield pb.IMapStreamRequest(values=to_values(itertools.islice(numbers, count)), results_taken=told)
            sent += count

    primes = []
    call = pool.IMapStream(requests(), timeout=60)
    try:
        for response in call:
            primes += [index for index, result in zip(indexes_of(response), from_values(response.values)) if result]
            if len(primes) >= 1000:
                break
            with changed:
                allowed, taken = response.items_allowed, taken + len(response.values)
                changed.notify()
    finally:
        call.cancel()  # There is no end to wait for.
        with changed:
            done = True
            changed.notify()
    show("IMapStream, the 1000th prime", primes[999])


def errors(pool) -> None:
    for title, call, request in [
        ("The function raised", pool.Map, pb.MapRequest(function="square_root", values=to_values([4, -1]))),
        ("No such function", pool.Map, pb.MapRequest(function="analyse_match", values=to_values([1]))),
        ("An item of the wrong form", pool.StarMap, pb.StarMapRequest(function="power", values=to_values([[2, 1], 3]))),
    ]:
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            print(f"{title}: {describe(error)}")


def deadlines(pool) -> None:
    try:
        pool.Map(pb.MapRequest(function="rest", values=to_values([0.2] * 1000)), timeout=0.5)
    except grpc.RpcError as error:
        print(f"Map, after its deadline: {error.code().name}")

    results = []
    try:
        for response in pool.IMap(pb.IMapRequest(function="rest", values=to_values([0.2] * 1000)), timeout=1):
            results += response.values
    except grpc.RpcError as error:
        print(f"IMap, after its deadline: {error.code().name}, {'some' if results else 'no'} results came before")


def cancel(pool) -> None:
    call = pool.IMap(pb.IMapRequest(function="rest", values=to_values([0] + [0.5] * 1000)), timeout=600)
    show("IMap, the first result", from_values(next(call).values)[0])
    call.cancel()
    try:
        next(call)
    except grpc.RpcError as error:
        print(f"IMap, after a cancel: {error.code().name}")
    response = pool.Map(pb.MapRequest(function="rest", values=to_values([0, 0])), timeout=10)
    show("The slots are free again", from_values(response.values))


if __name__ == "__main__":
    main(sys.argv[1])
