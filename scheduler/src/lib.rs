//! The pure core of the pool: which item goes to which slot, and when.
//!
//! No clock, no I/O, no threads, no payload: time is an argument, an item is an index, and what is to be done comes back
//! as [`Effect`]s. All of it is deterministic; jitter comes from a seed.
//!
//! # Theory of operation
//!
//! One owner calls [`PoolState::apply`] with one [`Event`] after the other and carries out the effects in order. It
//! calls it with [`Event::TimePassed`] when [`PoolState::next_wakeup`] has come; there are no timers to arm or to tell
//! from stale ones. Whatever is said of a worker that has been replaced, of a chunk that is gone or of a job that has
//! ended changes nothing.
//!
//! - A *job* is a run of indexes. Each is fresh, out (at a worker), given back, waiting to be tried again, or finished.
//! - A *chunk* is a run of consecutive items at one worker. A worker has at most two: one that runs, and one ahead.
//! - A *slot* stays; *workers* come and go in it.
//!
//! Read `event`, then `job`, `worker`, `pool/mod`, `pool/dispatch`, and the rest as needed.

mod backoff;
mod blame;
mod chunk;
mod config;
mod event;
mod health;
mod id;
#[cfg(any(test, debug_assertions))]
mod invariant;
mod item_watch;
mod job;
mod job_spec;
mod pool;
mod queue;
mod results;
mod run_set;
mod run_times;
mod slots;
mod time;
mod timer;
mod worker;

pub use config::SchedulerConfig;
pub use event::{Dispatch, Effect, Event, FailureCause, Hold, JobFailure, Readiness, ResultSize, StopReason};
pub use id::{ChunkId, FunctionId, FunctionSet, JobId, SlotId, WorkerId};
pub use item_watch::{GracePeriods, ItemAction, ItemWatch, RunningItem, WatchedChunk};
pub use job_spec::{CallOptions, Delivery, JobSpec, OnError};
pub use pool::{Demand, JobSnapshot, PoolState, RunningItems, SlotCounts, Snapshot, WorkerSnapshot, WorkerState};
pub use time::Time;
