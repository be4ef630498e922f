//! What operators see and do.

use std::num::NonZeroU32;

use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{CallError, OnError, PoolCounts, PoolEvent, PoolWatch, Readiness, SlotCounts, WorkerState};
use tokio::sync::broadcast::error::RecvError;

use crate::scripted::{call, items, pool_of, settle};

#[tokio::test(start_paused = true)]
async fn a_restart_replaces_one_worker_at_a_time_and_between_items() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = first.next_chunk().await;
    let handle = pool.handle.clone();
    let restart = tokio::spawn(async move { handle.restart_workers().await });

    // The idle one goes first.
    assert!(matches!(second.next_command().await, WorkerCommand::Shutdown));
    assert!(first.has_no_command().await, "all but one stay");
    second.leave().await;
    let mut third = pool.next_worker().await;
    assert!(first.has_no_command().await, "the new one is not ready yet");
    third.become_ready().await;
    // The busy one is asked for what has not begun, and goes when its item is done.
    assert!(matches!(first.next_command().await, WorkerCommand::Recall { cancel: false, .. }));
    assert!(first.has_no_command().await);
    first.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    assert!(matches!(first.next_command().await, WorkerCommand::Shutdown));
    first.leave().await;
    settle().await;
    assert!(!restart.is_finished());
    let mut fourth = pool.next_ready_worker().await;
    assert_eq!(restart.await.unwrap().unwrap(), 2);
    assert!(third.has_no_command().await && fourth.has_no_command().await, "the new ones stay");
}

#[tokio::test(start_paused = true)]
async fn a_restart_that_the_end_of_the_pool_cuts_short_is_an_error() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    let mut restart = pool.handle.begin_restart().await.unwrap();
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { .. }));
    pool.handle.drain();
    assert!(matches!(restart.finished().await, Err(CallError::Draining { .. })));
    worker.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    assert!(matches!(pool.handle.begin_restart().await, Err(CallError::Draining { .. })));
}

#[tokio::test(start_paused = true)]
async fn there_is_one_restart_however_many_ask_and_it_tells_why_new_workers_do_not_start() {
    let mut pool = pool_of(1);
    let mut old = pool.next_ready_worker().await;
    let mut first = pool.handle.begin_restart().await.unwrap();
    assert!(matches!(old.next_command().await, WorkerCommand::Shutdown));
    old.leave().await;
    for _ in 0..2 {
        // Asked for again, and nobody waits.
        drop(pool.handle.begin_restart().await.unwrap());
        pool.next_worker().await.die(None).await;
    }
    settle().await;
    let progress = first.progress();
    assert_eq!(progress.start_failure, "a worker was killed by signal 9: last words");
    assert_eq!((progress.num_left, first.is_over()), (0, false));
    // Who asks now wants the worker replaced, too, that is starting.
    let starting = pool.next_worker().await;
    let mut last = pool.handle.begin_restart().await.unwrap();
    let mut starting = starting;
    starting.become_ready().await;
    assert!(matches!(starting.next_command().await, WorkerCommand::Shutdown));
    assert!(!first.is_over(), "it goes on for the last one");
    starting.leave().await;
    pool.next_ready_worker().await;
    assert_eq!((first.finished().await.unwrap(), last.finished().await.unwrap()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_pool_grows_and_shrinks() {
    let mut pool = pool_of(1);
    let mut first = pool.next_ready_worker().await;
    assert_eq!(pool.handle.resize(NonZeroU32::new(2).unwrap()).await.unwrap(), 1);
    let mut second = pool.next_ready_worker().await;
    // A worker that the driver takes for starting is terminated, not asked.
    settle().await;
    assert_eq!(pool.handle.resize(NonZeroU32::MIN).await.unwrap(), 2);
    assert!(matches!(second.next_command().await, WorkerCommand::Shutdown));
    second.leave().await;
    assert!(first.has_no_command().await);
    assert_eq!(pool.handle.snapshot().await.unwrap().workers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_tells_what_runs_and_what_waits() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..10)).await });
    let chunk = worker.next_chunk().await;
    let snapshot = pool.handle.snapshot().await.unwrap();
    assert_eq!((snapshot.pool.readiness, snapshot.pool.num_slots, snapshot.pool.num_jobs), (Readiness::Ready, 1, 1));
    assert_eq!((snapshot.pool.num_running_items, snapshot.pool.num_queued_items), (1, 9));
    let [report] = &snapshot.workers[..] else { panic!("one worker") };
    assert_eq!((report.state, report.pid, report.function.as_str()), (WorkerState::Busy, 1000, "f"));
    assert_eq!(report.running.map(|running| (running.first_index, running.count)), Some((0, 1)));
    worker.finish(&chunk).await;
    settle().await;
    assert_eq!(pool.handle.snapshot().await.unwrap().workers[0].num_finished_items, 1);
    map.abort();
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_what_happens_in_order() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    settle().await;
    let mut watch = pool.handle.watch().await.unwrap();
    assert_eq!(watch.snapshot.workers.len(), 1);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = worker.next_chunk().await;
    worker.die(Some((chunk.chunk, 0))).await;
    assert!(map.await.unwrap().is_err());
    assert_eq!(next(&mut watch).await, "job of f with 1 items");
    assert_eq!(
        next(&mut watch).await,
        "worker Exited was killed by signal 9 before it had finished anything: last words"
    );
    let ended = next(&mut watch).await;
    assert!(ended.starts_with("job ended: item 0 failed: worker process 1000 was killed by signal 9"), "{ended}");
    assert_eq!(next(&mut watch).await, "worker Starting ");
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_of_a_resize_and_of_a_restart() {
    let mut pool = pool_of(1);
    let mut old = pool.next_ready_worker().await;
    let mut watch = pool.handle.watch().await.unwrap();
    pool.handle.resize(NonZeroU32::new(2).unwrap()).await.unwrap();
    assert_eq!(pool.handle.num_slots(), 2);
    pool.handle.resize(NonZeroU32::MIN).await.unwrap();
    pool.next_worker().await.die(None).await;
    settle().await;
    let mut restart = pool.handle.begin_restart().await.unwrap();
    assert!(matches!(old.next_command().await, WorkerCommand::Shutdown));
    old.leave().await;
    pool.next_worker().await.die(None).await;
    pool.next_ready_worker().await;
    restart.finished().await.unwrap();
    for expected in [
        "resized from 1 to 2",
        "worker Starting ",
        "resized from 2 to 1",
        "worker Stopping Resize",
        "worker Exited was killed by signal 9",
        "restart of 1",
        "worker Stopping Restart",
        "worker Exited exited with code 0",
        "worker Starting ",
        "worker Exited was killed by signal 9: last words",
        "worker Starting ",
        "worker Ready ",
        "restart ended: true",
    ] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_is_told_so() {
    let pool = pool_of(1);
    let mut watch = pool.handle.watch().await.unwrap();
    for slots in (1..=300).map(|slots| NonZeroU32::new(1 + slots % 2).unwrap()) {
        pool.handle.resize(slots).await.unwrap();
    }
    let missed = watch.events.recv().await;
    assert!(matches!(missed, Err(RecvError::Lagged(missed)) if missed > 300 - 256), "{missed:?}");
    let mut again = pool.handle.watch().await.unwrap();
    assert_eq!(again.snapshot.pool.num_slots, 1);
    assert!(again.events.try_recv().is_err(), "nothing of before comes after the snapshot");
}

#[tokio::test(start_paused = true)]
async fn what_a_pool_holds_and_has_done_is_counted() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let mut collecting = call("f");
    collecting.options.on_error = Some(OnError::Collect);
    let map = tokio::spawn(async move { handle.map(collecting, items(0..2)).await });
    let chunk = worker.next_chunk().await;
    assert_eq!(pool.handle.held().items, 2);
    assert!(pool.handle.held().bytes > 0);
    worker.finish(&chunk).await;
    let chunk = worker.next_chunk().await;
    worker.die(Some((chunk.chunk, 0))).await;
    assert_eq!(map.await.unwrap().unwrap().errors.len(), 1);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..3)).await });
    settle().await;
    map.abort();
    settle().await;
    let snapshot = pool.handle.snapshot().await.unwrap();
    let worker_exits_total = std::collections::BTreeMap::from([("signal", 1)]);
    let counts = PoolCounts {
        jobs_total: 2,
        jobs_failed_total: 1,
        items_succeeded_total: 1,
        items_failed_total: 1,
        items_dropped_total: 3,
        worker_exits_total,
    };
    assert_eq!(snapshot.counts, counts);
    assert_eq!(snapshot.pool.slots, SlotCounts { starting: 1, ..SlotCounts::default() });
    assert_eq!((pool.handle.held().items, pool.handle.held().bytes), (0, 0));
}

/// Returns the next event, in words.
async fn next(watch: &mut PoolWatch) -> String {
    match watch.events.recv().await.unwrap() {
        PoolEvent::JobStarted { function, num_items, .. } => format!("job of {function} with {num_items} items"),
        PoolEvent::JobEnded { error, .. } => format!("job ended: {error}"),
        PoolEvent::Worker { state, reason, .. } => format!("worker {state:?} {reason}"),
        PoolEvent::State(state) => format!("pool {state:?}"),
        PoolEvent::Resized { before, num_slots } => format!("resized from {before} to {num_slots}"),
        PoolEvent::RestartBegan { num_workers } => format!("restart of {num_workers}"),
        PoolEvent::RestartEnded { is_complete } => format!("restart ended: {is_complete}"),
    }
}
