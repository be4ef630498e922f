//! Streams: windows, laziness, order.

use std::num::NonZeroU32;

use procpool_items::{ItemKind, ItemSlab};
use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{CallError, ResultOrder, StreamOptions};

use crate::scripted::{ScriptedWorker, call, items, pool_of, settle, texts};

fn window(items: u32) -> StreamOptions {
    StreamOptions { order: ResultOrder::Ordered, window: NonZeroU32::new(items) }
}

/// Finishes every chunk that the worker is given; returns how many items that were.
async fn finish_all(worker: &mut ScriptedWorker) -> u64 {
    let mut finished = 0;
    loop {
        settle().await;
        let Ok(command) = worker.try_next_command() else { return finished };
        match command {
            WorkerCommand::Run(chunk) => {
                worker.finish(&chunk).await;
                finished += u64::from(chunk.count);
            }
            other => panic!("expected a chunk, not {other:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_makes_the_pool_stop_at_the_window() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let mut results = pool.handle.imap(call("f"), items(0..1000), window(20)).await.unwrap();
    assert_eq!(finish_all(&mut worker).await, 20);
    let run = results.next().await.unwrap().unwrap().run.unwrap();
    assert_eq!((run.first_index, run.count), (0, 20), "all that is ready comes at once");
    assert_eq!(finish_all(&mut worker).await, 0, "having read is not having taken");
    results.set_taken(15);
    assert_eq!(finish_all(&mut worker).await, 15);
    results.set_taken(3);
    assert_eq!(finish_all(&mut worker).await, 0, "taken never falls");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_items_is_held_to_the_window_and_ends_when_it_is_finished() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let (mut sink, mut results) = pool.handle.imap_stream(call("f"), window(4)).await.unwrap();
    let first = results.next().await.unwrap().unwrap();
    assert_eq!((first.run.is_none(), first.items_allowed), (true, 4), "the first output only gives credit");
    sink.send(items(0..4)).await.unwrap();
    let more = tokio::spawn(async move {
        sink.send(items(4..6)).await.unwrap();
        sink.finish().await;
    });
    assert_eq!(finish_all(&mut worker).await, 4);
    assert!(!more.is_finished(), "the window is full");
    results.set_taken(2);
    more.await.unwrap();
    assert_eq!(finish_all(&mut worker).await, 2);
    let mut all = Vec::new();
    while let Some(output) = results.next().await {
        all.extend(output.unwrap().run.map_or_else(Vec::new, |run| texts(&run.parts)));
    }
    assert_eq!(all, ["0!", "1!", "2!", "3!", "4!", "5!"]);
}

#[tokio::test(start_paused = true)]
async fn an_unordered_stream_names_its_results_as_they_come() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let options = StreamOptions { order: ResultOrder::Unordered, window: None };
    let mut results = pool.handle.imap(call("f"), items(0..2), options).await.unwrap();
    let (early, late) = (first.next_chunk().await, second.next_chunk().await);
    second.finish(&late).await;
    let run = results.next().await.unwrap().unwrap().run.unwrap();
    assert_eq!((run.indexes, texts(&run.parts)), (vec![1], vec!["1!".to_owned()]));
    first.finish(&early).await;
    let run = results.next().await.unwrap().unwrap().run.unwrap();
    assert_eq!(run.indexes, [0]);
    assert!(results.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn items_of_two_kinds_are_refused() {
    let mut pool = pool_of(1);
    let _worker = pool.next_ready_worker().await;
    let (mut sink, _results) = pool.handle.imap_stream(call("f"), window(4)).await.unwrap();
    sink.send(items(0..1)).await.unwrap();
    let other = ItemSlab::empty(ItemKind::Values);
    assert!(matches!(sink.send(other).await, Err(CallError::MixedKinds)));
}

#[tokio::test(start_paused = true)]
async fn dropping_either_end_cancels_the_job() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    for drop_the_sink in [true, false] {
        let (mut sink, mut results) = pool.handle.imap_stream(call("f"), window(4)).await.unwrap();
        sink.send(items(0..1)).await.unwrap();
        let chunk = worker.next_chunk().await;
        if drop_the_sink {
            drop(sink);
            results.next().await.unwrap().unwrap();
            let error = results.next().await.unwrap().unwrap_err();
            assert!(matches!(error, CallError::Cancelled), "the reader learns that the job was ended: {error}");
        } else {
            drop(results);
            settle().await;
            assert!(matches!(sink.send(items(1..2)).await, Err(CallError::JobEnded)));
        }
        assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
        worker.finish(&chunk).await;
    }
}
