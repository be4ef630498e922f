//! What operators ask of the driver.

use procpool_scheduler::{Event, Readiness, Time};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::Driver;
use super::report::Happening;
use crate::error::DumpFailure;
use crate::message::AdminCommand;
use crate::snapshot::{PoolSnapshot, PoolWatch, Restart, WorkerReport};
use crate::supervisor::{COMMAND_CAPACITY, WorkerCommand};

impl Driver {
    /// Carries out what an operator asks for. An operator that is gone does not get the answer.
    pub(super) fn administer(&mut self, command: AdminCommand) {
        match command {
            AdminCommand::Snapshot(answer) => {
                let _ = answer.send(self.snapshot());
            }
            AdminCommand::Demand(answer) => {
                let _ = answer.send(self.state.demand(Time::from_start(self.epoch.elapsed())));
            }
            AdminCommand::Watch(answer) => {
                let events = self.reporter.watch();
                let _ = answer.send(PoolWatch { snapshot: self.snapshot(), events });
            }
            AdminCommand::Resize { slots, answer } => {
                let before = self.publisher.status.borrow().num_slots;
                info!(before, slots, "pool is resized");
                self.reporter.report(&Happening::Resized { before, num_slots: slots.get() });
                self.publisher.status.send_modify(|status| status.num_slots = slots.get());
                self.apply_plain(Event::Resized { slots: slots.get() });
                self.publish_functions();
                let _ = answer.send(before);
            }
            AdminCommand::Restart(answer) => {
                // Without an answer: the pool is ending.
                if let Some(restart) = self.begin_restart() {
                    let _ = answer.send(restart);
                }
            }
            AdminCommand::CancelJob { job, answer } => {
                let _ = answer.send(self.cancel_by_operator(job));
            }
            AdminCommand::Dump { worker_id, answer } => self.dump(worker_id, answer),
        }
    }

    /// Replaces all current workers. Returns `None` if the pool is shutting down. If there is a restart already, it goes on
    /// until these are replaced, too.
    fn begin_restart(&mut self) -> Option<Restart> {
        if matches!(self.state.readiness(), Readiness::Draining | Readiness::Stopped) {
            return None;
        }
        let restart = self.restart.get_or_insert_default().extend(self.workers.keys());
        let num_workers = restart.num_workers;
        info!(workers = num_workers, "workers are being replaced");
        self.reporter.report(&Happening::RestartBegan { num_workers });
        self.apply_plain(Event::RestartRequested);
        Some(restart)
    }

    pub(super) fn end_restart(&mut self, is_complete: bool) {
        if is_complete {
            info!("workers have been replaced");
        } else {
            warn!("workers have not been replaced: the pool is ending");
        }
        self.reporter.report(&Happening::RestartEnded { is_complete });
        if let Some(running) = self.restart.take() {
            running.end(is_complete);
        }
    }

    /// Has a worker asked for its stacks; its session answers.
    fn dump(&mut self, worker_id: u64, answer: oneshot::Sender<Result<String, DumpFailure>>) {
        let failure = match self.workers.iter().find(|(worker, _)| worker.generation == worker_id) {
            None => DumpFailure::NoSuchWorker,
            Some((_, link)) if link.commands.capacity() <= COMMAND_CAPACITY / 2 => DumpFailure::Busy,
            Some((&worker, _)) => return self.tell(worker, WorkerCommand::Dump(answer)),
        };
        let _ = answer.send(Err(failure));
    }

    fn snapshot(&self) -> PoolSnapshot {
        let pool = self.state.snapshot();
        let workers = pool.workers.iter().map(|worker| {
            let link = self.workers.get(&worker.id);
            let job = worker.running.and_then(|running| self.jobs.get(&running.job));
            WorkerReport {
                worker_id: worker.id.generation,
                slot: worker.id.slot.0,
                pid: link.map_or(0, |link| link.pid),
                state: worker.state,
                age: link.map_or_else(Default::default, |link| link.started_at.elapsed()),
                num_finished_items: worker.num_finished_items,
                running: worker.running,
                function: job.map_or_else(String::new, |job| job.payload.header.function.to_string()),
                usage: None,
            }
        });
        let (workers, jobs) = (workers.collect(), self.job_reports(&pool.jobs));
        let last_start_failure = self.publisher.status.borrow().start_failure.clone();
        let (memory, counts) = (self.spawner.memory_limits(), self.reporter.counts());
        PoolSnapshot { pool, workers, jobs, last_start_failure, memory, counts }
    }
}
