//! What is measured and traced of one pool.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry::KeyValue;
use opentelemetry_sdk::trace::Span;
use procpool_pool::{ChunkId, ChunkStart, ObserverEvent, PoolObserver, TraceContext, exit_reason};

use super::instruments::Instruments;
use super::labels;
use super::spans::{self, Spans};

/// Records the events of a pool.
#[derive(Debug)]
pub(super) struct PoolTelemetry {
    pub(super) instruments: Arc<Instruments>,
    /// `None`: no traces.
    pub(super) spans: Option<Arc<Spans>>,
    /// The label that names it.
    pub(super) pool: KeyValue,
    /// The spans of the chunks at workers: at most two a worker.
    pub(super) chunks: Mutex<BTreeMap<ChunkId, Span>>,
}

impl PoolTelemetry {
    /// Bounded by the functions that workers registered: no other gets as far as a worker.
    fn by_function(&self, function: &str) -> [KeyValue; 2] {
        [self.pool.clone(), KeyValue::new("function", function.to_owned())]
    }

    fn count_items(&self, function: &str, outcome: &'static str, count: u64) {
        let [pool, function] = self.by_function(function);
        self.instruments.items.add(count, &[pool, function, KeyValue::new("outcome", outcome)]);
    }

    fn lock_chunks(&self) -> MutexGuard<'_, BTreeMap<ChunkId, Span>> {
        // No code that holds the lock can panic half-way through a change.
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PoolObserver for PoolTelemetry {
    fn observe(&self, event: &ObserverEvent<'_>) {
        let instruments = &self.instruments;
        match event {
            ObserverEvent::JobStarted { function, waited } => {
                instruments.queue_wait.record(waited.as_secs_f64(), &self.by_function(function));
            }
            ObserverEvent::ItemsSucceeded { function, count } => {
                self.count_items(function, labels::SUCCEEDED, *count);
            }
            ObserverEvent::ItemFailed { function, failure } => {
                self.count_items(function, labels::item_outcome(failure), 1);
            }
            ObserverEvent::ItemsDropped { function, count } => self.count_items(function, labels::DROPPED, *count),
            ObserverEvent::ChunkEnded(end) => {
                instruments.chunk_run.record(end.busy.as_secs_f64(), &self.by_function(end.function));
                if let Some(span) = self.lock_chunks().remove(&end.chunk) {
                    spans::end_chunk(span, end);
                }
            }
            ObserverEvent::WorkerStarted => instruments.worker_starts.add(1, std::slice::from_ref(&self.pool)),
            ObserverEvent::WorkerExited { exit, stop_reason } => {
                let reason = KeyValue::new("reason", exit_reason(exit, *stop_reason));
                instruments.worker_exits.add(1, &[self.pool.clone(), reason]);
            }
        }
    }

    fn chunk_started(&self, chunk: &ChunkStart<'_>) -> Option<TraceContext> {
        let (span, context) = self.spans.as_ref()?.start_chunk(chunk, &self.pool.value);
        self.lock_chunks().insert(chunk.chunk, span);
        Some(context)
    }
}
