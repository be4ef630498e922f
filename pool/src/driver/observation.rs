//! The driver's side of [`PoolObserver`]: puts together what happened to each chunk and how long each job waited. There
//! is none of this in a pool that nobody watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use procpool_scheduler::{ChunkId, Dispatch, JobId, StopReason, WorkerId};
use tokio::time::Instant;

use crate::call::TraceContext;
use crate::error::{ItemFailure, WorkerExit};
use crate::observer::{ChunkEnd, ChunkOutcome, ChunkStart, ObserverEvent, PoolObserver};
use crate::outcome::OutcomeRun;
use crate::payload::{JobHeader, JobPayload};
use crate::supervisor::ChunkResults;

/// What is told, and what has to be remembered for it.
pub(super) struct Observation {
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
    /// How many items the worker has to answer for: fewer after a recall.
    count: u32,
    num_finished: u32,
    num_failed: u32,
    busy: Duration,
}

impl Observation {
    pub(super) fn new(observer: Arc<dyn PoolObserver>) -> Self {
        Self { observer, waiting: BTreeMap::new(), chunks: BTreeMap::new() }
    }

    pub(super) fn job_submitted(&mut self, job: JobId, has_items: bool) {
        self.waiting.insert(job, has_items.then(Instant::now));
    }

    pub(super) fn items_added(&mut self, job: JobId) {
        if let Some(since) = self.waiting.get_mut(&job) {
            since.get_or_insert_with(Instant::now);
        }
    }

    /// Returns the trace that the worker is to continue, if not the caller's own.
    pub(super) fn chunk_started(
        &mut self,
        dispatch: &Dispatch,
        header: &JobHeader,
        pid: u32,
    ) -> Option<Arc<TraceContext>> {
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
        self.observer.chunk_started(&start).map(Arc::new)
    }

    pub(super) fn results_came(&mut self, results: &ChunkResults) {
        let Some(open) = self.chunks.get_mut(&results.chunk) else { return };
        open.num_finished += results.count;
        open.num_failed += u32::try_from(results.failures.len()).unwrap_or(u32::MAX);
        open.busy += results.busy;
        self.end_if_done(results.chunk);
    }

    pub(super) fn chunk_given_back(&mut self, chunk: ChunkId, first_not_begun: u32) {
        let Some(open) = self.chunks.get_mut(&chunk) else { return };
        open.count = open.count.min(first_not_begun);
        self.end_if_done(chunk);
    }

    pub(super) fn outcomes_stored(&self, function: &str, run: &OutcomeRun) {
        let count = run.count - run.errors.len() as u64;
        if count > 0 {
            self.observer.observe(&ObserverEvent::ItemsSucceeded { function, count });
        }
        for error in &run.errors {
            self.item_failed(function, &error.failure);
        }
    }

    pub(super) fn item_failed(&self, function: &str, failure: &ItemFailure) {
        self.observer.observe(&ObserverEvent::ItemFailed { function, failure });
    }

    /// A job has ended. Items without outcome have none.
    pub(super) fn job_ended(&mut self, job: JobId, payload: &JobPayload) {
        self.waiting.remove(&job);
        let count = payload.num_unfinished();
        if count > 0 {
            self.observer.observe(&ObserverEvent::ItemsDropped { function: &payload.header.function, count });
        }
    }

    pub(super) fn worker_started(&self) {
        self.observer.observe(&ObserverEvent::WorkerStarted);
    }

    pub(super) fn worker_exited(&mut self, worker: WorkerId, exit: &WorkerExit, stop_reason: Option<StopReason>) {
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
