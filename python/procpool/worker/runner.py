"""Runs the items of a chunk, one after the other, on the main thread.

The loop is long and flat on purpose: what a no-op item costs is the number of Python calls in it.

While an item that was cancelled runs, `interrupt` may raise in the user's frames, and never in those of this file.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable, Mapping
from time import monotonic_ns
from typing import Any

from .._proto import worker_pb2
from .._values import MAX_SAFE_INTEGER, NUMBER_RECORD_BYTES, NUMBER_RECORD_PREFIX, NotEncodableError
from .errors import ErrorText, describe, shorten
from .items import ChunkItems, InvalidItemError, placeholder, result_encoder
from .loader import WorkerFunction
from .memory import LARGE_BYTES
from .page import BEGUN, BEGUN_AT, JOURNAL_FIRST, JOURNAL_LENGTH
from .session import COALESCE_NS, Chunk, Session

# The size of a Results frame without its items.
_FRAME_OVERHEAD_BYTES = 128
# So that the frame stays small when a whole chunk fails.
_FAILURES_PER_FRAME = 1000
_MAX_PROBLEM_BYTES = 4096
_INFINITY = float("inf")

_pack_number_record = struct.Struct(f"<{len(NUMBER_RECORD_PREFIX)}sd").pack_into


def _failure_of(error: BaseException) -> tuple[int, ErrorText, int]:
    """Return the kind of a failure, its text, and the invalid part of the call."""
    if isinstance(error, InvalidItemError):
        text = ErrorText("", shorten(error.problem, _MAX_PROBLEM_BYTES), "")
        return worker_pb2.FAILURE_KIND_INVALID_ITEM, text, error.part
    return worker_pb2.FAILURE_KIND_RAISED, describe(error), worker_pb2.CALL_PART_UNSPECIFIED


class Runner:
    """Runs chunks. All its methods are for the main thread."""

    def __init__(self, session: Session, functions: Mapping[str, WorkerFunction]) -> None:
        self._session = session
        self._functions = functions
        self.has_had_large = False
        """An item or a result was so large that its memory should be returned to the system."""

    def run_chunk(self, chunk: Chunk) -> None:
        """Run what was not recalled of a chunk and send its results."""
        session = self._session
        function = self._functions.get(chunk.run.function)
        session.lock.acquire()
        session.running = chunk
        session.num_finished = 0
        session.start_busy_time()
        if function is None:
            self._fail_all(chunk)
        else:
            self._run_items(chunk, function)
        session.flush()
        # From here on a Recall of this chunk is ignored; until here, it was answered before the last results.
        session.running = None
        del session.chunks[chunk.run.chunk]
        session.lock.release()

    def _run_items(self, chunk: Chunk, function: WorkerFunction) -> None:
        """Run the items. Holds the lock, except while an item is decoded and the user's function runs."""
        session, lock, page = self._session, self._session.lock, self._session.page
        run = chunk.run
        items = ChunkItems(run, chunk.items, function.call, chunk.common)
        self.has_had_large |= chunk.items.end - chunk.items.start >= LARGE_BYTES
        call = items.call
        encode = result_encoder(run.kind, run.content_type, nan_as_null=function.nan_as_null)
        is_values = run.kind == worker_pb2.ITEM_KIND_VALUES
        first_sequence = run.first_sequence
        is_plain = page.is_shared and not run.stamp_start
        words, journal = page.words, page.journal
        interrupter = session.interrupter
        last_number_start = page.capacity - NUMBER_RECORD_BYTES

        for offset, place in enumerate(items.places):
            if offset >= chunk.limit:
                break
            # Release the memory of the previous item.
            result = record = None
            if not is_plain:
                self._announce(run, offset)
            # The order of these two stores is what makes the page exact.
            words[JOURNAL_LENGTH] = session.pending_bytes
            words[BEGUN] = first_sequence + offset
            if session.flusher_is_idle and session.pending_bytes:
                session.flusher_is_idle = False
                session.wake_flusher.put(None)

            lock.is_free = True
            try:
                result = call(place)
            except BaseException as error:
                interrupter.is_off = True
                kind, text, part = _failure_of(error)
                self._acquire_lock()
                interrupter.is_off = False
                session.busy_until = monotonic_ns()
                self._send_failure(run, offset, kind, text, part)
                continue
            # This is _acquire_lock.
            lock.is_free = False
            if lock.is_wanted:
                self._make_way()

            now = session.busy_until = monotonic_ns()
            start = session.pending_bytes
            kind = type(result)
            if kind is int:
                is_number = -MAX_SAFE_INTEGER <= result <= MAX_SAFE_INTEGER
            else:
                is_number = kind is float and -_INFINITY < result < _INFINITY
            if is_number and is_values and start <= last_number_start:
                _pack_number_record(journal, start, NUMBER_RECORD_PREFIX, result)
                end = start + NUMBER_RECORD_BYTES
            else:
                record = self._encode_or_fail(run, offset, encode, result)
                if record is None:
                    continue
                start = session.pending_bytes
                end = start + len(record)
                journal[start:end] = record
            if start == 0:
                session.pending_first = offset
                session.flush_at = now + COALESCE_NS
                words[JOURNAL_FIRST] = first_sequence + offset
            session.pending_bytes = end
            session.num_finished = offset + 1
            if now >= session.flush_at:
                session.flush()
                session.start_busy_time()

    def _announce(self, run: worker_pb2.Run, offset: int) -> None:
        """Send Started and store the start time, for chunks that need it."""
        session = self._session
        if not session.page.is_shared:
            session.send(started=worker_pb2.Started(chunk=run.chunk, offset=offset))
        if run.stamp_start:
            session.page.words[BEGUN_AT] = monotonic_ns()

    def _acquire_lock(self) -> None:
        self._session.lock.is_free = False
        if self._session.lock.is_wanted:
            self._make_way()

    def _make_way(self) -> None:
        if self._session.is_forked_copy:
            print(
                "procpool.worker: a process forked by the function returned from it and is ended; the worker "
                "goes on",
                file=sys.stderr,
            )
            os._exit(1)
        # The thread that gets the lock here may still interrupt the item that has ended.
        interrupter = self._session.interrupter
        was_off, interrupter.is_off = interrupter.is_off, True
        self._session.lock.yield_once()
        interrupter.is_off = was_off

    def _encode_or_fail(
        self, run: worker_pb2.Run, offset: int, encode: Callable[[Any], bytes], result: Any
    ) -> bytes | None:
        """Return the record for the journal; None if the result was already sent."""
        session = self._session
        try:
            record = encode(result)
        except NotEncodableError as error:
            problem = ErrorText("", shorten(str(error), _MAX_PROBLEM_BYTES), "")
        except BaseException as error:
            # Such as a dict that another thread changes, or a property of a dataclass that raises.
            problem = describe(error)
        else:
            limit = session.channel.max_frame_bytes - _FRAME_OVERHEAD_BYTES
            if len(record) <= limit:
                return self._make_room_or_send(run, offset, record)
            problem = ErrorText("", f"result: has {len(record)} bytes encoded; at most {limit} can be sent", "")
        self._send_failure(run, offset, worker_pb2.FAILURE_KIND_NOT_ENCODABLE, problem)
        return None

    def _make_room_or_send(self, run: worker_pb2.Run, offset: int, record: bytes) -> bytes | None:
        session = self._session
        self.has_had_large |= len(record) >= LARGE_BYTES
        capacity = session.page.capacity
        if session.pending_bytes + len(record) <= capacity:
            return record
        session.flush()
        session.start_busy_time()
        if len(record) <= capacity:
            return record
        self._send_one(run, offset, record, [])
        return None

    def _send_failure(
        self,
        run: worker_pb2.Run,
        offset: int,
        kind: int,
        text: ErrorText,
        part: int = worker_pb2.CALL_PART_UNSPECIFIED,
    ) -> None:
        failure = worker_pb2.ItemFailure(
            offset=offset, kind=kind, type=text.type, message=text.message, traceback=text.traceback, part=part
        )
        self._session.flush()
        self._send_one(run, offset, placeholder(run.kind), [failure])

    def _send_one(
        self, run: worker_pb2.Run, offset: int, record: bytes, failures: list[worker_pb2.ItemFailure]
    ) -> None:
        session = self._session
        results = worker_pb2.Results(
            chunk=run.chunk, first=offset, count=1, failures=failures, busy_ns=session.take_busy_ns()
        )
        session.channel.send_results(results, record)
        session.start_busy_time()

    def _fail_all(self, chunk: Chunk) -> None:
        """Fail every item of a chunk whose function is unknown."""
        run = chunk.run
        message = f"this worker has no function {run.function!r}"
        for first in range(0, chunk.limit, _FAILURES_PER_FRAME):
            offsets = range(first, min(first + _FAILURES_PER_FRAME, chunk.limit))
            failures = [
                worker_pb2.ItemFailure(
                    offset=offset, kind=worker_pb2.FAILURE_KIND_UNKNOWN_FUNCTION, message=shorten(message, 1024)
                )
                for offset in offsets
            ]
            results = worker_pb2.Results(chunk=run.chunk, first=first, count=len(offsets), failures=failures)
            self._session.channel.send_results(results, placeholder(run.kind) * len(offsets))
