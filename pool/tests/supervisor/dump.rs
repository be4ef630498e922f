//! Asking workers for their stacks: those that answer, those that can't stop, and those that say nothing.

use std::time::{Duration, Instant};

use procpool_ipc::page::monotonic_ns;
use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_pool::supervisor::{WorkerCommand, WorkerEventKind};
use procpool_pool::{DumpFailure, WorkerExit};
use procpool_scheduler::ChunkId;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::roles::{self, Connection, hello, mark};
use crate::support::{PATIENCE, Worker, chunk_run, pid, stop};

const DUMP_SIGNAL: i32 = 10;
const END: &str = " in the end\n";
const DUMP: &str = "Thread 2:\n  reads\n\nThread 1:\n  waits\n  starts in the end\n";
const MOST_IMPORTANT_FIRST: &str = "Thread 1:\n  waits\n  starts in the end\n\nThread 2:\n  reads";

/// The roles of workers that announce a dump signal. Each item runs for ever.
pub(crate) fn play(role: &str, connection: &mut Connection) {
    let dumps = connection.dumps.take().unwrap();
    let (dump, end) = match role {
        "dump_whole" | "dump_bad_signal" | "dump_elsewhere" => (DUMP.as_bytes().to_vec(), END),
        "dump_without_end" => (DUMP.as_bytes().to_vec(), ""),
        "dump_flood" => (vec![b'x'; 1 << 20], END),
        "dump_nothing" => (Vec::new(), END),
        _ => panic!("no role {role}"),
    };
    let (ready, is_ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = signal(SignalKind::from_raw(DUMP_SIGNAL)).unwrap();
            ready.send(()).unwrap();
            while signals.recv().await.is_some() {
                for piece in dump.chunks(4096.min(dump.len() / 2 + 1)) {
                    // The pipe never blocks: what does not fit is lost.
                    let _ = rustix::io::write(&dumps, piece);
                }
            }
        });
    });
    is_ready.recv().unwrap();
    let dump_signal = if role == "dump_bad_signal" { 9 } else { DUMP_SIGNAL.unsigned_abs() };
    // Another process of the same user, but none of the worker's: the one that started it.
    let worker_pid = if role == "dump_elsewhere" { std::os::unix::process::parent_id() } else { std::process::id() };
    let hello = proto::Hello { dump_signal, dump_end: end.to_owned(), pid: worker_pid, ..hello(true) };
    connection.send(WorkerFrame::Hello(hello));
    connection.send(WorkerFrame::Ready(proto::Ready {}));
    while let Some(frame) = connection.receive() {
        match frame {
            ServerFrame::Run(run) => {
                connection.page().stamp_start(monotonic_ns());
                connection.page().begin(run.first_sequence);
                mark("running", "");
            }
            ServerFrame::Shutdown(_) => return,
            _ => {}
        }
    }
    roles::mark("end_of_channel", "");
}

async fn dump(worker: &Worker) -> Result<String, DumpFailure> {
    let (sender, answer) = oneshot::channel();
    worker.command(WorkerCommand::Dump(sender)).await;
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer in time").unwrap()
}

/// Has workers of a role tell their stacks so often, and checks each. One that does not answer in its 100 ms, which a busy
/// machine can bring about, is replaced, since its answer may still come.
async fn expect_dumps(role: &str, wanted: usize, check: impl Fn(&str)) {
    let mut answers = 0;
    for _ in 0..50 {
        let mut worker = Worker::in_role(role);
        worker.ready().await;
        while answers < wanted {
            match dump(&worker).await {
                Ok(stacks) => check(&stacks),
                Err(DumpFailure::NoAnswer) => break,
                Err(other) => panic!("{role}: {other}"),
            }
            answers += 1;
        }
        end(worker).await;
        if answers == wanted {
            return;
        }
    }
    panic!("{role}: only {answers} of {wanted} dumps were answered");
}

async fn end(worker: Worker) {
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
}

#[tokio::test]
async fn a_worker_tells_its_stacks_as_often_as_it_is_asked() {
    for role in ["dump_whole", "dump_without_end"] {
        expect_dumps(role, 20, |stacks| assert_eq!(stacks, MOST_IMPORTANT_FIRST, "{role}")).await;
    }
}

#[tokio::test]
async fn a_dump_is_bounded_and_what_was_cut_is_not_in_the_next() {
    let check = |stacks: &str| assert!(!stacks.is_empty() && stacks.len() <= 64 << 10, "{}", stacks.len());
    expect_dumps("dump_flood", 10, check).await;
}

#[tokio::test]
async fn a_worker_that_does_not_answer_costs_a_moment() {
    let mut stopped = Worker::in_role("dump_whole");
    let stopped_pid = stopped.ready().await;
    stop(stopped_pid);
    let mut silent = Worker::in_role("dump_nothing");
    silent.ready().await;
    for worker in [stopped, silent] {
        let began = Instant::now();
        assert_eq!(dump(&worker).await, Err(DumpFailure::NoAnswer));
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        end(worker).await;
    }
}

#[tokio::test]
async fn a_dump_of_a_worker_that_stands_still_again_is_whole() {
    let mut worker = Worker::in_role("dump_whole");
    let worker_pid = worker.ready().await;
    stop(worker_pid);
    assert_eq!(dump(&worker).await, Err(DumpFailure::NoAnswer));
    rustix::process::kill_process(pid(worker_pid), Signal::CONT).unwrap();
    // The late answer to the first may come first; never a mixture that is neither. A busy machine may be late again.
    let mut answers = 0;
    for _ in 0..500 {
        match dump(&worker).await {
            Ok(stacks) => {
                assert_eq!(stacks, MOST_IMPORTANT_FIRST);
                answers += 1;
            }
            Err(failure) => assert_eq!(failure, DumpFailure::NoAnswer),
        }
        if answers == 10 {
            break;
        }
    }
    assert_eq!(answers, 10, "that were whole");
    end(worker).await;
}

#[tokio::test]
async fn workers_without_a_signal_cannot_tell() {
    let mut worker = Worker::in_role("echo");
    worker.ready().await;
    assert_eq!(dump(&worker).await, Err(DumpFailure::NotSupported));
    worker.run(1, &[b"a"]).await;
    assert_eq!(worker.results().await.chunk, ChunkId(1));
    end(worker).await;
}

#[tokio::test]
async fn no_signal_goes_to_a_process_that_is_not_the_workers() {
    let mut worker = Worker::in_role("dump_elsewhere");
    // The pid that it tells is ours: the signal would end this test.
    assert_eq!(worker.ready().await, std::process::id());
    assert_eq!(dump(&worker).await, Err(DumpFailure::NotSupported));
    worker.command(WorkerCommand::Shutdown).await;
    worker.spawner.closed().await;
}

#[tokio::test]
async fn a_signal_that_is_none_for_that_breaks_the_protocol() {
    let worker = Worker::in_role("dump_bad_signal");
    let WorkerExit::Protocol(problem) = worker.exited().await.exit else { panic!("it was let through") };
    assert!(problem.contains("dump signal 9"), "{problem}");
}

#[tokio::test]
async fn an_item_whose_time_is_up_is_told_with_its_stack() {
    for (role, expected) in [("dump_whole", MOST_IMPORTANT_FIRST), ("dump_nothing", "")] {
        let mut stack = stack_of_first_item(role).await;
        for _ in 0..50 {
            // On a busy machine a worker may not answer in its 100 ms.
            if stack == expected || !stack.is_empty() {
                break;
            }
            stack = stack_of_first_item(role).await;
        }
        assert_eq!(stack, expected, "{role}");
    }
}

/// Has a worker run an item that has no time; returns the stack that is told with it.
async fn stack_of_first_item(role: &str) -> String {
    let mut worker = Worker::in_role(role);
    worker.ready().await;
    let mut run = chunk_run(1, &[b"a", b"b"]);
    run.time_limit = Some(Duration::ZERO);
    worker.command(WorkerCommand::Run(run)).await;
    let WorkerEventKind::ItemExpired { chunk, offset, stack } = worker.next().await else { panic!("{role}") };
    assert_eq!((chunk, offset), (ChunkId(1), 0), "{role}");
    worker.command(WorkerCommand::Kill).await;
    worker.spawner.closed().await;
    stack
}
