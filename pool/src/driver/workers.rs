//! What workers say, as events of the scheduler.

use procpool_scheduler::{Event, WorkerId};

use super::Driver;
use super::entries::Occasion;
use super::report::Happening;
use crate::error::WorkerExit;
use crate::supervisor::{ChunkResults, WorkerEvent, WorkerEventKind};

impl Driver {
    pub(super) fn handle_worker(&mut self, WorkerEvent { worker, kind }: WorkerEvent) {
        match kind {
            WorkerEventKind::Started { pid } => {
                if let Some(link) = self.workers.get_mut(&worker) {
                    link.pid = pid;
                }
            }
            WorkerEventKind::Hello { pid, sdk, functions } => self.register(worker, pid, &sdk, functions),
            WorkerEventKind::Ready => self.worker_ready(worker),
            WorkerEventKind::ItemExpired { chunk, offset, stack } => {
                self.apply(Event::ItemExpired { worker, chunk, offset }, &Occasion::Stack(stack));
            }
            WorkerEventKind::Stopping { reason } => {
                self.note_stop(worker, reason);
                self.apply_plain(Event::WorkerStopping { worker, reason });
            }
            WorkerEventKind::Results(results) => {
                self.reporter.report(&Happening::ResultsReceived(&results));
                let event = self.event_of(worker, &results);
                self.apply(event, &Occasion::Results(results));
            }
            WorkerEventKind::Recalled { chunk, first_not_begun } => {
                self.reporter.report(&Happening::ChunkRecalled { chunk, first_not_begun });
                self.apply_plain(Event::Recalled { worker, chunk, first_not_begun });
            }
            WorkerEventKind::MemoryHigh => self.apply_plain(Event::MemoryHigh { worker }),
            WorkerEventKind::Exited { exit, usage, running, stderr_tail } => {
                let by_shortage = matches!(exit, WorkerExit::SpawnFailed { by_shortage: true, .. });
                let report = self.worker_exited(worker, (exit, usage), running.is_some(), stderr_tail);
                self.apply(Event::WorkerExited { worker, running, by_shortage }, &Occasion::Exit(report));
                self.publish_functions();
            }
        }
    }

    fn event_of(&mut self, worker: WorkerId, results: &ChunkResults) -> Event {
        let &ChunkResults { chunk, first, count, busy, .. } = results;
        let size = results.size();
        if results.are_lost() {
            return Event::ItemsLost { worker, chunk, first, count, size };
        }
        if let Some(link) = self.workers.get_mut(&worker)
            && !std::mem::replace(&mut link.has_results, true)
        {
            self.forget_start_failure();
        }
        let failed = results.failures.iter().map(|&(offset, _)| offset).collect();
        Event::ItemsFinished { worker, chunk, first, count, failed, busy, size }
    }
}
