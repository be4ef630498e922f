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
    ("function", "item", "fields"),
    [
        ("no_op", b"x" * 40_000_000, {"kind": BLOBS}),
        ("take_two", b"x" * 40_000_000, {"kind": BLOBS}),
        ("no_op", TEXT, {"kind": BLOBS, "content_type": JSON}),
        ("no_op", b"[" + b'"some text",' * 700_000 + b"0]", {"kind": BLOBS, "content_type": JSON}),
        ("num_common", [f"item {index}" for index in range(100_000)], {"kind": VALUES}),
    ],
    ids=["bytes", "raises", "JSON text", "JSON list", "list"],
)
def test_an_idle_worker_keeps_nothing(server, function, item, fields):
    server.values("echo", [1])
    before = resident_kib(server)
    for _ in range(2):
        # An argument is missing, so that these fail with the item at hand.
        assert bool(server.run(function, [item], **fields).failures) == (function != "no_op")
        expect_rest(server, before)


def test_an_idle_worker_keeps_nothing_of_a_common_argument_that_was_dropped(server):
    server.values("echo", [1])
    before = resident_kib(server)
    name = send_common(server, TEXT, kind=BLOBS, content_type=JSON)
    assert server.values("num_common", [1], common=name) == [30_000_000]
    drop_common(server, name)
    expect_rest(server, before)


@pytest.mark.parametrize("what", [b'"x"', b'"raise"'])
def test_nothing_of_an_item_lives_on_beside_the_next(server, what):
    measure = b'"measure"'
    outcome = server.run("return_or_measure", [measure, what, measure, what, measure], kind=BLOBS, content_type=JSON)
    before, *after = (int(outcome.items[offset]) for offset in (0, 2, 4))
    assert max(after) < before + SPARE_KIB
