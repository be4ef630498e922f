//! Whoever watches a pool is told of every item, chunk and worker.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procpool_pool::{
    CallOptions, CallPart, ChunkStart, ItemFailure, ObserverEvent, OnError, PoolConfig, PoolObserver, TraceContext,
};

use crate::scripted::{blobs, call, items, pool_observed, settle};

/// Writes down what it is told.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl PoolObserver for Notes {
    fn observe(&self, event: &ObserverEvent<'_>) {
        let note = match event {
            ObserverEvent::JobStarted { function, waited } => format!("{function} waited {waited:?}"),
            ObserverEvent::ItemsSucceeded { count, .. } => format!("{count} succeeded"),
            ObserverEvent::ItemFailed { failure: ItemFailure::WorkerCrashed { .. }, .. } => "one crashed".to_owned(),
            ObserverEvent::ItemFailed { failure, .. } => format!("one failed: {failure}"),
            ObserverEvent::ItemsDropped { count, .. } => format!("{count} dropped"),
            ObserverEvent::ChunkEnded(end) => {
                format!("chunk: {:?}, {} of them failed, {} done", end.outcome, end.num_failed, end.num_finished)
            }
            ObserverEvent::WorkerStarted => "worker started".to_owned(),
            ObserverEvent::WorkerExited { exit, stop_reason } => format!("worker {exit}, {stop_reason:?}"),
        };
        self.0.lock().unwrap().push(note);
    }

    fn chunk_started(&self, chunk: &ChunkStart<'_>) -> Option<TraceContext> {
        let ChunkStart { first_index, count, attempt, slot, pid, .. } = chunk;
        let note = format!("chunk {first_index}+{count}: attempt {attempt}, slot {slot}, pid {pid}");
        self.0.lock().unwrap().push(note);
        Some(TraceContext { traceparent: format!("{}+{first_index}", chunk.trace.traceparent), ..chunk.trace.clone() })
    }
}

#[tokio::test(start_paused = true)]
async fn every_item_and_every_chunk_is_accounted_for() {
    let notes = Arc::new(Notes::default());
    let mut pool = pool_observed(PoolConfig::new(NonZeroU32::MIN), Arc::clone(&notes) as Arc<dyn PoolObserver>);
    let mut worker = pool.next_worker().await;
    let mut the_call = call("f");
    the_call.options =
        CallOptions { chunk_size: NonZeroU32::new(4), on_error: Some(OnError::Collect), ..CallOptions::default() };
    the_call.trace.traceparent = "caller".to_owned();
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..4)).await });
    tokio::time::sleep(Duration::from_secs(3)).await;
    worker.become_ready().await;
    let chunk = worker.next_chunk().await;
    assert_eq!(chunk.trace.traceparent, "caller+0", "the worker continues what the observer says");
    let raised = ItemFailure::InvalidItem { part: CallPart::Item, message: "no".to_owned() };
    worker.send_results(chunk.chunk, 0, blobs(&["0".to_owned(), String::new()]), vec![(1, raised)]).await;
    settle().await;
    // The call waited for the first worker: that is no time in the queue.
    let expected = [
        "worker started",
        "f waited 0ns",
        "chunk 0+4: attempt 1, slot 0, pid 1000",
        "1 succeeded",
        "one failed: the item cannot be used: no",
    ];
    assert_eq!(notes.take(), expected);

    worker.die(Some((chunk.chunk, 2))).await;
    let mut next = pool.next_ready_worker().await;
    let rest = next.next_chunk().await;
    next.finish(&rest).await;
    map.await.unwrap().unwrap();
    let expected = [
        "chunk: WorkerLost, 1 of them failed, 2 done",
        "worker was killed by signal 9, None",
        "one crashed",
        "worker started",
        "chunk 3+1: attempt 1, slot 0, pid 1000",
        "chunk: Finished, 0 of them failed, 1 done",
        "1 succeeded",
    ];
    assert_eq!(notes.take(), expected);
}

#[tokio::test(start_paused = true)]
async fn what_a_cancelled_call_leaves_is_dropped_and_its_chunk_given_back() {
    let notes = Arc::new(Notes::default());
    let mut pool = pool_observed(PoolConfig::new(NonZeroU32::MIN), Arc::clone(&notes) as Arc<dyn PoolObserver>);
    let mut worker = pool.next_ready_worker().await;
    let mut the_call = call("f");
    the_call.options.chunk_size = NonZeroU32::new(2);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..10)).await });
    let chunk = worker.next_chunk().await;
    let demand = pool.handle.demand().await.unwrap();
    assert_eq!((demand.num_jobs, demand.num_running_items, demand.num_queued_items), (1, 2, 8));
    notes.take();
    map.abort();
    settle().await;
    worker.next_command().await;
    worker.give_back(chunk.chunk, 0).await;
    settle().await;
    assert_eq!(notes.take(), ["10 dropped", "chunk: GivenBack, 0 of them failed, 0 done"]);
    assert_eq!(pool.handle.demand().await.unwrap().num_jobs, 0);
}
