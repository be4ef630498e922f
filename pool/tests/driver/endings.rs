//! How workers, calls and the pool end.

use std::time::Duration;

use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{CallError, Readiness};
use tokio::time::Instant;

use crate::scripted::{call, items, pool_of, settle};

#[tokio::test(start_paused = true)]
async fn a_drained_pool_finishes_what_it_has_takes_nothing_new_and_stops() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    pool.handle.drain();
    let mut readiness = pool.handle.readiness();
    readiness.wait_for(|readiness| *readiness == Readiness::Draining).await.unwrap();
    let refused = pool.handle.map(call("f"), items(0..1)).await.unwrap_err();
    assert!(matches!(refused, CallError::Draining { started: false }));
    worker.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    assert!(matches!(worker.next_command().await, WorkerCommand::Shutdown));
    worker.leave().await;
    pool.task.join().await;
    assert_eq!(*readiness.borrow(), Readiness::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_stopped_fails_its_calls_and_kills_who_does_not_listen() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..3)).await });
    worker.next_chunk().await;
    pool.handle.stop_now();
    let failed = map.await.unwrap().unwrap_err();
    assert!(matches!(failed, CallError::Draining { started: true }));
    let mut seen = Vec::new();
    while seen.last() != Some(&"kill") {
        match worker.next_command().await {
            WorkerCommand::Recall { .. } => seen.push("recall"),
            WorkerCommand::Terminate => seen.push("terminate"),
            WorkerCommand::Kill => seen.push("kill"),
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(seen, ["recall", "terminate", "kill"]);
    worker.die(None).await;
    pool.task.join().await;
}

#[tokio::test(start_paused = true)]
async fn dropping_the_last_handle_stops_the_pool() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    drop(pool.handle);
    assert!(matches!(worker.next_command().await, WorkerCommand::Terminate));
    worker.leave().await;
    pool.task.join().await;
}

#[tokio::test(start_paused = true)]
async fn workers_that_can_not_start_are_tried_ever_more_slowly_and_the_pool_says_so_and_heals() {
    let mut pool = pool_of(1);
    let mut readiness = pool.handle.readiness();
    let handle = pool.handle.clone();
    let waiting = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let started = Instant::now();
    for _ in 0..5 {
        pool.next_worker().await.die(None).await;
    }
    let CallError::Degraded { reason, started: false, .. } = waiting.await.unwrap().unwrap_err() else {
        panic!("no worker could be started")
    };
    assert_eq!(reason, "a worker was killed by signal 9: last words");
    assert!(matches!(pool.handle.map(call("f"), items(0..1)).await, Err(CallError::Degraded { .. })));
    for _ in 0..20 {
        pool.next_worker().await.die(None).await;
    }
    let per_spawn = started.elapsed() / 25;
    assert!(per_spawn > Duration::from_secs(10), "the last spawns are half a minute apart, on average {per_spawn:?}");

    let _worker = pool.next_ready_worker().await;
    readiness.wait_for(|readiness| *readiness == Readiness::Ready).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_does_not_become_ready_in_time_is_killed_and_calls_do_not_wait_for_ever() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_worker().await;
    let handle = pool.handle.clone();
    let waiting = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let started = Instant::now();
    assert!(matches!(worker.next_command().await, WorkerCommand::Kill));
    assert!(started.elapsed() >= pool.handle.config().worker_start_timeout);
    worker.die(None).await;
    let CallError::Degraded { reason, .. } = waiting.await.unwrap().unwrap_err() else { panic!("nothing can start") };
    assert!(reason.starts_with("a worker did not become ready in time"), "{reason}");
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn calls_that_still_wait_for_a_pool_that_has_stopped_are_refused() {
    let mut pool = pool_of(1);
    pool.next_ready_worker().await.die(None).await;
    pool.next_worker().await.die(None).await;
    settle().await;
    // For now there is no worker: nothing delays the end of the pool.
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let handle = pool.handle.clone();
            tokio::spawn(async move { handle.map(call("f"), items(0..1)).await })
        })
        .collect();
    pool.handle.stop_now();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(matches!(error, CallError::Draining { started: false }), "{error}");
    }
    pool.task.join().await;
}
