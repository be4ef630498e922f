"""The state of the connection: pending results, recalls, and sending.

The main thread holds the lock whenever it is not in the user's function or waiting for work, so another thread never
sees an item between two states. The lock also orders frames: a Recalled never follows the last results of its chunk.
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
from .biased_lock import BiasedLock
from .interrupt import Interrupter
from .items import Common
from .page import BEGUN, JOURNAL_LENGTH, ProgressPage

COALESCE_NS = 1_000_000
"""The longest time for which a result is held for a batch."""

_FLUSHER_PATIENCE_NS = 250_000
"""How much longer the flusher waits: while short items run, it is cheaper if the main thread sends."""

NEVER = 1 << 62
"""A time that never comes, in nanoseconds."""

EXIT_PROTOCOL = 70
"""The exit code after a protocol error of the server, or a bug of this worker (EX_SOFTWARE)."""


class Chunk:
    """A Run frame and its progress."""

    __slots__ = ("common", "items", "limit", "recalled", "run")

    def __init__(self, run: worker_pb2.Run, items: Payload, common: Common | None) -> None:
        self.run = run
        self.items = items
        """The encoded list of items; `run` may lack it."""
        self.common = common
        """The common argument, kept here because DropCommon may arrive before this chunk has run."""
        self.limit = run.count
        """Items from this offset on must not begin."""
        self.recalled = False


class Session:
    """The state that the three threads share. The lock protects all fields, except where noted."""

    def __init__(self, channel: Channel, page: ProgressPage) -> None:
        self.lock = BiasedLock()
        self.channel = channel
        self.page = page
        self.chunks: dict[int, Chunk] = {}
        """The chunks about which a frame may still be sent."""
        self.queue: SimpleQueue[Chunk | None] = SimpleQueue()
        """The queue of the main thread; None ends it. Needs no lock."""
        self.running: Chunk | None = None
        """The chunk that the main thread runs."""

        # The results in the journal, all of the running chunk: from pending_first up to num_finished.
        self.pending_first = 0
        self.pending_bytes = 0
        """0 if there are none: a record is never empty."""
        self.flush_at = NEVER
        """When the results in the journal must be sent."""
        self.num_finished = 0
        """How many items of the running chunk have finished."""
        self.busy_since = 0
        """When the first unreported item began, or the one before it ended."""
        self.busy_until = 0
        """When the last finished item ended."""
        self.flusher_is_idle = True
        self.wake_flusher: SimpleQueue[None] = SimpleQueue()
        self.is_forked_copy = False
        self.interrupter = Interrupter(self.is_running)
        self.cancelled_sequence = 0
        """The last cancelled item. Numbers are unique, so this need not be reset."""
        self._commons: dict[int, Common] = {}
        """The common arguments by number. For the reader thread only."""

    def start_threads(self) -> None:
        """Start the threads that read frames and flush results."""
        threading.Thread(target=self._read_frames, name="procpool-reader", daemon=True).start()
        if self.page.is_shared:
            threading.Thread(target=self._flush_when_due, name="procpool-flusher", daemon=True).start()
        os.register_at_fork(after_in_child=self._after_fork_in_child)

    def send(self, **frame: Any) -> None:
        """Send a frame."""
        self.channel.send(worker_pb2.WorkerFrame(**frame))

    def flush(self) -> None:
        """Send the journal and clear it."""
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
        """Return whether the main thread, when a signal interrupts it, is within the call of this item."""
        return self.lock.is_free and self.running is not None and self.page.words[BEGUN] == sequence

    def start_busy_time(self) -> None:
        """Start the run time of the next item."""
        self.busy_since = self.busy_until = time.monotonic_ns()

    def take_busy_ns(self) -> int:
        """Return the run time of the unreported items."""
        busy_ns = self.busy_until - self.busy_since
        self.busy_since = self.busy_until
        return max(0, busy_ns)

    # The reader thread.

    def _read_frames(self) -> None:
        try:
            frames = self.channel.frames()
            while True:
                # Not bound to a name, so that a frame is freed while the next one is awaited.
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
            # Without the lock: no other thread adds chunks, and the main thread must not be slowed down for this.
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
            with self.lock:
                self.send(pong=worker_pb2.Pong(nonce=frame.ping.nonce))
        elif kind == "shutdown":
            with self.lock:
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
            raise ProtocolError(f"chunk {run.chunk} names the unknown common argument {run.common}")
        return common

    def _recall(self, recall: worker_pb2.Recall) -> None:
        with self.lock:
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
            # The intended item has ended, and another one runs.
            return
        self.cancelled_sequence = begun_last
        self.interrupter.interrupt(begun_last)

    # The flusher thread.

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
            # Without the lock: while short items run, the main thread flushes by itself and must not wait.
            wait_ns = self.flush_at + _FLUSHER_PATIENCE_NS - time.monotonic_ns()
            if 0 < wait_ns < COALESCE_NS * 2:
                continue
            with self.lock:
                self.flush()
                self.flusher_is_idle = True
                return

    # The thread that runs the user's function.

    def current(self) -> CurrentItem | None:
        """Return the running item."""
        chunk = self.running
        if chunk is None or not self.lock.is_free:
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
        """Return whether the running item is cancelled."""
        return self.running is not None and self.page.words[BEGUN] == self.cancelled_sequence

    def _after_fork_in_child(self) -> None:
        self.is_forked_copy = True
        # So that the thread that forked, the main thread of the child, checks before it continues.
        self.lock.is_wanted = True
        self.channel.close()


def exit_at_once(code: int) -> NoReturn:
    """End the process from any thread, whatever user code is doing."""
    os._exit(code)


def exit_after(error: BaseException) -> NoReturn:
    """End the process after a failure of the connection, and print the reason to stderr."""
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
