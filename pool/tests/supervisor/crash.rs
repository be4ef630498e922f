//! Death in the middle of an item: what had finished, what was running, and how it ended.

use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{ItemFailure, WorkerExit};
use procpool_scheduler::ChunkId;
use rustix::process::Signal;

use crate::support::{Worker, blobs, is_gone, pid, wait_until};

const ITEMS: [&[u8]; 4] = [b"one", b"two", b"three", b"four"];

#[tokio::test]
async fn a_kill_leaves_the_journal_and_names_the_item() {
    let mut worker = Worker::in_role("journal");
    let worker_pid = worker.ready().await;
    worker.run(7, &ITEMS).await;
    worker.mark("running").await;
    rustix::process::kill_process(pid(worker_pid), Signal::KILL).unwrap();

    let results = worker.results().await;
    assert_eq!((results.chunk, results.first, results.count), (ChunkId(7), 0, 2));
    assert_eq!(results.items, blobs(&[b"one", b"two"]));
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Signal(9));
    assert_eq!(exited.running, Some((ChunkId(7), 2)));
}

#[tokio::test]
async fn a_journal_that_was_sent_in_part_counts_once() {
    let mut worker = Worker::in_role("journal_sent");
    let worker_pid = worker.ready().await;
    worker.run(7, &ITEMS).await;
    worker.mark("running").await;
    rustix::process::kill_process(pid(worker_pid), Signal::KILL).unwrap();

    assert_eq!(worker.results().await.items, blobs(&[b"one"]));
    let recovered = worker.results().await;
    assert_eq!((recovered.first, recovered.count), (1, 1));
    assert_eq!(recovered.items, blobs(&[b"two"]));
    let exited = worker.exited().await;
    assert_eq!(exited.running, None, "the item begun last has its result");
}

#[tokio::test]
async fn every_end_in_the_middle_of_an_item_is_told_apart() {
    let ends = [
        ("exit_0", WorkerExit::Code(0)),
        ("exit_7", WorkerExit::Code(7)),
        ("abort", WorkerExit::Signal(6)),
        ("segfault", WorkerExit::Signal(11)),
    ];
    for (role, exit) in ends {
        let mut worker = Worker::in_role(role);
        worker.ready().await;
        worker.run(1, &ITEMS).await;
        let exited = worker.exited().await;
        assert_eq!(exited.exit, exit, "{role}");
        assert_eq!(exited.running, Some((ChunkId(1), 0)), "{role}");
        if role == "exit_7" {
            assert!(exited.stderr_tail.ends_with("cannot go on"), "{}", exited.stderr_tail);
        }
    }
}

#[tokio::test]
async fn a_torn_frame_is_no_result() {
    let mut worker = Worker::in_role("torn_frame");
    worker.ready().await;
    worker.run(1, &[&[b'x'; 5_000]]).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(1));
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn items_whose_results_are_lost_fail_and_do_not_run_again() {
    let mut worker = Worker::in_role("lose_results");
    worker.ready().await;
    worker.run(1, &ITEMS).await;
    let lost = worker.results().await;
    assert_eq!((lost.first, lost.count), (0, 2));
    assert_eq!(lost.items, blobs(&[b"", b""]));
    assert!(matches!(lost.failures[..], [(0, ItemFailure::WorkerProtocol { .. }), (1, _)]), "{:?}", lost.failures);
    let exited = worker.exited().await;
    assert_eq!(exited.running, Some((ChunkId(1), 2)));
}

#[tokio::test]
async fn a_worker_without_the_page_names_its_item_too() {
    let mut worker = Worker::in_role("begin_without_page");
    worker.ready().await;
    worker.run(1, &ITEMS).await;
    worker.mark("running").await;
    worker.command(WorkerCommand::Kill).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Signal(9));
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn descendants_die_with_the_worker_and_delay_nothing() {
    let worker = Worker::in_role("descend");
    let descendant = worker.mark("descendant").await.parse().unwrap();
    // It holds stdout and stderr for a thousand seconds.
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(0));
    wait_until("the descendant is gone", || is_gone(descendant));
}

#[tokio::test]
async fn a_program_that_is_not_there_is_a_failed_spawn() {
    let worker = Worker::start("", 64, |config| config.program = "/no/such/program".into());
    let exited = worker.exited().await;
    let WorkerExit::SpawnFailed { reason, by_shortage: false } = exited.exit else { panic!("{:?}", exited.exit) };
    assert!(reason.contains("/no/such/program") && reason.contains("No such file"), "{reason}");
}

#[tokio::test]
async fn a_worker_that_exits_at_once_was_running_nothing() {
    let worker = Worker::shell("echo no module named x >&2; exit 3");
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(3));
    assert_eq!(exited.running, None);
    assert_eq!(exited.stderr_tail, "no module named x");
}
