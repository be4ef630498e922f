//! How workers, calls and the pool end.

use std::num::NonZeroU32;
use std::task::{Context, Waker};
use std::time::Duration;

use procpool_pool::supervisor::{WorkerCommand, WorkerEventKind};
use procpool_pool::{CallError, ItemFailure, PoolConfig, Readiness, StreamOptions};
use tokio::time::Instant;

use crate::scripted::{call, items, pool_of, pool_with_room, settle};

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
async fn what_still_waits_when_the_pool_stops_is_told_that_it_drains() {
    let mut pool = pool_of(1);
    let handle = pool.handle.clone();
    // Until the slot takes a moment before it starts another worker, so that the pool can stop at once.
    loop {
        let mut worker = pool.next_ready_worker().await;
        let handle = handle.clone();
        let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
        let chunk = worker.next_chunk().await;
        worker.die(Some((chunk.chunk, 0))).await;
        assert!(map.await.unwrap().is_err());
        if pool.has_no_new_worker().await {
            break;
        }
    }
    // All of this is there before the driver has its next turn.
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(handle.map(call("f"), items(0..1)))).collect();
    for waits in &mut calls {
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let mut stream = Box::pin(handle.imap(call("f"), items(0..1), StreamOptions::default()));
    let streams = match stream.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(stream) => stream,
        std::task::Poll::Pending => panic!("a stream begins at once"),
    };
    handle.stop_now();
    for waits in calls {
        let refused = waits.await.unwrap_err();
        assert!(matches!(refused, CallError::Draining { started: false }), "{refused:?}");
    }
    let refused = streams.unwrap().next().await.unwrap().unwrap_err();
    assert!(matches!(refused, CallError::Draining { started: false }), "{refused:?}");
    pool.task.join().await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_cannot_be_told_any_more_is_given_up_and_nothing_is_lost() {
    let mut pool = pool_with_room(PoolConfig::new(NonZeroU32::MIN), 1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let gone = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    // It does not hear that nobody waits for this any more, and finishes it.
    gone.abort();
    settle().await;
    worker.finish(&chunk).await;
    let handle = pool.handle.clone();
    let next = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    settle().await;
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { .. }));
    assert!(worker.is_given_up().await, "there was no room for the next chunk");
    worker.die(None).await;
    let mut worker = pool.next_ready_worker().await;
    let chunk = worker.next_chunk().await;
    worker.finish(&chunk).await;
    assert!(next.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_before_hello_has_a_number_and_only_failed_starts_are_told_as_such_and_not_for_ever() {
    let mut pool = pool_of(1);
    let mut events = pool.handle.watch().await.unwrap().events;
    let worker = pool.next_worker().await;
    worker.say(WorkerEventKind::Started { pid: 4711 }).await;
    worker.die(None).await;
    let pid = loop {
        if let procpool_pool::PoolEvent::Worker { pid, state: procpool_pool::WorkerState::Exited, .. } =
            events.recv().await.unwrap()
        {
            break pid;
        }
    };
    assert_eq!(pid, 4711);
    let failed_start = |pool: procpool_pool::PoolSnapshot| pool.last_start_failure;
    assert_ne!(failed_start(pool.handle.snapshot().await.unwrap()), "");

    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..2)).await });
    let chunk = worker.next_chunk().await;
    worker.finish(&chunk).await;
    let chunk = worker.next_chunk().await;
    assert_eq!(failed_start(pool.handle.snapshot().await.unwrap()), "", "that is over");
    worker.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    worker.die(None).await;

    // The first item of this one kills it.
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    worker.die(Some((chunk.chunk, 0))).await;
    let CallError::ItemFailed(error) = map.await.unwrap().unwrap_err() else { panic!("the item fails") };
    assert!(matches!(error.failure, ItemFailure::WorkerCrashed { .. }));
    assert_eq!(failed_start(pool.handle.snapshot().await.unwrap()), "", "it had started");
}
