//! Whatever happens to a session, its worker is killed and its end is told; and nothing that a worker prints delays that.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::time::Duration;

use procpool_scheduler::ChunkId;
use tokio::time::Instant;

use super::PANIC_REASON;
use super::puppet::{LOOK_INTERVAL, MAX_FRAME_BYTES, Panic, Worker};
use crate::error::{ItemFailure, WorkerExit};
use crate::supervisor::interface::{WorkerCommand, WorkerEventKind};

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_kills_its_worker_and_tells_what_it_had_begun() {
    let mut worker = Worker::start(8, Panic::InTerminate).await;
    worker.run(1, 1, None).await;
    worker.begin(1);
    worker.run(2, 1, None).await;
    // Both have reached it, and so has that the first has begun.
    tokio::time::sleep(LOOK_INTERVAL).await;
    worker.commands.send(WorkerCommand::Terminate).await.unwrap();
    let WorkerEventKind::Exited { exit, running, .. } = worker.next().await else { panic!("it has ended") };
    assert_eq!(exit, WorkerExit::GivenUp { reason: PANIC_REASON });
    assert_eq!(running, Some((ChunkId(1), 0)), "the other one had not begun, and may run elsewhere");
    assert!(worker.death.borrow().is_some());
    assert!(worker.events.recv().await.is_none());
    worker.session.await.expect("and the session ends in order");
}

#[tokio::test(start_paused = true)]
async fn when_the_report_of_its_exit_panics_all_that_the_worker_had_fails() {
    let mut worker = Worker::start(8, Panic::InTerminateAndEnd).await;
    for chunk in 1..=2 {
        worker.run(chunk, 1, None).await;
    }
    worker.commands.send(WorkerCommand::Terminate).await.unwrap();
    for chunk in 1..=2 {
        let WorkerEventKind::Results(results) = worker.next().await else { panic!("nobody knows what had begun") };
        assert_eq!((results.chunk, results.first, results.count), (ChunkId(chunk), 0, 1));
        assert!(matches!(&results.failures[..], [(0, ItemFailure::WorkerProtocol { .. })]), "{results:?}");
    }
    let WorkerEventKind::Exited { exit, running: None, .. } = worker.next().await else { panic!("it has ended") };
    assert_eq!(exit, WorkerExit::GivenUp { reason: PANIC_REASON });
    assert!(worker.death.borrow().is_some());
    assert!(worker.events.recv().await.is_none());
    worker.session.await.expect("and the session ends in order");
}

#[tokio::test(start_paused = true)]
async fn when_the_report_of_its_exit_panics_what_was_being_asked_back_fails_too() {
    let mut worker = Worker::start(8, Panic::InTerminateAndEnd).await;
    worker.run(1, 1, None).await;
    worker.commands.send(WorkerCommand::Recall { chunk: ChunkId(1), cancel: false }).await.unwrap();
    worker.commands.send(WorkerCommand::Terminate).await.unwrap();
    let WorkerEventKind::Results(results) = worker.next().await else { panic!("it may have begun") };
    assert_eq!((results.chunk, results.first, results.count), (ChunkId(1), 0, 1));
    assert!(matches!(&results.failures[..], [(0, ItemFailure::WorkerProtocol { .. })]), "{results:?}");
    assert!(matches!(worker.next().await, WorkerEventKind::Exited { running: None, .. }));
    worker.session.await.expect("and the session ends in order");
}

#[tokio::test(start_paused = true)]
async fn when_the_report_of_its_exit_panics_what_the_driver_had_no_room_for_comes_first() {
    let mut worker = Worker::start(1, Panic::InTerminateAndEnd).await;
    // Chunks that are too large for a frame fail at once. The first fills the channel.
    for chunk in 1..=2 {
        worker.run(chunk, MAX_FRAME_BYTES as usize, None).await;
    }
    worker.run(3, 1, None).await;
    worker.commands.send(WorkerCommand::Terminate).await.unwrap();
    // Until then nobody hears.
    assert!(worker.killed().await.is_some());
    for chunk in 1..=2 {
        let WorkerEventKind::Results(results) = worker.next().await else { panic!("what it had said is not lost") };
        assert_eq!(results.chunk, ChunkId(chunk));
        assert!(matches!(&results.failures[..], [(0, ItemFailure::InvalidItem { .. })]), "{results:?}");
    }
    let WorkerEventKind::Results(results) = worker.next().await else { panic!("nobody knows what had begun") };
    assert_eq!(results.chunk, ChunkId(3));
    assert!(matches!(worker.next().await, WorkerEventKind::Exited { running: None, .. }));
    worker.session.await.expect("and the session ends in order");
}

/// A timer that is over is noticed between two reads of output, however much more there is to read.
#[tokio::test]
async fn a_flood_of_output_delays_no_timer() {
    /// Far more than is read in the time of the timer, and less than a runtime lets a task read that it does not stop.
    const FLOOD_BYTES: usize = 1 << 20;
    let worker = Worker::ready(8).await;
    let mut stdout = std::fs::File::from(worker.stdout.as_fd().try_clone_to_owned().unwrap());
    let flood = tokio::task::spawn_blocking(move || {
        let block = b"y\n".repeat(16 << 10);
        let mut written = 0;
        while written < FLOOD_BYTES && stdout.write_all(&block).is_ok() {
            written += block.len();
        }
    });
    let began = Instant::now();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!flood.is_finished(), "the timer was noticed after {:?}, when there was nothing to read", began.elapsed());
    // Nobody reads any more, and the flood ends.
    worker.commands.send(WorkerCommand::Kill).await.unwrap();
    drop(worker.stdout);
    worker.session.await.unwrap();
    flood.await.unwrap();
}
