//! Processes whose worker is gone: what it has started, and what has left its process group.
//!
//! They are known by a `tag` that they inherit. While the server lives, it is their `subreaper`, if the application wants
//! that: it kills and reaps them as they become its children. When the server is dead, whoever calls [`kill_orphans`]
//! finds them by a scan of /proc.

mod proc_scan;
mod subreaper;
mod tag;

pub use proc_scan::kill_orphans;
pub(super) use subreaper::{LiveWorker, LiveWorkers, Subreaper};
pub use tag::ServerTag;
pub(super) use tag::WorkerTag;
