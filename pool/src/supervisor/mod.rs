//! Worker processes: starts them, talks to them, reaps them.
//!
//! The supervisor knows processes, frames and chunks. It never sees a job, decides nothing about scheduling, and knows
//! nothing of gRPC. [`WorkerSpawner`] is the seam: the driver is tested with a scripted one.
//!
//! # Theory of operation
//!
//! [`ProcessSpawner`] gives every worker a task, the session (`session`), which owns its process (`process_group`), its
//! channel and its output (`output`), and ends when the worker is dead and reaped. The process itself is started by one
//! immortal thread (`spawn`), and prepares itself between fork and exec (`pre_exec`). What leaves a worker's process
//! group and outlives the worker is in `orphans`: a subreaper kills it, where the application wants one; and what outlives
//! even this process, whoever calls [`kill_orphans`]. What /proc tells of all workers, one `monitor` reads, on a thread of
//! its own.
//!
//! - A worker is dead when the kernel says that its process is, and never for any other reason: a closed channel or
//!   pipe means nothing, since a grandchild may hold the other copy.
//! - The process group is killed while its leader waits to be reaped, so that its number cannot be anybody else's. The
//!   slot does not wait for that: the worker's end is told before, and what it has started gets a moment to tidy up.
//! - Supervision fails safe. Should a session panic, its worker is killed and its end is told all the same; should even
//!   that panic, everything the worker had fails, since nobody knows what of it had begun.
//! - An item has a result (a frame, or the journal), or it was running (the begun word), or it began and its result is
//!   lost (it fails), or it never began. These are all; and only the last may run elsewhere without asking.

mod config;
mod interface;
mod monitor;
mod orphans;
mod output;
mod pre_exec;
mod process_group;
mod session;
mod spawn;
mod spawner;
mod thread;
mod wait;

pub use config::{DEFAULT_PASSED_VARIABLES, LimitedResource, MemoryLimits, SpawnConfig, WorkerOutput};
pub use interface::{
    COMMAND_CAPACITY, ChunkCommon, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
pub use orphans::{ServerTag, kill_orphans};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use session::fuzzing::fuzz_session;
pub use spawner::ProcessSpawner;
