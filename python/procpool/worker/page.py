"""The progress page: memory shared with the server, which shows the progress of a dead worker."""

from __future__ import annotations

import mmap
import os
from collections.abc import MutableSequence

HEADER_BYTES = 4096

# Indexes of the page's words.
BEGUN = 0
JOURNAL_LENGTH = 1
JOURNAL_FIRST = 2
BEGUN_AT = 3


class ProgressPage:
    """The mapped page. A store to one of `words` is one machine store, so it is atomic."""

    words: MutableSequence[int]
    journal: memoryview | bytearray

    def __init__(self, memory_fd: int, journal_bytes: int) -> None:
        """Map the page; the descriptor is no longer needed afterwards."""
        size = HEADER_BYTES + journal_bytes
        actual = os.fstat(memory_fd).st_size
        if actual < size:
            # An access beyond the end of the file would be a SIGBUS in the middle of an item.
            raise OSError(f"the progress page has {actual} bytes instead of {size}")
        memory = memoryview(mmap.mmap(memory_fd, size, mmap.MAP_SHARED))
        self.words = memory[:HEADER_BYTES].cast("Q")
        self.journal = memory[HEADER_BYTES:]
        self.capacity = journal_bytes
        self.is_shared = True


class NoPage(ProgressPage):
    """The replacement without shared memory. Nothing fits into its journal, so every result is sent at once."""

    def __init__(self) -> None:
        self.words = [0, 0, 0, 0]
        self.journal = bytearray()
        self.capacity = 0
        self.is_shared = False
