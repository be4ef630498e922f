//! The programs of `test-workers`, each with one vice, against the supervisor.

use procpool_items::{ItemKind, SlabBuilder};
use procpool_pool::WorkerExit;
use procpool_pool::supervisor::{ChunkRun, WorkerCommand, WorkerEventKind};
use procpool_scheduler::ChunkId;
use rustix::process::Signal;

use crate::support::{Worker, chunk_run, is_gone, pid, wait_until};

fn program(name: &str) -> Worker {
    Worker::start("", 64, |config| {
        config.program = procpool_test_workers::path(name).into();
        config.args.clear();
    })
}

/// A chunk of numbers for a function.
fn numbers(function: &str, items: &[f64]) -> ChunkRun {
    let mut slab = SlabBuilder::new();
    for item in items {
        // Value.number_value
        slab.push(&[&[0x11][..], &item.to_le_bytes()].concat());
    }
    let mut run = chunk_run(1, &vec![&b""[..]; items.len()]);
    run.kind = ItemKind::Values;
    run.function = function.into();
    run.parts = vec![slab.take()];
    run
}

#[tokio::test]
async fn answers_that_break_the_protocol_end_the_worker() {
    let programs = [
        ("bad_frame", "no frame"),
        ("huge_frame", "over the limit"),
        ("empty_value", "malformed results"),
        ("wrong_chunk", "does not have"),
        ("wrong_count", "results for chunk 1"),
        ("closes_channel", "closed its channel"),
    ];
    for (name, expected) in programs {
        let mut worker = program(name);
        worker.ready().await;
        worker.command(WorkerCommand::Run(numbers("echo", &[1.0]))).await;
        let exited = worker.exited().await;
        let WorkerExit::Protocol(detail) = &exited.exit else { panic!("{name}: {:?}", exited.exit) };
        assert!(detail.contains(expected), "{name}: {detail}");
    }
}

#[tokio::test]
async fn a_second_answer_ends_the_worker_and_the_first_counts() {
    let mut worker = program("double_reply");
    worker.ready().await;
    worker.command(WorkerCommand::Run(numbers("echo", &[1.0, 2.0]))).await;
    assert_eq!(worker.results().await.count, 2);
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::Protocol(_)), "{:?}", exited.exit);
    assert_eq!(exited.running, None);
}

#[tokio::test]
async fn results_of_what_was_given_back_end_the_worker() {
    let mut worker = program("reply_after_recall");
    worker.ready().await;
    worker.command(WorkerCommand::Run(numbers("echo", &[1.0, 2.0, 3.0]))).await;
    worker.command(WorkerCommand::Recall { chunk: ChunkId(1), cancel: false }).await;
    let event = worker.next().await;
    assert!(matches!(event, WorkerEventKind::Recalled { first_not_begun: 1, .. }), "{event:?}");
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::Protocol(_)), "{:?}", exited.exit);
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn deaths_keep_what_was_finished() {
    let deaths = [
        ("exit_zero_mid_chunk", "echo", WorkerExit::Code(0), 1),
        ("half_frame", "echo", WorkerExit::Code(0), 0),
        ("no_page", "crash", WorkerExit::Signal(9), 1),
        ("well_behaved", "abort", WorkerExit::Signal(6), 0),
        ("well_behaved", "exit_zero", WorkerExit::Code(0), 0),
    ];
    for (name, function, exit, finished) in deaths {
        let mut worker = program(name);
        worker.ready().await;
        worker.command(WorkerCommand::Run(numbers(function, &[1.0, 2.0, 3.0]))).await;
        if finished > 0 {
            assert_eq!(worker.results().await.count, finished, "{name} {function}");
        }
        let exited = worker.exited().await;
        assert_eq!(exited.exit, exit, "{name} {function}");
        assert_eq!(exited.running, Some((ChunkId(1), finished)), "{name} {function}");
    }
}

#[tokio::test]
async fn a_worker_that_fails_at_its_start_says_why() {
    let exited = program("crash_on_start").exited().await;
    assert_eq!(exited.exit, WorkerExit::Code(3));

    for name in ["never_hello", "never_ready"] {
        let mut worker = program(name);
        if name == "never_ready" {
            worker.started().await;
            worker.next().await;
        }
        worker.command(WorkerCommand::Kill).await;
        assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
    }
}

#[tokio::test]
async fn what_ignores_sigterm_or_never_reads_is_killed() {
    let mut worker = program("ignores_sigterm");
    let worker_pid = worker.ready().await;
    worker.command(WorkerCommand::Terminate).await;
    worker.command(WorkerCommand::Run(numbers("echo", &[1.0]))).await;
    assert_eq!(worker.results().await.count, 1, "it lives");
    rustix::process::kill_process_group(pid(worker_pid), Signal::STOP).unwrap();
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));

    let mut worker = program("stops_reading");
    worker.ready().await;
    worker.command(WorkerCommand::Run(numbers("echo", &[1.0]))).await;
    let mut large = numbers("echo", &vec![1.0; 1_000_000]);
    large.chunk = ChunkId(2);
    worker.command(WorkerCommand::Run(large)).await;
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
}

#[tokio::test]
async fn grandchildren_that_hold_the_pipes_delay_nothing() {
    for name in ["forks_grandchild", "holds_pipe_open"] {
        let mut worker = program(name);
        let worker_pid = worker.ready().await;
        if name == "forks_grandchild" {
            worker.command(WorkerCommand::Run(numbers("fork", &[1.0]))).await;
            assert_eq!(worker.results().await.count, 1);
        }
        rustix::process::kill_process(pid(worker_pid), Signal::KILL).unwrap();
        assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9), "{name}");
        let group_is_gone = || crate::support::is_group_gone(worker_pid);
        wait_until("the grandchild is gone", || is_gone(worker_pid) && group_is_gone());
    }
}
