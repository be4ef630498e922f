//! What nobody waits for any more is told to end, and then ended; and nothing else is: a session with a played process.

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_scheduler::{ChunkId, StopReason};
use tokio::time::{Instant, sleep};

use super::puppet::{GRACE, LOOK_INTERVAL, Worker};
use crate::supervisor::interface::{WorkerCommand, WorkerEventKind};

/// Returns a worker that runs chunk 1, has chunk 2 behind it, and was just told that nobody waits for the first.
async fn cancelled() -> (Worker, Instant) {
    let mut worker = Worker::ready(8).await;
    for chunk in 1..=2 {
        worker.run(chunk, 1, None).await;
    }
    worker.begin(1);
    sleep(LOOK_INTERVAL).await;
    worker.commands.send(WorkerCommand::Recall { chunk: ChunkId(1), cancel: true }).await.unwrap();
    let told_at = Instant::now();
    sleep(LOOK_INTERVAL).await;
    let is_told = |frame: &ServerFrame| matches!(frame, ServerFrame::Recall(recall) if recall.cancel);
    assert!(worker.read(64 << 10).iter().any(is_told));
    (worker, told_at)
}

#[tokio::test(start_paused = true)]
async fn who_does_not_end_when_told_gets_sigterm_and_then_sigkill() {
    let (mut worker, told_at) = cancelled().await;
    let WorkerEventKind::Stopping { reason } = worker.next().await else { panic!("it is ended") };
    assert_eq!(reason, StopReason::Cancelled);
    assert!(told_at.elapsed() >= GRACE.cancel && told_at.elapsed() < GRACE.cancel + 3 * LOOK_INTERVAL);
    let death = worker.killed().await.expect("SIGTERM has not ended it");
    let killed_after = death.at - told_at;
    assert!(killed_after >= GRACE.cancel + GRACE.kill, "{killed_after:?}");
    assert!(killed_after < GRACE.cancel + GRACE.kill + 3 * LOOK_INTERVAL, "{killed_after:?}");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_ended_for_an_item_that_has_given_way_to_another() {
    let (mut worker, told_at) = cancelled().await;
    // At the last moment.
    tokio::time::sleep_until(told_at + GRACE.cancel - LOOK_INTERVAL).await;
    worker.finish(1);
    worker.begin(2);
    sleep(10 * (GRACE.cancel + GRACE.kill)).await;
    assert!(worker.death.borrow().is_none());
    assert!(matches!(worker.next().await, WorkerEventKind::Results(_)));
    assert!(worker.events.try_recv().is_err(), "it got no SIGTERM");
}

#[tokio::test(start_paused = true)]
async fn who_has_survived_sigterm_and_goes_on_to_another_item_may_finish_it() {
    let (mut worker, _) = cancelled().await;
    assert!(matches!(worker.next().await, WorkerEventKind::Stopping { .. }));
    worker.finish(1);
    worker.begin(2);
    sleep(10 * GRACE.kill).await;
    assert!(worker.death.borrow().is_none(), "it runs what somebody waits for");
    worker.finish(2);
    assert!(worker.killed().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_the_driver_ends_is_left_to_the_driver() {
    let (mut worker, _) = cancelled().await;
    worker.commands.send(WorkerCommand::Terminate).await.unwrap();
    sleep(10 * (GRACE.cancel + GRACE.kill)).await;
    assert!(worker.death.borrow().is_none());
    assert!(worker.events.try_recv().is_err());
    worker.commands.send(WorkerCommand::Kill).await.unwrap();
    assert!(worker.killed().await.is_some());
}
