//! The progress page: which items a worker began and finished, readable after it was killed.
//!
//! A memfd that server and worker share. The worker maps it; it stores the number of an item before it begins it, and
//! the result after it has finished. That takes a few stores and no system call. The server reads the file when the
//! worker has died, and to find the running item while it lives. worker.proto has the layout.

mod reader;
mod writer;

pub use reader::PageReader;
pub use writer::PageWriter;

/// The offset of the sequence number of the item that began last.
const BEGUN_OFFSET: usize = 0;
/// The offset of the number of valid bytes in the journal.
const JOURNAL_LEN_OFFSET: usize = 8;
/// The offset of the sequence number of the first item in the journal.
const JOURNAL_FIRST_OFFSET: usize = 16;
/// The offset of the start time of the item that began last.
const BEGUN_AT_OFFSET: usize = 24;
/// The offset of the journal.
const JOURNAL_OFFSET: usize = 4096;

/// Returns the time by the clock of the page's start times: `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is ever negative on this clock, and 584 years of nanoseconds fit.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
