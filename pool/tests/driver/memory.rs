//! Workers that hold too much memory: replaced between items, or killed.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_pool::supervisor::{WorkerCommand, WorkerEventKind};
use procpool_pool::{CallError, CallOptions, ExitUsage, ItemFailure, WorkerExit};
use tokio::time::Instant;

use crate::scripted::{blobs, call, items, pool_of, settle, texts};

#[tokio::test(start_paused = true)]
async fn large_workers_are_replaced_after_their_item_one_at_a_time_and_nothing_fails() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let mut the_call = call("f");
    the_call.options = CallOptions { chunk_size: NonZeroU32::new(3), ..CallOptions::default() };
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..3)).await });
    let chunk = first.next_chunk().await;
    first.say(WorkerEventKind::MemoryHigh).await;
    assert!(first.has_no_command().await, "its item may not have begun, and may be what is so large");
    first.send_results(chunk.chunk, 0, blobs(&["0!".to_owned()]), Vec::new()).await;
    let command = first.next_command().await;
    assert!(matches!(command, WorkerCommand::Recall { cancel: false, .. }), "{command:?}");

    // What is behind it runs elsewhere.
    first.give_back(chunk.chunk, 1).await;
    assert!(matches!(first.next_command().await, WorkerCommand::Shutdown));
    let rest = second.next_chunk().await;
    assert_eq!((rest.first_index, rest.count), (1, 2));
    second.say(WorkerEventKind::MemoryHigh).await;
    second.finish(&rest).await;
    assert_eq!(texts(&map.await.unwrap().unwrap().parts), ["0!", "1!", "2!"]);

    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(second.has_no_command().await, "the first is not gone yet");
    first.leave().await;
    let mut third = pool.next_worker().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(second.has_no_command().await, "the new one is not ready yet");
    third.become_ready().await;
    let ready_at = Instant::now();
    assert!(matches!(second.next_command().await, WorkerCommand::Shutdown));
    assert_eq!(ready_at.elapsed(), Duration::ZERO, "it is its turn at once");
    second.leave().await;
    let mut fourth = pool.next_ready_worker().await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(third.has_no_command().await && fourth.has_no_command().await, "the new ones stay");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_killed_for_its_memory_fails_its_item_with_the_figures() {
    let mut pool = pool_of(1);
    let usage = ExitUsage { peak_rss_bytes: Some(300), cpu_time: Some(Duration::from_secs(2)) };
    for exit in [WorkerExit::MemoryLimit { rss_bytes: 300, limit_bytes: 200 }, WorkerExit::KernelOom] {
        let mut worker = pool.next_ready_worker().await;
        let handle = pool.handle.clone();
        let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
        let chunk = worker.next_chunk().await;
        let (running, stderr_tail) = (Some((chunk.chunk, 0)), "last words".to_owned());
        worker
            .say(WorkerEventKind::Exited { exit: exit.clone(), usage, running, stderr_tail: stderr_tail.clone() })
            .await;
        let CallError::ItemFailed(error) = map.await.unwrap().unwrap_err() else { panic!("an item failed") };
        let expected = ItemFailure::WorkerCrashed { exit, pid: 1000, attempt: 1, usage, stderr_tail };
        assert_eq!(error.failure, expected);
    }
    settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_worker_whose_slot_was_removed_and_came_back_is_replaced_all_the_same() {
    for is_known_before in [true, false] {
        let mut pool = pool_of(2);
        let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
        let handle = pool.handle.clone();
        let map = tokio::spawn(async move { handle.map(call("f"), items(0..2)).await });
        let (chunk, other) = (first.next_chunk().await, second.next_chunk().await);
        first.finish(&chunk).await;
        if is_known_before {
            second.say(WorkerEventKind::MemoryHigh).await;
            settle().await;
        }
        pool.handle.resize(NonZeroU32::MIN).await.unwrap();
        assert!(matches!(second.next_command().await, WorkerCommand::Recall { .. }));
        if !is_known_before {
            second.say(WorkerEventKind::MemoryHigh).await;
            settle().await;
        }
        pool.handle.resize(NonZeroU32::new(2).unwrap()).await.unwrap();
        second.finish(&other).await;
        map.await.unwrap().unwrap();
        let stopped = tokio::time::timeout(Duration::from_secs(10), second.next_command()).await;
        assert!(matches!(stopped, Ok(WorkerCommand::Shutdown)), "known before: {is_known_before}, {stopped:?}");
    }
}
