//! The progress page: what a worker leaves behind when it is killed.
//!
//! A memfd that server and worker share. The worker maps it and stores, before it begins an item, which one it begins,
//! and after it has finished one, its result; that costs a few stores and no system call. The server reads the file
//! when the worker has died, and, for a look at the item that runs, while it lives. worker.proto has the layout.

mod reader;
mod writer;

pub use reader::PageReader;
pub use writer::PageWriter;

/// Where the sequence number of the item begun last is.
const BEGUN_OFFSET: usize = 0;
/// Where the number of valid bytes in the journal is.
const JOURNAL_LEN_OFFSET: usize = 8;
/// Where the sequence number of the first item in the journal is.
const JOURNAL_FIRST_OFFSET: usize = 16;
/// Where the start time of the item begun last is.
const BEGUN_AT_OFFSET: usize = 24;
/// Where the journal begins.
const JOURNAL_OFFSET: usize = 4096;

/// Returns the time by the clock of the page's start times: `CLOCK_MONOTONIC`, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Neither is ever negative on this clock, and 584 years of nanoseconds fit.
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}
