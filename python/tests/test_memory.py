"""What a worker keeps: nothing of an item that has ended, neither while it is idle nor beside the next item."""

import os
from pathlib import Path

import pytest
from fake_server import BLOBS, VALUES, wait_until
from test_common import drop_common, send_common

JSON = "application/json"
# What Python and its allocator may keep for later, whatever the size of an item.
SPARE_KIB = 10 << 10


def resident_kib(server):
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def expect_rest(server, before):
    """Wait until an idle worker holds no more than before."""
    wait_until(lambda: resident_kib(server) < before + SPARE_KIB, f"{resident_kib(server)} KiB to become {before}")


TEXT = b'"' + b"x" * 30_000_000 + b'"'


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        (b"x" * 30_000_000, {"kind": BLOBS}),
        (TEXT, {"kind": BLOBS, "content_type": JSON}),
        (b"[" + b'"some text",' * 700_000 + b"0]", {"kind": BLOBS, "content_type": JSON}),
        ("x" * 30_000_000, {"kind": VALUES}),
        ([f"item {index}" for index in range(150_000)], {"kind": VALUES}),
    ],
    ids=["bytes", "JSON text", "JSON list", "text", "list"],
)
@pytest.mark.parametrize("ends", ["returns", "raises"])
def test_an_idle_worker_keeps_nothing(server, item, fields, ends):
    server.values("echo", [1])
    before = resident_kib(server)
    function = "no_op" if ends == "returns" else "take_two"
    for _ in range(2):
        outcome = server.run(function, [item], **fields)
        assert bool(outcome.failures) == (ends == "raises")
        del outcome
        expect_rest(server, before)


def test_an_idle_worker_keeps_nothing_of_a_common_argument_that_was_dropped(server):
    server.values("echo", [1])
    before = resident_kib(server)
    name = send_common(server, TEXT, kind=BLOBS, content_type=JSON)
    assert server.values("num_common", [1], common=name) == [30_000_000]
    drop_common(server, name)
    expect_rest(server, before)


@pytest.mark.parametrize("what", ["x", "raise"])
def test_nothing_of_an_item_lives_on_beside_the_next(server, what):
    (before,) = server.values("return_or_measure", ["measure"])
    outcome = server.run("return_or_measure", [what, "measure", what, "measure"])
    assert outcome.items[1] < before + SPARE_KIB
    assert outcome.items[3] < before + SPARE_KIB
