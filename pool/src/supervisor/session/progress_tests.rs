//! Who is ended for what it was said to run: a session with a played process.

use procpool_scheduler::ChunkId;
use tokio::time::sleep;

use super::puppet::{LOOK_INTERVAL, Worker};
use crate::supervisor::interface::{EndBy, WorkerCommand, WorkerEventKind};

/// Returns the chunk that a worker is said to run.
async fn running(worker: &mut Worker) -> Option<ChunkId> {
    loop {
        if let WorkerEventKind::Progress { running, .. } = worker.next().await {
            return running.map(|running| running.chunk);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_killed_for_an_item_that_has_given_way_to_another() {
    let mut worker = Worker::ready(8).await;
    for chunk in 1..=2 {
        worker.run(chunk, 1, None).await;
    }
    worker.begin(1);
    sleep(LOOK_INTERVAL).await;
    worker.commands.send(WorkerCommand::Probe).await.unwrap();
    assert_eq!(running(&mut worker).await, Some(ChunkId(1)));
    // By the time of the end, the next one has begun.
    worker.finish(1);
    worker.begin(2);
    sleep(LOOK_INTERVAL).await;
    worker.commands.send(WorkerCommand::IfUnchanged(EndBy::Kill)).await.unwrap();
    assert_eq!(running(&mut worker).await, Some(ChunkId(2)));
    assert!(worker.death.borrow().is_none());
    // Now it is meant.
    worker.commands.send(WorkerCommand::IfUnchanged(EndBy::Kill)).await.unwrap();
    assert!(worker.killed().await.is_some());
}
