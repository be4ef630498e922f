//! Commands reach the worker whatever else is stuck.

use std::time::Duration;

use procpool_pool::supervisor::{ChunkCommon, WorkerCommand, WorkerEventKind};
use procpool_pool::{CallPart, CommonArgument, ItemFailure, WorkerExit};
use procpool_scheduler::{ChunkId, StopReason};

use crate::support::{GRACE, Worker, blobs, chunk_run, is_gone, stop, wait_until, wait_until_stopped};

#[tokio::test]
async fn chunks_come_back_and_shutdown_ends_it() {
    let mut worker = Worker::in_role("echo");
    worker.ready().await;
    for chunk in 1..=100 {
        worker.run(chunk, &[b"a", b"", b"ccc"]).await;
        let results = worker.results().await;
        assert_eq!(results.chunk, ChunkId(chunk));
        assert_eq!(results.items, blobs(&[b"a", b"", b"ccc"]));
        assert_eq!(results.busy, Duration::from_nanos(5));
    }
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}

#[tokio::test]
async fn a_worker_that_does_not_take_a_common_argument_never_sees_one() {
    let mut worker = Worker::in_role("echo");
    worker.ready().await;
    let mut run = chunk_run(1, &[b"a", b"b"]);
    let argument = CommonArgument { kind: run.kind, content_type: String::new(), bytes: b"c"[..].into() };
    run.common = Some(ChunkCommon { common: 7, argument: Some(argument) });
    worker.command(WorkerCommand::Run(run)).await;
    let results = worker.results().await;
    assert_eq!((results.chunk, results.count), (ChunkId(1), 2));
    for (_, failure) in &results.failures {
        assert!(
            matches!(failure, ItemFailure::InvalidItem { part: CallPart::Common, message } if message.contains("too old")),
            "{failure}"
        );
    }
    assert_eq!(results.failures.len(), 2);
    worker.command(WorkerCommand::DropCommons(vec![7])).await;
    // It has seen none of that, and lives.
    worker.run(2, &[b"a"]).await;
    assert_eq!(worker.results().await.items, blobs(&[b"a"]));
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}

#[tokio::test]
async fn a_recall_is_answered() {
    let mut worker = Worker::in_role("answer_recall");
    worker.ready().await;
    worker.run(1, &[b"a", b"b", b"c"]).await;
    worker.command(WorkerCommand::Recall { chunk: ChunkId(99), cancel: true }).await;
    worker.command(WorkerCommand::Recall { chunk: ChunkId(1), cancel: false }).await;
    let event = worker.next().await;
    assert!(matches!(event, WorkerEventKind::Recalled { chunk: ChunkId(1), first_not_begun: 1 }), "{event:?}");
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn an_item_whose_time_is_up_is_told_and_then_its_worker_ended() {
    for role in ["begin", "begin_without_page"] {
        let mut worker = Worker::in_role(role);
        worker.ready().await;
        let limit = Duration::from_millis(100);
        let mut run = chunk_run(1, &[b"a", b"b"]);
        run.time_limit = Some(limit);
        let sent = std::time::Instant::now();
        worker.command(WorkerCommand::Run(run)).await;
        let event = worker.next().await;
        assert!(
            matches!(event, WorkerEventKind::ItemExpired { chunk: ChunkId(1), offset: 0, .. }),
            "{role}: {event:?}"
        );
        assert!(sent.elapsed() >= limit);
        let event = worker.next().await;
        assert!(matches!(event, WorkerEventKind::Stopping { reason: StopReason::ItemTimeout }), "{role}: {event:?}");
        assert!(sent.elapsed() >= limit + GRACE.cancel);
        let exited = worker.exited().await;
        assert_eq!((exited.exit, exited.running), (WorkerExit::Signal(15), Some((ChunkId(1), 0))), "{role}");
    }
}

#[tokio::test]
async fn a_worker_that_neither_begins_nor_answers_is_killed() {
    let mut worker = Worker::in_role("ignore_frames");
    worker.ready().await;
    // Nobody asks after it, and its items have no time limit.
    worker.run(1, &[b"a"]).await;
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::GivenUp { reason } if reason.contains("neither")), "{:?}", exited.exit);
    assert_eq!(exited.running, None, "what has not begun may run elsewhere");
}

#[tokio::test]
async fn a_worker_that_stops_itself_within_an_item_is_made_to_go_on() {
    let mut worker = Worker::in_role("stop_once");
    worker.ready().await;
    for chunk in 1..=2 {
        // Its items have no time limit.
        worker.run(chunk, &[b"a"]).await;
        assert_eq!(worker.results().await.items, blobs(&[b"a"]));
    }
    // The thread that sends the signal may go on for a moment: then it stands still now, with nothing to do.
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
}

#[tokio::test]
async fn a_worker_that_stops_itself_again_is_killed_and_its_item_named() {
    let mut worker = Worker::in_role("stop_again");
    worker.ready().await;
    worker.run(1, &[b"a"]).await;
    let exited = worker.exited().await;
    assert!(matches!(exited.exit, WorkerExit::GivenUp { reason } if reason.contains("SIGSTOP")), "{:?}", exited.exit);
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn a_stopped_worker_takes_sigterm() {
    let worker = Worker::shell(
        "cd $PROCPOOL_TEST_DIRECTORY; trap 'exit 5' TERM; echo $$ >new; mv new pid; kill -STOP $$; sleep 1000",
    );
    let number = worker.mark("pid").await.trim().parse().unwrap();
    wait_until_stopped(number);
    worker.command(WorkerCommand::Terminate).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(5));
}

#[tokio::test]
async fn a_worker_that_takes_its_time_and_answers_is_let_be() {
    let mut worker = Worker::in_role("answer_ping");
    worker.ready().await;
    let mut run = chunk_run(1, &[b"a"]);
    run.time_limit = Some(Duration::from_millis(1));
    worker.command(WorkerCommand::Run(run)).await;
    // It is asked again and again.
    worker.mark("ping_3").await;
    worker.command(WorkerCommand::Recall { chunk: ChunkId(1), cancel: false }).await;
    let event = worker.next().await;
    assert!(matches!(event, WorkerEventKind::Recalled { first_not_begun: 0, .. }), "{event:?}");
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.running, None);
}

/// Whether its function is told is for the worker to decide, who knows best; but what is known here is not told at all.
#[tokio::test]
async fn only_the_item_that_runs_is_told_to_end() {
    let mut worker = Worker::in_role("recalls");
    worker.ready().await;
    let mut run = chunk_run(1, &[b"a", b"b", b"c"]);
    // The first takes no time at all, and nobody looks before the second runs.
    run.time_limit = Some(Duration::from_secs(1));
    worker.command(WorkerCommand::Run(run)).await;
    worker.mark("running").await;
    assert_eq!(worker.results().await.items, blobs(&[b"a"]));
    let event = worker.next().await;
    assert!(matches!(event, WorkerEventKind::ItemExpired { chunk: ChunkId(1), offset: 1, .. }), "{event:?}");
    for cancel in [false, true] {
        worker.command(WorkerCommand::Recall { chunk: ChunkId(1), cancel }).await;
    }
    let recalls = worker.mark("recalls_3").await;
    assert_eq!(recalls.lines().collect::<Vec<_>>(), ["true Some(1)", "false None", "true None"]);
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.running, Some((ChunkId(1), 1)));
}

#[tokio::test]
async fn terminate_reaches_the_group() {
    let worker = Worker::shell("cd $PROCPOOL_TEST_DIRECTORY; echo $$ >new; mv new pid; sleep 1000 & wait");
    worker.mark("pid").await;
    worker.command(WorkerCommand::Terminate).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(15));
}

#[tokio::test]
async fn kill_ends_a_worker_that_ignores_sigterm() {
    let script =
        "cd $PROCPOOL_TEST_DIRECTORY; trap 'echo >term' TERM; echo $$ >new; mv new pid; while :; do sleep 0.01; done";
    let worker = Worker::shell(script);
    worker.mark("pid").await;
    worker.command(WorkerCommand::Terminate).await;
    worker.mark("term").await;
    worker.command(WorkerCommand::Kill).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
}

#[tokio::test]
async fn kill_ends_a_stopped_worker() {
    let mut worker = Worker::in_role("begin");
    let worker_pid = worker.ready().await;
    worker.run(1, &[b"a"]).await;
    worker.mark("running").await;
    stop(worker_pid);
    worker.command(WorkerCommand::Kill).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Signal(9));
    assert_eq!(exited.running, Some((ChunkId(1), 0)));
}

#[tokio::test]
async fn without_commands_the_worker_is_killed() {
    let mut worker = Worker::in_role("echo");
    worker.ready().await;
    worker.commands = None;
    assert_eq!(worker.exited().await.exit, WorkerExit::Signal(9));
}

#[tokio::test]
async fn kill_acts_while_a_write_is_stuck() {
    let mut worker = Worker::in_role("ignore_frames");
    worker.ready().await;
    worker.run(1, &[b"a"]).await;
    worker.run(2, &[&vec![b'x'; 32 << 20]]).await;
    worker.mark("frame").await;
    worker.command(WorkerCommand::Kill).await;
    let exited = worker.exited().await;
    assert_eq!(exited.exit, WorkerExit::Signal(9));
    assert_eq!(exited.running, None);
}

#[tokio::test]
async fn reading_goes_on_while_a_write_is_stuck() {
    let mut worker = Worker::in_role("slow_reader");
    worker.ready().await;
    let large = vec![b'x'; 32 << 20];
    worker.run(1, &[b"a"]).await;
    worker.run(2, &[&large, b"b"]).await;
    worker.mark("answered").await;
    assert_eq!(worker.results().await.chunk, ChunkId(1));
    std::fs::write(worker.file("go_on"), "").unwrap();
    let results = worker.results().await;
    assert_eq!(results.items, blobs(&[&large, b"b"]));
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}

#[tokio::test]
async fn kill_acts_while_the_events_wait() {
    let mut worker = Worker::start("chatter", 1, |_| {});
    let worker_pid = worker.ready().await;
    let items: Vec<Vec<u8>> = (0..200_u32).map(|index| vec![index.to_le_bytes()[0]; 4_000]).collect();
    let items: Vec<&[u8]> = items.iter().map(Vec::as_slice).collect();
    worker.run(1, &items).await;
    // One event in the channel, and many more than a socket's buffer holds to come.
    let first = worker.results().await;
    assert_eq!((first.first, first.count), (0, 1));
    worker.command(WorkerCommand::Kill).await;
    // Nobody takes events meanwhile.
    tokio::task::spawn_blocking(move || wait_until("the worker is reaped", || is_gone(worker_pid))).await.unwrap();

    let mut next = 1;
    loop {
        match worker.next().await {
            WorkerEventKind::Results(results) => {
                assert_eq!(results.first, next);
                assert_eq!(&results.items[3..], items[next as usize]);
                next += results.count;
            }
            WorkerEventKind::Exited { exit, .. } => {
                // It may have written everything before the signal came.
                assert_eq!(exit, WorkerExit::Signal(9));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    worker.spawner.closed().await;
}

#[tokio::test]
async fn nothing_starts_once_the_spawner_is_closed() {
    use procpool_pool::supervisor::{ProcessSpawner, WorkerSpawner};
    use procpool_scheduler::{SlotId, WorkerId};
    let directory = tempfile::tempdir().unwrap();
    let spawner = ProcessSpawner::new(crate::support::config("echo", directory.path())).unwrap();
    spawner.closed().await;
    let (sender, mut events) = tokio::sync::mpsc::channel(1);
    let _commands = spawner.spawn(WorkerId { slot: SlotId(0), generation: 1 }, GRACE, sender);
    let event = events.recv().await.unwrap();
    assert!(matches!(event.kind, WorkerEventKind::Exited { exit: WorkerExit::SpawnFailed { .. }, .. }), "{event:?}");
}

#[tokio::test]
async fn a_chunk_beyond_the_frame_limit_fails_and_the_worker_lives() {
    let mut worker = Worker::start("echo", 1, |config| config.max_frame_bytes = 10_000);
    worker.ready().await;
    for chunk in [1, 2, 3] {
        worker.run(chunk, &[&[b'x'; 6_000], &[b'y'; 6_000]]).await;
    }
    worker.run(4, &[b"z"]).await;
    for chunk in [1, 2, 3] {
        let refused = worker.results().await;
        assert_eq!((refused.chunk, refused.count), (ChunkId(chunk), 2));
        assert!(matches!(refused.failures[..], [(0, ItemFailure::InvalidItem { .. }), (1, _)]), "{refused:?}");
    }
    assert_eq!(worker.results().await.items, blobs(&[b"z"]));
    worker.command(WorkerCommand::Shutdown).await;
    assert_eq!(worker.exited().await.exit, WorkerExit::Code(0));
}
