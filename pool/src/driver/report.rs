//! What happens in a pool, told once and to all who want to know: the counts, the watchers, and the observer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use procpool_scheduler::{ChunkId, Dispatch, JobId, Readiness, StopReason, WorkerId, WorkerState};
use tokio::sync::broadcast;
use tokio::time::Instant;

use crate::call::TraceContext;
use crate::error::{CallError, WorkerExit, exit_reason};
use crate::observer::{ChunkEnd, ChunkOutcome, ChunkStart, ObserverEvent, PoolObserver};
use crate::outcome::OutcomeRun;
use crate::payload::{JobHeader, JobPayload};
use crate::snapshot::{EVENT_BUFFER, PoolCounts, PoolEvent};
use crate::supervisor::ChunkResults;

/// Something that happened in the pool.
pub(super) enum Happening<'a> {
    JobSubmitted { job: JobId, function: &'a str, num_items: u64 },
    ItemsAdded { job: JobId },
    ResultsReceived(&'a ChunkResults),
    ChunkRecalled { chunk: ChunkId, first_not_begun: u32 },
    OutcomesStored { function: &'a str, run: &'a OutcomeRun },
    JobEnded { job: JobId, payload: &'a JobPayload, error: Option<&'a CallError> },
    WorkerStarted { worker: WorkerId },
    WorkerReady { worker: WorkerId, pid: u32 },
    WorkerStopping { worker: WorkerId, pid: u32, reason: StopReason },
    WorkerExited { worker: WorkerId, pid: u32, exit: &'a WorkerExit, stop_reason: Option<StopReason>, detail: String },
    ReadinessChanged(Readiness),
    Resized { before: u32, num_slots: u32 },
    RestartBegan { num_workers: u32 },
    RestartEnded { is_complete: bool },
}

/// Who wants to know.
pub(super) struct Reporter {
    counts: PoolCounts,
    watchers: broadcast::Sender<PoolEvent>,
    /// `None`: there is no observer.
    observation: Option<Observation>,
}

impl Reporter {
    pub(super) fn new(observer: Option<Arc<dyn PoolObserver>>) -> Self {
        let observation =
            observer.map(|observer| Observation { observer, waiting: BTreeMap::new(), chunks: BTreeMap::new() });
        Self { counts: PoolCounts::default(), watchers: broadcast::Sender::new(EVENT_BUFFER), observation }
    }

    /// Tells everybody.
    pub(super) fn report(&mut self, happening: &Happening<'_>) {
        self.count(happening);
        if let Some(observation) = &mut self.observation {
            observation.observe(happening);
        }
        if self.watchers.receiver_count() > 0
            && let Some(event) = pool_event(happening)
        {
            // The last watcher may have gone in this moment.
            let _ = self.watchers.send(event);
        }
    }

    /// Tells the observer that a chunk goes to a worker. Returns the trace that the worker is to continue, if not the
    /// caller's own.
    pub(super) fn chunk_started(&mut self, dispatch: &Dispatch, header: &JobHeader, pid: u32) -> Option<TraceContext> {
        self.observation.as_mut()?.chunk_started(dispatch, header, pid)
    }

    pub(super) fn counts(&self) -> PoolCounts {
        self.counts.clone()
    }

    pub(super) fn watch(&self) -> broadcast::Receiver<PoolEvent> {
        self.watchers.subscribe()
    }

    fn count(&mut self, happening: &Happening<'_>) {
        let counts = &mut self.counts;
        match happening {
            Happening::JobSubmitted { .. } => counts.jobs_total += 1,
            Happening::OutcomesStored { run, .. } => {
                let num_failed = run.errors.len() as u64;
                counts.items_succeeded_total += run.count - num_failed;
                counts.items_failed_total += num_failed;
            }
            Happening::JobEnded { payload, error, .. } => {
                counts.jobs_failed_total += u64::from(error.is_some());
                counts.items_dropped_total += payload.num_unfinished();
            }
            Happening::WorkerExited { exit, stop_reason, .. } => {
                *counts.worker_exits_total.entry(exit_reason(exit, *stop_reason)).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// Returns what watchers are told of it.
fn pool_event(happening: &Happening<'_>) -> Option<PoolEvent> {
    let worker_event = |worker: WorkerId, pid, state, reason| PoolEvent::Worker {
        worker_id: worker.generation,
        slot: worker.slot.0,
        pid,
        state,
        reason,
    };
    Some(match *happening {
        Happening::JobSubmitted { job, function, num_items } => {
            PoolEvent::JobStarted { job: job.0, function: function.to_owned(), num_items }
        }
        Happening::JobEnded { job, error, .. } => {
            PoolEvent::JobEnded { job: job.0, error: error.map_or_else(String::new, CallError::to_string) }
        }
        Happening::WorkerStarted { worker } => worker_event(worker, 0, WorkerState::Starting, String::new()),
        Happening::WorkerReady { worker, pid } => worker_event(worker, pid, WorkerState::Ready, String::new()),
        Happening::WorkerStopping { worker, pid, reason } => {
            worker_event(worker, pid, WorkerState::Stopping, format!("{reason:?}"))
        }
        Happening::WorkerExited { worker, pid, ref detail, .. } => {
            worker_event(worker, pid, WorkerState::Exited, detail.clone())
        }
        Happening::ReadinessChanged(readiness) => PoolEvent::State(readiness),
        Happening::Resized { before, num_slots } => PoolEvent::Resized { before, num_slots },
        Happening::RestartBegan { num_workers } => PoolEvent::RestartBegan { num_workers },
        Happening::RestartEnded { is_complete } => PoolEvent::RestartEnded { is_complete },
        _ => return None,
    })
}

/// The observer, and what has to be remembered for it: what happened to each chunk and how long each job has waited.
struct Observation {
    observer: Arc<dyn PoolObserver>,
    /// Jobs of which nothing has run, and since when there has been something to run. Bounded by the jobs.
    waiting: BTreeMap<JobId, Option<Instant>>,
    /// At most two a worker.
    chunks: BTreeMap<ChunkId, OpenChunk>,
}

/// A chunk at a worker.
struct OpenChunk {
    worker: WorkerId,
    function: Arc<str>,
    /// Number of items still owned by this worker; a recall lowers it.
    count: u32,
    num_finished: u32,
    num_failed: u32,
    busy: Duration,
}

impl Observation {
    fn observe(&mut self, happening: &Happening<'_>) {
        match happening {
            Happening::JobSubmitted { job, num_items, .. } => {
                self.waiting.insert(*job, (*num_items > 0).then(Instant::now));
            }
            Happening::ItemsAdded { job } => {
                if let Some(since) = self.waiting.get_mut(job) {
                    since.get_or_insert_with(Instant::now);
                }
            }
            Happening::ResultsReceived(results) => self.results_received(results),
            Happening::ChunkRecalled { chunk, first_not_begun } => {
                if let Some(open) = self.chunks.get_mut(chunk) {
                    open.count = open.count.min(*first_not_begun);
                    self.end_if_done(*chunk);
                }
            }
            Happening::OutcomesStored { function, run } => self.outcomes_stored(function, run),
            Happening::JobEnded { job, payload, .. } => {
                self.waiting.remove(job);
                let count = payload.num_unfinished();
                if count > 0 {
                    let function = &payload.header.function;
                    self.observer.observe(&ObserverEvent::ItemsDropped { function, count });
                }
            }
            Happening::WorkerStarted { .. } => self.observer.observe(&ObserverEvent::WorkerStarted),
            Happening::WorkerExited { worker, exit, stop_reason, .. } => {
                self.worker_exited(*worker, exit, *stop_reason);
            }
            _ => {}
        }
    }

    /// Returns the trace that the worker is to continue, if not the caller's own.
    fn chunk_started(&mut self, dispatch: &Dispatch, header: &JobHeader, pid: u32) -> Option<TraceContext> {
        if let Some(since) = self.waiting.remove(&dispatch.job) {
            let waited = since.map(|since| since.elapsed()).unwrap_or_default();
            self.observer.observe(&ObserverEvent::JobStarted { function: &header.function, waited });
        }
        let open = OpenChunk {
            worker: dispatch.worker,
            function: Arc::clone(&header.function),
            count: dispatch.count,
            num_finished: 0,
            num_failed: 0,
            busy: Duration::ZERO,
        };
        self.chunks.insert(dispatch.chunk, open);
        let start = ChunkStart {
            chunk: dispatch.chunk,
            function: &header.function,
            first_index: dispatch.first_index,
            count: dispatch.count,
            attempt: dispatch.attempt,
            slot: dispatch.worker.slot.0,
            pid,
            trace: &header.trace,
        };
        self.observer.chunk_started(&start)
    }

    fn results_received(&mut self, results: &ChunkResults) {
        let Some(open) = self.chunks.get_mut(&results.chunk) else { return };
        open.num_finished += results.count;
        open.num_failed += u32::try_from(results.failures.len()).unwrap_or(u32::MAX);
        open.busy += results.busy;
        self.end_if_done(results.chunk);
    }

    fn outcomes_stored(&self, function: &str, run: &OutcomeRun) {
        let count = run.count - run.errors.len() as u64;
        if count > 0 {
            self.observer.observe(&ObserverEvent::ItemsSucceeded { function, count });
        }
        for error in &run.errors {
            self.observer.observe(&ObserverEvent::ItemFailed { function, failure: &error.failure });
        }
    }

    fn worker_exited(&mut self, worker: WorkerId, exit: &WorkerExit, stop_reason: Option<StopReason>) {
        let lost: Vec<ChunkId> =
            self.chunks.iter().filter(|(_, open)| open.worker == worker).map(|(&chunk, _)| chunk).collect();
        for chunk in lost {
            self.end(chunk, ChunkOutcome::WorkerLost);
        }
        self.observer.observe(&ObserverEvent::WorkerExited { exit, stop_reason });
    }

    fn end_if_done(&mut self, chunk: ChunkId) {
        match self.chunks.get(&chunk) {
            Some(open) if open.num_finished < open.count => {}
            Some(OpenChunk { count: 0, .. }) => self.end(chunk, ChunkOutcome::GivenBack),
            Some(_) => self.end(chunk, ChunkOutcome::Finished),
            None => {}
        }
    }

    fn end(&mut self, chunk: ChunkId, outcome: ChunkOutcome) {
        let Some(open) = self.chunks.remove(&chunk) else { return };
        let OpenChunk { function, num_finished, num_failed, busy, .. } = open;
        let end = ChunkEnd { chunk, function: &function, outcome, num_finished, num_failed, busy };
        self.observer.observe(&ObserverEvent::ChunkEnded(end));
    }
}
