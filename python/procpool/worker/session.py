"""The conversation with the server: what is pending, what was recalled, and who may send.

The floor (`floor`) is the main thread's whenever it is not in the user's function or waiting for work, so another
thread that has it sees whole items only. It also orders what is sent: a Recalled never follows the last results of its
chunk.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from queue import SimpleQueue
from typing import Any, NoReturn

from .._context import CurrentItem
from .._proto import worker_pb2
from .channel import Channel, ChannelClosedError, Frame, Payload, ProtocolError, whole
from .floor import Floor
from .interrupt import Interrupter
from .items import Common
from .page import BEGUN, JOURNAL_LENGTH, ProgressPage

COALESCE_NS = 1_000_000
"""The longest time that a result waits for company."""

_FLUSHER_PATIENCE_NS = 250_000
"""How much longer the flusher waits: while short items run, the main thread sends at less cost."""

NEVER = 1 << 62
"""A time that does not come, in nanoseconds."""

EXIT_PROTOCOL = 70
"""The exit code when the server broke the protocol, or this worker is at fault itself (EX_SOFTWARE)."""


class Chunk:
    """A Run frame and what became of it."""

    __slots__ = ("common", "items", "limit", "recalled", "run")

    def __init__(self, run: worker_pb2.Run, items: Payload, common: Common | None) -> None:
        self.run = run
        self.items = items
        """The encoded list of items, which `run` need not have."""
        self.common = common
        """The argument before each item; it may be dropped while this chunk still needs it."""
        self.limit = run.count
        """Items from this offset on do not begin."""
        self.recalled = False


class Session:
    """All that the three threads share. Fields are for whoever has the floor, unless they say otherwise."""

    def __init__(self, channel: Channel, page: ProgressPage) -> None:
        self.floor = Floor()
        self.channel = channel
        self.page = page
        self.chunks: dict[int, Chunk] = {}
        """Those of which something may still be said to the server."""
        self.queue: SimpleQueue[Chunk | None] = SimpleQueue()
        """What the main thread takes its work from; None is the end. For everybody."""
        self.running: Chunk | None = None
        """The chunk that the main thread works on."""

        # The results in the journal, all of the chunk that runs: those from pending_first to before num_finished.
        self.pending_first = 0
        self.pending_bytes = 0
        """0 if there is none: a record is never empty."""
        self.flush_at = NEVER
        """When the results in the journal have waited long enough."""
        self.num_finished = 0
        """How many items of the chunk that runs have finished."""
        self.busy_since = 0
        """When the item after the last that was reported began, or the one before it ended."""
        self.busy_until = 0
        """When the last item that finished did so."""
        self.flusher_is_idle = True
        self.wake_flusher: SimpleQueue[None] = SimpleQueue()
        self.is_forked_copy = False
        self.interrupter = Interrupter(self.is_running)
        self.cancelled_sequence = 0
        """The item that was cancelled last. No other has its number: there is nothing to be taken back."""
        self._commons: dict[int, Common] = {}
        """What Run frames may name. For the reader thread alone."""

    def start_threads(self) -> None:
        """Start reading frames, and sending results that have waited."""
        threading.Thread(target=self._read_frames, name="procpool-reader", daemon=True).start()
        if self.page.is_shared:
            threading.Thread(target=self._flush_when_due, name="procpool-flusher", daemon=True).start()
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def send(self, **frame: Any) -> None:
        """Send a frame."""
        self.channel.send(worker_pb2.WorkerFrame(**frame))

    def flush(self) -> None:
        """Send what is in the journal and empty it."""
        if self.pending_bytes == 0:
            return
        assert self.running is not None, "results are pending only while their chunk runs"
        results = worker_pb2.Results(
            chunk=self.running.run.chunk,
            first=self.pending_first,
            count=self.num_finished - self.pending_first,
            busy_ns=self.take_busy_ns(),
        )
        self.channel.send_results(results, self.page.journal[: self.pending_bytes])
        self.page.words[JOURNAL_LENGTH] = 0
        self.pending_bytes = 0
        self.flush_at = NEVER

    def num_begun(self, chunk: Chunk) -> int:
        """Return how many items of a chunk have begun."""
        if chunk is not self.running:
            return 0
        begun_last = self.page.words[BEGUN]
        return max(0, begun_last - chunk.run.first_sequence + 1)

    def is_running(self, sequence: int) -> bool:
        """Tell the main thread, when a signal stopped it, whether it is within the call of this item."""
        return self.floor.is_free and self.running is not None and self.page.words[BEGUN] == sequence

    def start_busy_time(self) -> None:
        """Count from now how long the next item runs."""
        self.busy_since = self.busy_until = time.monotonic_ns()

    def take_busy_ns(self) -> int:
        """Return how long the items ran that were not reported yet."""
        busy_ns = self.busy_until - self.busy_since
        self.busy_since = self.busy_until
        return max(0, busy_ns)

    # What follows is for the reader thread.

    def _read_frames(self) -> None:
        try:
            frames = self.channel.frames()
            while True:
                # Without a name: while the next one is awaited, nothing keeps this one.
                self._handle(next(frames))
        except ChannelClosedError:
            exit_at_once(0)
        except BaseException as error:
            exit_after(error)

    def _handle(self, received: Frame) -> None:
        frame, large = received
        kind = frame.WhichOneof("frame")
        if kind == "run":
            chunk = Chunk(frame.run, large or whole(frame.run.items), self._common_of(frame.run))
            # Without the lock: no other thread adds chunks, and the main thread shall not be disturbed for this.
            self.chunks[frame.run.chunk] = chunk
            self.queue.put(chunk)
        elif kind == "recall":
            self._recall(frame.recall)
        elif kind == "set_common":
            self._commons[frame.set_common.common] = Common(
                frame.set_common, large or whole(frame.set_common.value)
            )
        elif kind == "drop_common":
            self._commons.pop(frame.drop_common.common, None)
        elif kind == "ping":
            with self.floor:
                self.send(pong=worker_pb2.Pong(nonce=frame.ping.nonce))
        elif kind == "shutdown":
            with self.floor:
                for chunk in self.chunks.values():
                    chunk.limit = self.num_begun(chunk)
            self.queue.put(None)
        else:
            raise ProtocolError(f"a frame of the unexpected kind {kind}")

    def _common_of(self, run: worker_pb2.Run) -> Common | None:
        if run.common == 0:
            return None
        common = self._commons.get(run.common)
        if common is None:
            raise ProtocolError(f"chunk {run.chunk} names the common argument {run.common}, which is not here")
        return common

    def _recall(self, recall: worker_pb2.Recall) -> None:
        with self.floor:
            chunk = self.chunks.get(recall.chunk)
            if chunk is None:
                return
            if recall.cancel:
                self._cancel(chunk, recall)
            if chunk.recalled:
                return
            chunk.recalled = True
            chunk.limit = self.num_begun(chunk)
            self.send(recalled=worker_pb2.Recalled(chunk=recall.chunk, first_not_begun=chunk.limit))

    def _cancel(self, chunk: Chunk, recall: worker_pb2.Recall) -> None:
        num_begun = self.num_begun(chunk)
        begun_last = self.page.words[BEGUN]
        if num_begun == 0 or begun_last == self.cancelled_sequence:
            return
        if recall.HasField("cancel_offset") and recall.cancel_offset != num_begun - 1:
            # It has ended, and another runs, which is not meant.
            return
        self.cancelled_sequence = begun_last
        self.interrupter.interrupt(begun_last)

    # What follows is for the flusher thread.

    def _flush_when_due(self) -> None:
        try:
            while True:
                self.wake_flusher.get()
                self._flush_until_nothing_is_pending()
        except ChannelClosedError:
            exit_at_once(0)
        except BaseException as error:
            exit_after(error)

    def _flush_until_nothing_is_pending(self) -> None:
        wait_ns = COALESCE_NS + _FLUSHER_PATIENCE_NS
        while True:
            time.sleep(wait_ns / 1e9)
            # Without the floor: while short items run, the main thread flushes by itself and shall not wait for us.
            wait_ns = self.flush_at + _FLUSHER_PATIENCE_NS - time.monotonic_ns()
            if 0 < wait_ns < COALESCE_NS * 2:
                continue
            with self.floor:
                self.flush()
                self.flusher_is_idle = True
                return

    # What follows is for whoever runs the user's function.

    def current(self) -> CurrentItem | None:
        """Return the item that runs."""
        chunk = self.running
        if chunk is None or not self.floor.is_free:
            return None
        run = chunk.run
        return CurrentItem(
            index=run.first_index + self.num_begun(chunk) - 1,
            attempt=run.attempt,
            chunk=run.chunk,
            function=run.function,
            traceparent=run.traceparent,
            tracestate=run.tracestate,
        )

    def cancelled(self) -> bool:
        """Tell whether the server said that the item that runs shall end."""
        return self.running is not None and self.page.words[BEGUN] == self.cancelled_sequence

    def _after_fork_in_child(self) -> None:
        self.is_forked_copy = True
        # So that the main thread, which in the child is the one that forked, looks up before it goes on.
        self.floor.is_wanted = True
        self.channel.close()


def exit_at_once(code: int) -> NoReturn:
    """End the process from whichever thread, whatever the user's code is doing."""
    os._exit(code)


def exit_after(error: BaseException) -> NoReturn:
    """End the process because the conversation cannot go on, and say why on stderr."""
    try:
        if isinstance(error, ProtocolError):
            print(f"procpool.worker: the server broke the protocol: {error}", file=sys.stderr)
        elif isinstance(error, MemoryError):
            print(f"procpool.worker: out of memory, and not in a function: {error}", file=sys.stderr)
        else:
            print("procpool.worker: this is a bug in the worker:", file=sys.stderr)
            traceback.print_exception(type(error), error, error.__traceback__)
    finally:
        exit_at_once(EXIT_PROTOCOL)
