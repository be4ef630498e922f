//! Replacing every worker, one slot at a time.

use super::PoolState;
use crate::event::{Effect, StopReason};
use crate::id::{ChunkId, WorkerId};
use crate::worker::Slot;

impl PoolState {
    /// Wants every worker replaced that there is now.
    pub(super) fn request_restart(&mut self) {
        if self.is_draining() {
            return;
        }
        self.restart_up_to = Some(self.last_generation);
        self.end_holds();
    }

    /// Goes on with a restart: while every slot has a worker that works, one of the old ones may go. A slot that is held
    /// back has none, and is in nobody's way.
    pub(super) fn continue_restart(&mut self) {
        let Some(up_to) = self.restart_up_to else { return };
        if self.is_draining() {
            self.restart_up_to = None;
            return self.emit(Effect::RestartFinished);
        }
        if !self.slots.iter().filter(|slot| !slot.removed && !slot.is_held()).all(Slot::is_whole) {
            return;
        }
        let old = self.workers().map(|worker| worker.id).find(|id| id.generation <= up_to);
        if let Some(old) = old {
            self.retire(old, StopReason::Restart);
        } else {
            self.restart_up_to = None;
            self.emit(Effect::RestartFinished);
        }
    }

    /// Lets a worker finish the item that it runs, and stops it; what has not begun runs elsewhere.
    pub(super) fn retire(&mut self, id: WorkerId, reason: StopReason) {
        let Some(worker) = self.worker_mut(id).filter(|worker| worker.is_up()) else { return };
        worker.retire = Some(reason);
        let chunks: Vec<ChunkId> = worker.chunks.iter().map(|chunk| chunk.id).collect();
        for chunk in chunks {
            self.recall(id, chunk);
        }
        self.stop_if_unneeded(id);
    }
}
