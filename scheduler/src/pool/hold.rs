//! Holding back a stream whose results wait for their reader.
//!
//! The window of a stream counts items, and their results may be of any size; who sees bytes says when there are too many.
//! Nothing here can make a reader wait for ever: if it has taken all that it could have, the item that it waits for is
//! never held ([`Hold::AllButNext`]); else ([`Hold::All`]) it has something to take, or others have, and each reader that
//! takes nothing loses its call in the end.

use super::PoolState;
use crate::event::{Delivery, Hold};
use crate::id::{ChunkId, JobId, WorkerId};

impl PoolState {
    /// Holds a stream back, or lets it go on.
    pub(super) fn hold_stream(&mut self, id: JobId, hold: Hold) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        debug_assert_ne!(job.spec.delivery, Delivery::Whole, "nobody reads from such a job before its end");
        let was_held = job.hold != Hold::Nothing;
        job.hold = hold;
        if hold != Hold::Nothing && !was_held {
            self.recall_what_has_not_begun(id);
        }
        self.refresh(id);
    }

    /// A chunk may be long, and the results of one item large.
    fn recall_what_has_not_begun(&mut self, id: JobId) {
        let mut chunks: Vec<(WorkerId, ChunkId)> = Vec::new();
        for worker in self.workers().filter(|worker| worker.is_up()) {
            for (position, chunk) in worker.chunks.iter().enumerate() {
                let begun = u32::from(position == 0);
                if chunk.job == id && !chunk.abandoned && chunk.remaining() > begun {
                    chunks.push((worker.id, chunk.id));
                }
            }
        }
        for (worker, chunk) in chunks {
            self.recall(worker, chunk);
        }
    }
}

#[cfg(test)]
#[path = "hold_tests.rs"]
mod tests;
