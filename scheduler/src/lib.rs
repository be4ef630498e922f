//! The pure core of the pool: which item goes to which slot, and when.

mod id;

pub use id::{ChunkId, FunctionId, JobId, SlotId, WorkerId};
