//! Calls and their outcomes.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_pool::supervisor::{ChunkRun, WorkerCommand};
use procpool_pool::{
    Call, CallError, CallOptions, CallPart, DeadlinePhase, ExitUsage, ItemFailure, OnError, PoolConfig, StreamOptions,
    WorkerExit,
};
use procpool_scheduler::StopReason;
use tokio::time::Instant;

use crate::scripted::{ScriptedPool, ScriptedWorker, blobs, call, items, pool_of, pool_with, settle, texts};

#[tokio::test(start_paused = true)]
async fn results_are_in_the_order_of_the_items_whoever_finishes_first() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let map = tokio::spawn({
        let handle = pool.handle.clone();
        async move { handle.map(call("f"), items(0..2)).await }
    });
    let (early, late) = (first.next_chunk().await, second.next_chunk().await);
    assert_eq!((early.first_index, late.first_index), (0, 1));
    second.finish(&late).await;
    settle().await;
    assert!(!map.is_finished());
    first.finish(&early).await;
    assert_eq!(texts(&map.await.unwrap().unwrap().parts), ["0!", "1!"]);
}

#[tokio::test(start_paused = true)]
async fn a_death_fails_the_item_that_ran_with_evidence_and_runs_its_mates_elsewhere() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let options =
        CallOptions { chunk_size: NonZeroU32::new(4), on_error: Some(OnError::Collect), ..CallOptions::default() };
    let mut the_call = call("f");
    the_call.options = options;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..4)).await });
    let chunk = worker.next_chunk().await;
    worker.send_results(chunk.chunk, 0, blobs(&["zero".to_owned()]), Vec::new()).await;
    worker.die(Some((chunk.chunk, 1))).await;

    let mut next = pool.next_ready_worker().await;
    let rest = next.next_chunk().await;
    assert_eq!((rest.first_index, rest.count, rest.attempt), (2, 2, 1), "what never began is nobody's second attempt");
    next.finish(&rest).await;
    let output = map.await.unwrap().unwrap();
    assert_eq!(texts(&output.parts), ["zero", "", "2!", "3!"]);
    let [error] = &output.errors[..] else { panic!("one item failed, not {:?}", output.errors) };
    assert_eq!(error.index, 1);
    let expected = ItemFailure::WorkerCrashed {
        exit: WorkerExit::Signal(9),
        pid: 1000,
        attempt: 1,
        usage: ExitUsage::default(),
        stderr_tail: "last words".to_owned(),
    };
    assert_eq!(error.failure, expected);
}

#[tokio::test(start_paused = true)]
async fn an_idempotent_function_is_tried_again_on_another_worker() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("again"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    worker.die(Some((chunk.chunk, 0))).await;
    let mut next = pool.next_ready_worker().await;
    let again = next.next_chunk().await;
    assert_eq!(again.attempt, 2);
    next.finish(&again).await;
    assert_eq!(texts(&map.await.unwrap().unwrap().parts), ["0!"]);
}

#[tokio::test(start_paused = true)]
async fn failing_fast_fails_with_the_first_failure_to_arrive() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..10)).await });
    let (chunk, other) = (first.next_chunk().await, second.next_chunk().await);
    let failure = ItemFailure::InvalidItem { part: CallPart::Item, message: "not this one".to_owned() };
    second.send_results(other.chunk, 0, blobs(&[String::new()]), vec![(0, failure.clone())]).await;
    let CallError::ItemFailed(error) = map.await.unwrap().unwrap_err() else { panic!("an item failed") };
    assert_eq!((error.index, error.failure), (other.first_index, failure));
    assert!(matches!(first.next_command().await, WorkerCommand::Recall { cancel: false, .. }));
    first.finish(&chunk).await;
    assert!(first.has_no_command().await, "what had not started never runs");
}

#[tokio::test(start_paused = true)]
async fn an_item_of_a_failed_call_that_hangs_does_not_keep_its_slot() {
    let mut pool = pool_of(2);
    let mut first = pool.next_ready_worker().await;
    let mut second = pool.next_ready_worker().await;
    let mut the_call = call("f");
    let limit = Duration::from_secs(10);
    the_call.options.item_timeout = Some(limit);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..2)).await });
    let (chunk, other) = (first.next_chunk().await, second.next_chunk().await);
    let failure = ItemFailure::InvalidItem { part: CallPart::Item, message: "not this one".to_owned() };
    second.send_results(other.chunk, 0, blobs(&[String::new()]), vec![(0, failure)]).await;
    map.await.unwrap().unwrap_err();
    assert!(matches!(first.next_command().await, WorkerCommand::Recall { cancel: false, .. }));
    // It is let finish, but not for ever.
    assert_eq!(chunk.time_limit, Some(limit));
    first.expires(&chunk, "").await;
    first.stops(StopReason::ItemTimeout).await;
    assert!(first.has_no_command().await, "its session ends it");
    first.die(Some((chunk.chunk, 0))).await;
    let _next = pool.next_worker().await;
}

#[tokio::test(start_paused = true)]
async fn an_item_that_runs_too_long_fails_when_its_time_is_up() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let limit = Duration::from_secs(10);
    let mut the_call = call("f");
    the_call.options.item_timeout = Some(limit);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..1)).await });
    let chunk = worker.next_chunk().await;
    assert_eq!(chunk.time_limit, Some(limit));
    worker.expires(&chunk, "where it was").await;
    let CallError::ItemFailed(error) = map.await.unwrap().unwrap_err() else { panic!("the item failed") };
    assert_eq!(error.failure, ItemFailure::ItemTimeout { limit, attempt: 1, stack: "where it was".to_owned() });
    // It does not end by itself: that is its session's business, and it is replaced when it has ended.
    worker.stops(StopReason::ItemTimeout).await;
    assert!(worker.has_no_command().await);
    worker.die(Some((chunk.chunk, 0))).await;
    let _next = pool.next_worker().await;
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_call_and_tells_where_it_was() {
    let mut pool = pool_of(1);
    let handle = pool.handle.clone();
    let mut the_call = call("f");
    the_call.deadline = Some(Instant::now() + Duration::from_secs(1));
    let waiting = handle.map(the_call.clone(), items(0..1)).await.unwrap_err();
    assert!(matches!(waiting, CallError::DeadlineExceeded { phase: DeadlinePhase::Queued }), "no worker was ready");

    let mut worker = pool.next_ready_worker().await;
    settle().await;
    the_call.deadline = Some(Instant::now() + Duration::from_secs(1));
    let running = handle.map(the_call, items(0..1)).await.unwrap_err();
    assert!(matches!(running, CallError::DeadlineExceeded { phase: DeadlinePhase::Running }));
    let chunk = worker.next_chunk().await;
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    // It ends within its grace period: the worker lives on, and the late result goes nowhere.
    worker.finish(&chunk).await;
    assert!(worker.has_no_command().await);
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_cancels_it() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..100)).await });
    let chunk = worker.next_chunk().await;
    map.abort();
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    worker.finish(&chunk).await;
    assert!(worker.has_no_command().await, "queued items never run");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_the_driver_has_seen_it_never_runs() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    settle().await;
    // It hands over the job, and nobody else has a turn before it is gone.
    tokio::select! {
        biased;
        _ = pool.handle.map(call("f"), items(0..100)) => panic!("nothing has run"),
        () = std::future::ready(()) => {}
    }
    drop(pool.handle.imap(call("f"), items(0..100), StreamOptions::default()).await.unwrap());
    let (sink, results) = pool.handle.imap_stream(call("f"), StreamOptions::default()).await.unwrap();
    drop(sink);
    assert!(worker.has_no_command().await);
    let snapshot = pool.handle.snapshot().await.unwrap().pool;
    assert_eq!((snapshot.num_jobs, snapshot.num_queued_items), (0, 0));
    let mut results = results;
    assert!(matches!(results.next().await, Some(Err(CallError::Cancelled))), "whose sink is gone");
}

/// Has one of two items fail a call fast, with these options; returns the worker of the other, which goes on.
async fn fail_fast_beside_an_item(pool: &mut ScriptedPool, the_call: Call) -> (ScriptedWorker, ChunkRun) {
    let (first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let mut first = first;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..2)).await });
    let (chunk, other) = (first.next_chunk().await, second.next_chunk().await);
    let failure = ItemFailure::InvalidItem { part: CallPart::Item, message: "not this one".to_owned() };
    first.send_results(chunk.chunk, 0, blobs(&[String::new()]), vec![(0, failure)]).await;
    assert!(matches!(map.await.unwrap(), Err(CallError::ItemFailed(_))));
    assert!(matches!(second.next_command().await, WorkerCommand::Recall { cancel: false, .. }));
    second.give_back(other.chunk, 1).await;
    (second, other)
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_after_a_call_failed_fast_keeps_its_time_limit() {
    let mut pool = pool_of(2);
    let mut the_call = call("f");
    the_call.options.item_timeout = Some(Duration::from_secs(10));
    let (mut worker, chunk) = fail_fast_beside_an_item(&mut pool, the_call).await;
    assert_eq!(chunk.time_limit, Some(Duration::from_secs(10)));
    worker.expires(&chunk, "").await;
    worker.stops(StopReason::ItemTimeout).await;
    assert!(worker.has_no_command().await);
    worker.die(Some((chunk.chunk, 0))).await;
    pool.next_ready_worker().await;
}

#[tokio::test(start_paused = true)]
async fn what_runs_on_after_a_call_failed_fast_ends_at_the_calls_deadline() {
    let mut pool = pool_of(2);
    let mut the_call = call("f");
    let deadline = Instant::now() + Duration::from_secs(10);
    the_call.deadline = Some(deadline);
    let (mut worker, chunk) = fail_fast_beside_an_item(&mut pool, the_call).await;
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    assert!(Instant::now() >= deadline);
    worker.die(Some((chunk.chunk, 0))).await;
    pool.next_ready_worker().await;
}

#[tokio::test(start_paused = true)]
async fn an_unknown_function_is_refused_with_the_nearest_names() {
    let mut pool = pool_of(1);
    let _worker = pool.next_ready_worker().await;
    let refused = pool.handle.map(call("agian"), items(0..1)).await.unwrap_err();
    let CallError::FunctionNotFound { name, nearest, started: false } = refused else {
        panic!("there is no such function")
    };
    assert_eq!((name.as_str(), nearest.as_slice()), ("agian", &["again".to_owned()][..]));
}

#[tokio::test(start_paused = true)]
async fn an_empty_list_is_answered_at_once_and_a_full_queue_refuses_at_once() {
    let config = PoolConfig { max_queued_items: 5, ..PoolConfig::new(NonZeroU32::MIN) };
    let mut pool = pool_with(config);
    let empty = pool.handle.map(call("f"), items(0..0)).await.unwrap();
    assert!(empty.parts.is_empty() && empty.errors.is_empty());

    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let first = tokio::spawn(async move { handle.map(call("f"), items(0..3)).await });
    let chunk = worker.next_chunk().await;
    let refused = pool.handle.map(call("f"), items(0..3)).await.unwrap_err();
    assert!(matches!(refused, CallError::QueueFull { what: "items", limit: 5, .. }));
    worker.finish(&chunk).await;
    let rest = worker.next_chunk().await;
    worker.finish(&rest).await;
    if !first.is_finished() && rest.first_index + u64::from(rest.count) < 3 {
        let last = worker.next_chunk().await;
        worker.finish(&last).await;
    }
    assert_eq!(texts(&first.await.unwrap().unwrap().parts), ["0!", "1!", "2!"]);
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_the_first_worker_are_admitted_before_and_so_are_bounded() {
    let config = PoolConfig { max_queued_items: 5, ..PoolConfig::new(NonZeroU32::MIN) };
    let mut pool = pool_with(config);
    let mut worker = pool.next_worker().await;
    let handle = pool.handle.clone();
    let waiting = tokio::spawn(async move { handle.map(call("f"), items(0..3)).await });
    settle().await;
    let refused = pool.handle.map(call("f"), items(0..3)).await.unwrap_err();
    assert!(matches!(refused, CallError::QueueFull { what: "items", limit: 5, .. }), "{refused}");
    let refused = pool.handle.imap(call("f"), items(0..6), StreamOptions::default()).await.unwrap_err();
    assert!(matches!(refused, CallError::LargerThanQueue { what: "items", num: 6, limit: 5 }), "{refused}");
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    // Who has gone has left nothing behind.
    let handle = pool.handle.clone();
    let waiting = tokio::spawn(async move { handle.map(call("f"), items(0..5)).await });
    settle().await;
    worker.become_ready().await;
    let mut finished = 0;
    while finished < 5 {
        let chunk = worker.next_chunk().await;
        worker.finish(&chunk).await;
        finished += chunk.count;
    }
    assert_eq!(texts(&waiting.await.unwrap().unwrap().parts).len(), 5);
}
