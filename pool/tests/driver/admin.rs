//! What operators see and do.

use std::num::NonZeroU32;

use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{PoolEvent, PoolState, WorkerState};
use procpool_scheduler::Cancel;

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

    // The first is busy: it is asked for what has not begun, and goes when its item is done.
    assert!(matches!(first.next_command().await, WorkerCommand::Recall { cancel: Cancel::Nothing, .. }));
    assert!(second.has_no_command().await, "all but one stay");
    first.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    assert!(matches!(first.next_command().await, WorkerCommand::Shutdown));
    first.leave().await;
    let mut third = pool.next_worker().await;
    assert!(second.has_no_command().await, "the new one is not ready yet");
    third.become_ready().await;
    assert!(matches!(second.next_command().await, WorkerCommand::Shutdown));
    second.leave().await;
    settle().await;
    assert!(!restart.is_finished());
    let mut fourth = pool.next_ready_worker().await;
    assert_eq!(restart.await.unwrap().unwrap(), 2);
    assert!(third.has_no_command().await && fourth.has_no_command().await, "the new ones stay");
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
    assert_eq!((snapshot.pool.readiness, snapshot.pool.num_slots, snapshot.pool.num_jobs), (PoolState::Ready, 1, 1));
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
    let mut seen = Vec::new();
    while seen.len() < 4 {
        seen.push(match watch.events.recv().await.unwrap() {
            PoolEvent::JobStarted { function, num_items, .. } => format!("job of {function} with {num_items} items"),
            PoolEvent::JobEnded { error, .. } => format!("job ended: {error}"),
            PoolEvent::Worker { state, reason, .. } => format!("worker {state:?} {reason}"),
            PoolEvent::State(state) => format!("pool {state:?}"),
        });
    }
    assert_eq!(seen[0], "job of f with 1 items");
    assert_eq!(seen[1], "worker Exited was killed by signal 9");
    assert!(seen[2].starts_with("job ended: item 0 failed: worker process 1000 was killed by signal 9"), "{}", seen[2]);
    assert_eq!(seen[3], "worker Starting ");
}
