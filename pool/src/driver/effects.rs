//! Carrying out what the scheduler wants done.

use std::sync::Arc;

use bytes::Bytes;
use procpool_items::ItemSlab;
use procpool_scheduler::{
    Dispatch, Effect, FailureCause, JobFailure, JobId, Readiness, ResultSize, StopReason, WorkerId,
};
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use super::Driver;
use super::entries::{ExitReport, JobEntry, Occasion, WorkerLink};
use super::report::Happening;
use crate::error::{CallError, DeadlinePhase, ItemError, ItemFailure, WorkerExit};
use crate::function::nearest_names;
use crate::outcome::OutcomeRun;
use crate::outlet::Outlet;
use crate::payload::JobPayload;
use crate::results::ResultBytes;
use crate::supervisor::{ChunkResults, ChunkRun, WorkerCommand};

impl Driver {
    pub(super) fn execute(&mut self, effect: Effect, occasion: &Occasion) {
        match effect {
            Effect::SpawnWorker { worker } => self.spawn_worker(worker),
            Effect::Dispatch(dispatch) => self.send_chunk(&dispatch),
            Effect::Recall { worker, chunk, cancel } => self.tell(worker, WorkerCommand::Recall { chunk, cancel }),
            Effect::Shutdown { worker, reason } => self.stop(worker, reason, WorkerCommand::Shutdown),
            Effect::Terminate { worker, reason } => self.stop(worker, reason, WorkerCommand::Terminate),
            Effect::Kill { worker, reason } => self.stop(worker, reason, WorkerCommand::Kill),
            Effect::StoreResults { job, first_index, skip, count } => {
                if let (Some(entry), Occasion::Results(results)) = (self.jobs.get(&job), occasion) {
                    let cut = Cut { first_index, skip, count };
                    let run = cut_results(results, entry.payload.kind(), cut);
                    let counted = if cut.is_all_of(results) { results.size() } else { ResultSize::UNKNOWN };
                    self.store(job, run, counted);
                }
            }
            Effect::FailItem { job, index, attempt, cause } => {
                if let Some(entry) = self.jobs.get(&job) {
                    let failure = item_failure(cause, attempt, occasion);
                    debug!(job = job.0, index, %failure, "item failed");
                    let run = OutcomeRun::of_failure(index, failure, entry.payload.kind());
                    self.store(job, run, ResultSize::UNKNOWN);
                }
            }
            Effect::Deliver { job, first_index, count } => self.deliver(job, first_index, count),
            Effect::CompleteJob { job } => self.complete(job),
            Effect::FailJob { job, failure } => self.fail(job, failure, occasion),
            Effect::HoldChanged { job, hold } => debug!(job = job.0, ?hold, "stream paused or resumed"),
            Effect::SlotHeld { slot, wait } => warn!(
                slot = slot.0,
                seconds = wait.as_secs(),
                "slot is held back: its workers die without finishing anything, while others work"
            ),
            Effect::SlotHealed { slot } => info!(slot = slot.0, "slot works again"),
            Effect::RestartFinished => self.end_restart(true),
            Effect::RestartGivenUp => self.end_restart(false),
            Effect::ReadinessChanged(readiness) => self.publish_readiness(readiness),
        }
    }

    /// Tells the feeder of a stream how many items the pool will hold.
    pub(super) fn publish_allowance(&self, job: JobId) {
        if let (Some(JobEntry { outlet: Outlet::Stream(stream), .. }), Some(allowed)) =
            (self.jobs.get(&job), self.state.items_allowed(job))
        {
            stream.allow(allowed);
        }
    }

    fn spawn_worker(&mut self, worker: WorkerId) {
        debug!(worker = worker.generation, slot = worker.slot.0, "starting a worker");
        let commands = self.spawner.spawn(worker, self.grace, self.event_sender.clone());
        self.workers.insert(worker, WorkerLink::new(commands));
        self.reporter.report(&Happening::WorkerStarted { worker });
    }

    fn send_chunk(&mut self, dispatch: &Dispatch) {
        let payload = &self.jobs.get(&dispatch.job).expect("a job that has items to run is here").payload;
        let header = payload.header.clone();
        let common = payload.common().and_then(|argument| {
            self.workers.get_mut(&dispatch.worker).map(|link| link.common_of(dispatch.job, argument))
        });
        let pid = self.workers.get_mut(&dispatch.worker).map_or(0, |link| {
            link.has_had_work = true;
            link.pid
        });
        if dispatch.left_alone {
            warn!(
                worker = dispatch.worker.generation,
                slot = dispatch.worker.slot.0,
                pid,
                job = dispatch.job.0,
                index = dispatch.first_index,
                "item came back several times before it began; its worker is not replaced until it has run"
            );
        }
        let trace = self.reporter.chunk_started(dispatch, &header, pid);
        let run = ChunkRun {
            chunk: dispatch.chunk,
            job: dispatch.job.0,
            function: header.function,
            kind: payload.kind(),
            content_type: header.content_type,
            style: header.style,
            first_index: dispatch.first_index,
            count: dispatch.count,
            attempt: dispatch.attempt,
            time_limit: dispatch.time_limit,
            trace: trace.map_or(header.trace, Arc::new),
            common,
            parts: payload.items(dispatch.first_index, dispatch.count),
        };
        self.tell(dispatch.worker, WorkerCommand::Run(run));
    }

    pub(super) fn tell(&mut self, worker: WorkerId, command: WorkerCommand) {
        use mpsc::error::TrySendError;
        let Some(link) = self.workers.get_mut(&worker) else { return };
        match link.commands.try_send(command) {
            // It has ended, and the event that says so is on its way.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            // The scheduler bounds what is at a worker, and the channel is longer than that. Should it be full all the
            // same, nobody may wait for what was not said: a worker without commands ends, and what it never got runs
            // elsewhere.
            Err(TrySendError::Full(command)) => {
                error!(%worker, ?command, "too many commands for one worker, which is a bug; the worker is killed");
                link.commands = mpsc::channel(1).0;
            }
        }
    }

    fn stop(&mut self, worker: WorkerId, reason: StopReason, command: WorkerCommand) {
        self.note_stop(worker, reason);
        self.tell(worker, command);
    }

    /// A worker is told to end.
    pub(super) fn note_stop(&mut self, worker: WorkerId, reason: StopReason) {
        let Some(link) = self.workers.get_mut(&worker) else { return };
        link.stop_reason = Some(reason);
        let pid = link.pid;
        debug!(worker = worker.generation, pid, ?reason, "stopping a worker");
        self.reporter.report(&Happening::WorkerStopping { worker, pid, reason });
    }

    fn deliver(&mut self, job: JobId, first_index: u64, count: u64) {
        if let Some(JobEntry { payload, outlet: Outlet::Stream(stream), .. }) = self.jobs.get_mut(&job) {
            let (runs, bytes) = payload.take(first_index, count);
            stream.push(runs, ResultBytes::new(job, bytes, count, &self.notifier));
        }
        // What was learnt of the function's run time may have widened the window.
        self.publish_allowance(job);
    }

    fn complete(&mut self, job: JobId) {
        debug!(job = job.0, "job completed");
        let Some(JobEntry { payload, outlet, .. }) = self.jobs.remove(&job) else { return };
        self.drop_common(job);
        self.reporter.report(&Happening::JobEnded { job, payload: &payload, error: None });
        match outlet {
            Outlet::Whole(caller) => {
                let held = ResultBytes::new(job, payload.held_bytes(), 0, &self.notifier);
                // The caller may have gone in this moment.
                let _ = caller.send(Ok(payload.into_output(held)));
            }
            Outlet::Stream(stream) => stream.end(Ok(())),
        }
    }

    fn fail(&mut self, job: JobId, failure: JobFailure, occasion: &Occasion) {
        let Some(JobEntry { payload, outlet, .. }) = self.jobs.remove(&job) else { return };
        self.drop_common(job);
        self.drop_results(job, &payload);
        let error = self.call_error(job, failure, &payload, occasion);
        debug!(job = job.0, %error, "job failed");
        self.reporter.report(&Happening::JobEnded { job, payload: &payload, error: Some(&error) });
        outlet.fail(error);
    }

    /// Each way in which a job can fail has an error of its own, and none is one that says that we have a bug.
    fn call_error(&self, job: JobId, failure: JobFailure, payload: &JobPayload, occasion: &Occasion) -> CallError {
        match failure {
            JobFailure::ItemFailed { index } => {
                let error = payload.failure_of(index).expect("the failure was stored before the job failed");
                CallError::ItemFailed(Box::new(error.clone()))
            }
            JobFailure::DeadlineExceeded { started } => CallError::DeadlineExceeded {
                phase: if started { DeadlinePhase::Running } else { DeadlinePhase::Queued },
            },
            JobFailure::DeadlineUnreachable { expected, remaining, retry_after } => {
                CallError::DeadlineUnreachable { expected, remaining, retry_after }
            }
            JobFailure::CrashLimit { crashes } => {
                let ExitReport { exit, usage, stderr_tail, .. } = occasion.exit();
                CallError::CrashLimit { crashes, exit, usage, stderr_tail }
            }
            JobFailure::ResultsTooLarge { bytes, limit } => CallError::ResultsTooLarge { bytes, limit },
            JobFailure::ResultsFull { limit } => CallError::ResultsFull { limit },
            JobFailure::NoFunction { started } => {
                let name = payload.header.function.to_string();
                let nearest =
                    nearest_names(self.publisher.functions.borrow().keys().filter(|known| **known != name), &name);
                CallError::FunctionNotFound { name, nearest, started }
            }
            JobFailure::Cancelled if matches!(occasion, Occasion::CancelledByOperator) => {
                CallError::CancelledByOperator { job: job.0 }
            }
            JobFailure::Cancelled => CallError::Cancelled,
            JobFailure::Draining { started } => CallError::Draining { started },
            JobFailure::Degraded { started } => self.publisher.status.borrow().degraded(started),
        }
    }

    fn publish_readiness(&mut self, readiness: Readiness) {
        self.reporter.report(&Happening::ReadinessChanged(readiness));
        self.publisher.status.send_modify(|status| status.readiness = readiness);
        let reason = &self.publisher.status.borrow().start_failure;
        match readiness {
            Readiness::Ready => info!("pool is ready"),
            Readiness::Degraded => warn!(reason, "no worker can be started; calls are refused until one is ready"),
            Readiness::Draining => info!("pool is draining"),
            Readiness::Starting | Readiness::Stopped => {}
        }
        self.publisher.readiness.send_replace(readiness);
    }
}

/// Which of the results of a frame to keep.
#[derive(Clone, Copy)]
struct Cut {
    first_index: u64,
    skip: u32,
    count: u32,
}

impl Cut {
    fn is_all_of(self, results: &ChunkResults) -> bool {
        self.skip == 0 && self.count == results.count
    }
}

fn cut_results(results: &ChunkResults, kind: procpool_items::ItemKind, cut: Cut) -> OutcomeRun {
    let items: Bytes = if cut.is_all_of(results) {
        results.items.clone()
    } else {
        let slab = ItemSlab::parse(kind, results.items.clone()).expect("the session checked the form of the results");
        // The others are kept by nobody, and these should not keep them.
        Bytes::copy_from_slice(&slab.range(cut.skip as usize..(cut.skip + cut.count) as usize))
    };
    let first_offset = results.first + cut.skip;
    let errors = results
        .failures
        .iter()
        .filter(|(offset, _)| (first_offset..first_offset + cut.count).contains(offset))
        .map(|(offset, failure)| ItemError {
            index: cut.first_index + u64::from(offset - first_offset),
            failure: failure.clone(),
        })
        .collect();
    OutcomeRun { first_index: cut.first_index, count: u64::from(cut.count), items, errors }
}

fn item_failure(cause: FailureCause, attempt: u32, occasion: &Occasion) -> ItemFailure {
    let limit = match cause {
        FailureCause::TimedOut { limit } => {
            let stack = if let Occasion::Stack(stack) = occasion { stack.clone() } else { String::new() };
            return ItemFailure::ItemTimeout { limit, attempt, stack };
        }
        FailureCause::WorkerDied => None,
        FailureCause::CrashLimit { crashes } => Some(crashes),
    };
    let ExitReport { exit, usage, pid, stderr_tail } = occasion.exit();
    match (limit, exit) {
        (Some(attempts), exit) => ItemFailure::CrashLimit { attempts, exit, usage, stderr_tail },
        (None, WorkerExit::Protocol(detail)) => ItemFailure::WorkerProtocol { detail },
        (None, exit) => ItemFailure::WorkerCrashed { exit, pid, attempt, usage, stderr_tail },
    }
}
