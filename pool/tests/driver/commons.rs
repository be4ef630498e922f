//! Common arguments: each worker gets one once for each job, before the job's first chunk there, and is told at the end.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use procpool_pool::supervisor::{ChunkRun, WorkerCommand, WorkerEventKind};
use procpool_pool::{Call, CallError, CommonArgument, FunctionInfo, ItemKind, PoolConfig, StreamOptions};
use tokio::time::Instant;

use crate::scripted::{ScriptedWorker, call, items, pool_of, pool_with, settle, texts};

/// A call of one item at a time with a common argument.
fn call_with(common: &'static [u8]) -> Call {
    let mut the_call = call("f");
    the_call.common =
        Some(CommonArgument { kind: ItemKind::Blobs, content_type: String::new(), bytes: Bytes::from_static(common) });
    the_call.options.chunk_size = NonZeroU32::new(1);
    the_call
}

/// The name of the common argument that a chunk has, and what it is if the worker is told with this chunk.
fn told(chunk: &ChunkRun) -> (u64, Option<&[u8]>) {
    let common = chunk.common.as_ref().expect("the call has a common argument");
    (common.common, common.argument.as_ref().map(|argument| &argument.bytes[..]))
}

async fn dropped(worker: &mut ScriptedWorker) -> Vec<u64> {
    match worker.next_command().await {
        WorkerCommand::DropCommons(commons) => commons,
        other => panic!("expected to drop common arguments, not {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_worker_is_told_once_and_with_its_first_chunk() {
    let mut pool = pool_of(2);
    let mut workers = [pool.next_ready_worker().await, pool.next_ready_worker().await];
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call_with(b"c"), items(0..6)).await });
    let mut names = Vec::new();
    for round in 0..3 {
        for worker in &mut workers {
            let chunk = worker.next_chunk().await;
            let (name, argument) = told(&chunk);
            assert_eq!(argument, (round == 0).then_some(&b"c"[..]), "round {round}");
            names.push(name);
            worker.finish(&chunk).await;
        }
    }
    assert_eq!(map.await.unwrap().unwrap().parts.concat().len(), 6 * 4);
    assert!(names[0] > 0 && names.iter().all(|name| *name == names[0]));
    for worker in &mut workers {
        assert_eq!(dropped(worker).await, [names[0]]);
        assert!(worker.has_no_command().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_the_place_of_another_is_told_anew() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let mut the_call = call_with(b"c");
    the_call.function = "again".to_owned();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..2)).await });
    let chunk = worker.next_chunk().await;
    assert_eq!(told(&chunk).1, Some(&b"c"[..]));
    worker.die(Some((chunk.chunk, 0))).await;
    let mut next = pool.next_ready_worker().await;
    let again = next.next_chunk().await;
    assert_eq!(told(&again), (told(&chunk).0, Some(&b"c"[..])));
    next.finish(&again).await;
    let last = next.next_chunk().await;
    assert_eq!(told(&last).1, None);
    next.finish(&last).await;
    let mut results = texts(&map.await.unwrap().unwrap().parts);
    results.sort();
    assert_eq!(results, ["0!", "1!"]);
}

#[tokio::test(start_paused = true)]
async fn two_jobs_take_turns_on_one_worker_and_each_keeps_its_own() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let maps: Vec<_> = [&b"one"[..], b"two"]
        .into_iter()
        .map(|common| {
            let handle = pool.handle.clone();
            tokio::spawn(async move { handle.map(call_with(common), items(0..3)).await })
        })
        .collect();
    settle().await;
    let mut seen: std::collections::BTreeMap<u64, (Vec<u8>, u32)> = std::collections::BTreeMap::new();
    let mut turns = Vec::new();
    let mut ended = Vec::new();
    while turns.len() < 6 {
        match worker.next_command().await {
            WorkerCommand::Run(chunk) => {
                let (name, argument) = told(&chunk);
                assert_eq!(argument.is_some(), !seen.contains_key(&name), "with the first chunk and no other");
                let entry = seen.entry(name).or_insert_with(|| (argument.unwrap_or_default().to_vec(), 0));
                entry.1 += 1;
                turns.push(name);
                worker.finish(&chunk).await;
            }
            WorkerCommand::DropCommons(commons) => ended.extend(commons),
            other => panic!("{other:?}"),
        }
    }
    for map in maps {
        map.await.unwrap().unwrap();
    }
    while ended.len() < 2 {
        ended.extend(dropped(&mut worker).await);
    }
    assert_eq!(seen.values().cloned().collect::<Vec<_>>(), [(b"one".to_vec(), 3), (b"two".to_vec(), 3)]);
    assert!(turns.windows(2).filter(|pair| pair[0] != pair[1]).count() >= 3, "they take turns: {turns:?}");
    ended.sort_unstable();
    assert_eq!(ended, seen.keys().copied().collect::<Vec<_>>(), "each is dropped once");
}

#[tokio::test(start_paused = true)]
async fn it_is_dropped_when_the_caller_goes_and_when_the_deadline_passes() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call_with(b"c"), items(0..2)).await });
    let chunk = worker.next_chunk().await;
    map.abort();
    // The Recall of the job that has ended comes first, so no chunk that waits needs what is dropped.
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    assert_eq!(dropped(&mut worker).await, [told(&chunk).0]);
    worker.finish(&chunk).await;

    let mut the_call = call_with(b"c");
    the_call.deadline = Some(Instant::now() + Duration::from_secs(1));
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..1)).await });
    let next = worker.next_chunk().await;
    assert_ne!(told(&next).0, told(&chunk).0);
    assert_eq!(told(&next).1, Some(&b"c"[..]), "another job, and so another argument");
    assert!(matches!(map.await.unwrap(), Err(CallError::DeadlineExceeded { .. })));
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    assert_eq!(dropped(&mut worker).await, [told(&next).0]);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_jobs_that_end_at_once_leave_room_for_the_end_of_the_worker() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let mut sinks = Vec::new();
    let mut names = Vec::new();
    for _ in 0..1000 {
        let (mut sink, results) = pool.handle.imap_stream(call_with(b"c"), StreamOptions::default()).await.unwrap();
        sink.send(items(0..1)).await.unwrap();
        let chunk = worker.next_chunk().await;
        names.push(told(&chunk).0);
        worker.finish(&chunk).await;
        sinks.push((sink, results));
    }
    // Their callers go one by one, in a turn of the driver each; the worker takes no command meanwhile.
    for pair in sinks {
        drop(pair);
        settle().await;
    }
    pool.handle.stop_now();
    settle().await;
    let mut ended = Vec::new();
    loop {
        match worker.next_command().await {
            WorkerCommand::DropCommons(commons) => ended.extend(commons),
            WorkerCommand::Terminate | WorkerCommand::Shutdown => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(ended.len() >= 15 && names.starts_with(&ended), "in order, and none twice: {ended:?}");
    worker.leave().await;
    pool.task.join().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_workers_cannot_take_is_refused_at_the_door() {
    // Where one of the workers cannot, none may be needed.
    let mut pool = pool_of(2);
    let (worker, other) = (pool.next_worker().await, pool.next_worker().await);
    other.become_ready_with(&["f"]).await;
    let function = FunctionInfo {
        name: "f".to_owned(),
        signature: String::new(),
        doc: String::new(),
        example: String::new(),
        idempotent: false,
        takes_common: false,
    };
    worker.say(WorkerEventKind::Hello { pid: 1, sdk: "old".to_owned(), functions: vec![function] }).await;
    worker.say(WorkerEventKind::Ready).await;
    let refused = pool.handle.map(call_with(b"c"), items(0..2)).await.unwrap_err();
    assert!(matches!(refused, CallError::CommonNotTaken), "{refused}");
    let refused = pool.handle.imap_stream(call_with(b"c"), StreamOptions::default()).await.unwrap_err();
    assert!(matches!(refused, CallError::CommonNotTaken), "{refused}");
    assert!(pool.handle.map(call_with(b"c"), items(0..0)).await.is_ok(), "no items, no workers");

    let mut pool = pool_of(1);
    let _worker = pool.next_ready_worker().await;
    let mut the_call = call_with(b"");
    let limit = (160 << 20) - 64;
    the_call.common.as_mut().unwrap().bytes = vec![0; limit + 1].into();
    let refused = pool.handle.map(the_call, items(0..2)).await.unwrap_err();
    let CallError::CommonTooLong { bytes, limit: named } = refused else { panic!("{refused}") };
    assert_eq!((bytes, named), (limit as u64 + 1, limit as u64));
}

#[tokio::test(start_paused = true)]
async fn it_counts_in_the_byte_budget_until_the_job_ends() {
    let mut pool = pool_with(PoolConfig { max_queued_bytes: 1_000, ..PoolConfig::new(NonZeroU32::new(1).unwrap()) });
    let mut worker = pool.next_ready_worker().await;
    let common: &[u8] = &[7; 400];
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call_with(common), items(0..2)).await });
    let chunk = worker.next_chunk().await;
    let refused = pool.handle.imap(call_with(common), items(0..1), StreamOptions::default()).await.unwrap_err();
    assert!(matches!(refused, CallError::QueueFull { what: "bytes of common arguments", limit: 500, .. }), "{refused}");
    worker.finish(&chunk).await;
    let chunk = worker.next_chunk().await;
    worker.finish(&chunk).await;
    map.await.unwrap().unwrap();
    assert_eq!(dropped(&mut worker).await, [told(&chunk).0]);
    let again = pool.handle.imap(call_with(common), items(0..1), StreamOptions::default()).await;
    assert!(again.is_ok(), "there is room again");
}
