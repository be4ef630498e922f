//! What befalls workers beyond what their items do to them: they stand still, or end and nobody knows what they had begun.

use procpool_scheduler::{ChunkId, WorkerId};

use super::{SimWorker, World};
use crate::upset::{Moment, Upset};

impl SimWorker {
    pub(super) fn moment(&self) -> Moment {
        match self.chunks.front() {
            _ if self.is_stopping => Moment::Stopping,
            _ if !self.is_up => Moment::Starting,
            None => Moment::Idle,
            Some(chunk) if chunk.began.is_some() => Moment::Running,
            Some(_) => Moment::Given,
        }
    }
}

impl World {
    /// Something may befall a worker. Tells whether it did. This has a source of luck of its own, so that a run without any
    /// of it is what it was before there was any.
    pub(super) fn upset(&mut self) -> bool {
        let Some(luck) = &mut self.luck else { return false };
        match luck.below(100) {
            0..=2 => self.stop_a_worker(),
            3..=6 => self.look_at_a_stopped_worker(),
            7 => self.lose_sight_of_a_worker(),
            _ => return false,
        }
        true
    }

    fn pick_worker(&mut self, is_meant: impl Fn(&SimWorker) -> bool) -> Option<WorkerId> {
        let ids: Vec<WorkerId> =
            self.workers.iter().filter(|(_, worker)| is_meant(worker)).map(|(&id, _)| id).collect();
        self.luck.as_mut()?.pick(&ids)
    }

    fn note(&mut self, id: WorkerId, upset: impl FnOnce(Moment) -> Upset) {
        let moment = self.workers[&id].moment();
        self.upsets.note(upset(moment));
    }

    /// A worker stands still: it neither begins nor ends anything, nor hears what it is told.
    fn stop_a_worker(&mut self) {
        let Some(id) = self.pick_worker(|worker| !worker.is_still) else { return };
        self.note(id, Upset::Stopped);
        self.workers.get_mut(&id).unwrap().is_still = true;
    }

    /// A worker is seen to stand still that has something to do: it is made to go on, once for each item.
    fn look_at_a_stopped_worker(&mut self) {
        let is_seen = |worker: &SimWorker| worker.is_still && (!worker.is_up || !worker.chunks.is_empty());
        let Some(id) = self.pick_worker(is_seen) else { return };
        // It may be stopped again at once.
        let goes_on = self.luck.as_mut().is_some_and(|luck| luck.below(10) < 7);
        let worker = self.workers.get_mut(&id).unwrap();
        let with = worker.chunks.front().map_or((ChunkId(0), 0), |chunk| (chunk.id, chunk.finished));
        if worker.resumed_with.replace(with) == Some(with) {
            self.note(id, Upset::StoppedAgain);
            return self.exit(id);
        }
        if goes_on {
            worker.is_still = false;
            self.note(id, Upset::MadeToGoOn);
        }
    }

    /// A worker ends, and nobody knows what of all that it had was begun: it fails. Until the scheduler hears of the end, it
    /// may give it something new.
    fn lose_sight_of_a_worker(&mut self) {
        let Some(id) = self.pick_worker(|_| true) else { return };
        self.note(id, Upset::AllFailed);
        let chunks: Vec<bool> = self.workers[&id].chunks.iter().map(|chunk| chunk.is_recalled).collect();
        if chunks.contains(&true) {
            self.upsets.note(Upset::AllFailedWhileAsked);
        }
        for _ in chunks {
            self.say_lost(id);
        }
        if !self.workers[&id].chunks.is_empty() {
            self.upsets.note(Upset::GivenAfterAllFailed);
        }
        self.exit(id);
    }
}
