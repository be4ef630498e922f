"""What an item costs in the worker, and what a chunk of one item takes: python python/benches/worker.py [COUNT]."""

import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent)]

from fake_server import BLOBS, FakeServer, encode_list

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
ROUNDS = 7


def measure_items(server: FakeServer, name: str, values: list) -> None:
    encoded = encode_list(values)
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter_ns()
        server.start_run("no_op", values, encoded=encoded)
        finished = busy = frames = 0
        while finished < COUNT:
            results = server.expect("results")
            finished += results.count
            busy += results.busy_ns
            frames += 1
        rounds.append((time.perf_counter_ns() - started, busy, frames))
    elapsed, busy, frames = min(rounds)
    print(f"{name:8} {elapsed / COUNT:6.0f} ns an item in all, {busy / COUNT:6.0f} ns of it busy, {frames} frames")


def measure_one_item(server: FakeServer, pause: float, rounds: int) -> None:
    times = []
    for _ in range(rounds):
        time.sleep(pause)
        started = time.perf_counter()
        server.run("no_op", [1])
        times.append(time.perf_counter() - started)
    print(f"one item, {pause * 1e3:.0f} ms after the last: median {statistics.median(times) * 1e6:.0f} us")


def main() -> None:
    with FakeServer() as server:
        server.until_ready()
        measure_items(server, "ints", list(range(COUNT)))
        measure_items(server, "floats", [index + 0.5 for index in range(COUNT)])
        measure_items(server, "strings", [f"item {index}" for index in range(COUNT)])
        measure_items(server, "dicts", [{"id": index, "name": "x"} for index in range(COUNT)])
        measure_one_item(server, 0, 3000)
        measure_one_item(server, 0.005, 300)
        blob = bytes(1 << 20)
        started = time.perf_counter()
        for _ in range(100):
            server.run("no_op", [blob], kind=BLOBS)
        print(f"1 MiB echo: {100 / (time.perf_counter() - started):.0f} MiB/s")


if __name__ == "__main__":
    main()
