//! Results that take too much memory: a call that answers at once fails, a stream is held back until its reader goes on.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_pool::supervisor::{ChunkResults, ChunkRun, WorkerCommand, WorkerEventKind};
use procpool_pool::{
    Call, CallError, CallOptions, ItemError, ItemFailure, MapOutput, OnError, PoolConfig, ResultOrder, ResultRun,
    ResultStream, StreamOptions,
};
use tokio::task::JoinHandle;

use crate::scripted::{ScriptedPool, ScriptedWorker, blobs, call, items, pool_with, settle, texts};

/// Three quarters are for calls that answer at once, of which the last eighth is shared, and a quarter for streams: of that,
/// a quarter is free for all, and the next is shared.
const ROOM: u32 = 1_600_000;
/// What a result of some length takes in an answer beside its content. That it takes a little more to keep makes no
/// difference here.
const RECORD_BYTES: u64 = 4;

fn pool_of(slots: u32) -> ScriptedPool {
    pool_with(PoolConfig { max_result_bytes: ROOM, ..PoolConfig::new(NonZeroU32::new(slots).unwrap()) })
}

/// A call whose items are handed out one by one.
fn one_by_one(options: CallOptions) -> Call {
    Call { options: CallOptions { chunk_size: NonZeroU32::new(1), ..options }, ..call("f") }
}

/// The same, with a limit on its answer.
fn limited(max_answer_bytes: u64, options: CallOptions) -> Call {
    Call { max_answer_bytes: Some(max_answer_bytes), ..one_by_one(options) }
}

fn start_map(pool: &ScriptedPool, call: Call, num_items: u32) -> JoinHandle<Result<MapOutput, CallError>> {
    let handle = pool.handle.clone();
    tokio::spawn(async move { handle.map(call, items(0..num_items)).await })
}

async fn start_stream(pool: &ScriptedPool, options: CallOptions, order: ResultOrder) -> ResultStream {
    let options_of_stream = StreamOptions { order, window: NonZeroU32::new(1000) };
    pool.handle.imap(one_by_one(options), items(0..100), options_of_stream).await.unwrap()
}

/// Finishes a chunk of one item with a result of this length.
async fn finish(worker: &ScriptedWorker, chunk: &ChunkRun, length: usize) {
    let mut result = chunk.first_index.to_string();
    result.insert_str(0, &"0".repeat(length - result.len()));
    let items = blobs(&[result]);
    let (chunk, failures) = (chunk.chunk, Vec::new());
    // So long that nothing is given to a worker ahead.
    let busy = Duration::from_secs(1);
    worker.say(WorkerEventKind::Results(ChunkResults { chunk, first: 0, count: 1, failures, busy, items })).await;
}

/// Finishes whatever the worker is given, with results of this length; returns which items that were.
async fn finish_all(worker: &mut ScriptedWorker, length: usize) -> Vec<u64> {
    let mut finished = Vec::new();
    loop {
        settle().await;
        match worker.try_next_command() {
            Ok(WorkerCommand::Run(chunk)) => {
                finish(worker, &chunk, length).await;
                finished.push(chunk.first_index);
            }
            // It had begun.
            Ok(WorkerCommand::Recall { .. }) => {}
            Ok(other) => panic!("expected a chunk, not {other:?}"),
            Err(_) => return finished,
        }
    }
}

async fn next_run(results: &mut ResultStream) -> ResultRun {
    results.next().await.unwrap().unwrap().run.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_map_fails_as_soon_as_its_answer_is_too_large() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let map = start_map(&pool, limited(200_000, CallOptions::default()), 100);
    assert_eq!(finish_all(&mut worker, 50_000).await, [0, 1, 2, 3], "the fourth is one too many");
    let error = map.await.unwrap().unwrap_err();
    let expected = 4 * (50_000 + RECORD_BYTES);
    assert!(matches!(error, CallError::ResultsTooLarge { bytes, limit: 200_000 } if bytes == expected), "{error}");

    // The last result can be the one, too.
    let map = start_map(&pool, limited(100_000, CallOptions::default()), 2);
    assert_eq!(finish_all(&mut worker, 50_000).await, [0, 1]);
    assert!(matches!(map.await.unwrap(), Err(CallError::ResultsTooLarge { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_map_that_finds_no_room_for_its_results_fails_and_a_small_one_does_not() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let large = start_map(&pool, one_by_one(CallOptions::default()), 10);
    assert_eq!(finish_all(&mut worker, 100_000).await.len(), 10);
    let large = large.await.unwrap().unwrap();

    // The answer is on its way, and takes its room until it has arrived.
    let next = start_map(&pool, one_by_one(CallOptions::default()), 100);
    assert_eq!(finish_all(&mut worker, 100_000).await, [0]);
    assert!(matches!(next.await.unwrap(), Err(CallError::ResultsFull { limit: 1_200_000 })));
    let small = start_map(&pool, one_by_one(CallOptions::default()), 3);
    assert_eq!(finish_all(&mut worker, 5000).await.len(), 3);
    small.await.unwrap().unwrap();

    drop(large);
    let next = start_map(&pool, one_by_one(CallOptions::default()), 10);
    assert_eq!(finish_all(&mut worker, 100_000).await.len(), 10);
    assert_eq!(texts(&next.await.unwrap().unwrap().parts).len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_too_large_for_the_answer_ends_the_call_as_a_result_does() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    for on_error in [OnError::FailFast, OnError::Collect] {
        assert!(finish_all(&mut worker, 1).await.is_empty());
        let options = CallOptions { on_error: Some(on_error), ..CallOptions::default() };
        let map = start_map(&pool, limited(1000, options), 1);
        let chunk = worker.next_chunk().await;
        let failure = ItemFailure::ResultNotEncodable { message: "x".repeat(2000) };
        worker.send_results(chunk.chunk, 0, blobs(&[String::new()]), vec![(0, failure)]).await;
        assert!(matches!(map.await.unwrap(), Err(CallError::ResultsTooLarge { .. })));
    }
}

#[tokio::test(start_paused = true)]
async fn tracebacks_and_data_beyond_what_an_answer_tells_are_not_kept() {
    let mut pool = pool_with(PoolConfig::new(NonZeroU32::MIN));
    let mut worker = pool.next_ready_worker().await;
    let options = CallOptions { on_error: Some(OnError::Collect), ..CallOptions::default() };
    let map = start_map(&pool, one_by_one(options), 100);
    for _ in 0..100 {
        let chunk = worker.next_chunk().await;
        let failure = ItemFailure::Raised {
            kind: String::new(),
            message: "no".to_owned(),
            traceback: "x".repeat(48 << 10),
            data: vec![7; 16 << 10].into(),
        };
        worker.send_results(chunk.chunk, 0, blobs(&[String::new()]), vec![(0, failure)]).await;
    }
    let errors = map.await.unwrap().unwrap().errors;
    assert_eq!(errors.len(), 100);
    let kept = |error: &ItemError| match &error.failure {
        ItemFailure::Raised { traceback, data, .. } => (traceback.len(), data.len()),
        other => panic!("{other:?}"),
    };
    let (tracebacks, data): (Vec<_>, Vec<_>) = errors.iter().map(kept).unzip();
    assert_eq!(tracebacks.iter().sum::<usize>() + data.iter().sum::<usize>(), 1 << 20);
    assert_eq!(data.iter().filter(|&&length| length > 0).count(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_before_large_results_stops_the_pool_and_goes_on_where_it_was() {
    for order in [ResultOrder::Ordered, ResultOrder::Unordered] {
        let mut pool = pool_of(1);
        let mut worker = pool.next_ready_worker().await;
        let mut results = start_stream(&pool, CallOptions::default(), order).await;
        assert_eq!(finish_all(&mut worker, 30_000).await, [0, 1, 2, 3], "100,000 bytes are free for all");
        let mut run = next_run(&mut results).await;
        assert_eq!(run.count, 4);
        assert!(finish_all(&mut worker, 30_000).await.is_empty(), "they are in its hands");
        run.held.give_back(60_000);
        assert_eq!(finish_all(&mut worker, 30_000).await, [4, 5]);
        drop(run);
        let (mut num_results, mut num_finished) = (4, 6);
        while num_finished < 100 {
            num_finished += finish_all(&mut worker, 30_000).await.len();
            num_results += next_run(&mut results).await.count;
        }
        while let Some(output) = results.next().await {
            num_results += output.unwrap().run.map_or(0, |run| run.count);
        }
        assert_eq!(num_results, 100);
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_ordered_reader_waits_for_is_not_held() {
    let mut pool = pool_of(2);
    let (mut first, mut second) = (pool.next_ready_worker().await, pool.next_ready_worker().await);
    let options = CallOptions { max_attempts: NonZeroU32::new(2), ..CallOptions::default() };
    let mut results = start_stream(&pool, options, ResultOrder::Ordered).await;
    let head = first.next_chunk().await;
    assert_eq!(finish_all(&mut second, 30_000).await, [1, 2, 3, 4], "nothing can be delivered");
    first.die(Some((head.chunk, 0))).await;
    // It is tried again after a while, elsewhere, and nothing else begins.
    let mut first = pool.next_ready_worker().await;
    let chunk = second.next_chunk().await;
    assert!(first.has_no_command().await);
    assert_eq!((chunk.first_index, chunk.attempt), (0, 2));
    finish(&second, &chunk, 30_000).await;
    let run = next_run(&mut results).await;
    assert_eq!((run.first_index, run.count), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_leaves_room_for_others_and_its_end_gives_it_back() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let stalled = start_stream(&pool, CallOptions::default(), ResultOrder::Ordered).await;
    assert_eq!(finish_all(&mut worker, 10_000).await.len(), 10);
    let mut other = start_stream(&pool, CallOptions::default(), ResultOrder::Ordered).await;
    // Each may hold 50,000 bytes.
    let mut next = 0;
    for _ in 0..5 {
        let finished = finish_all(&mut worker, 6000).await;
        assert_eq!(finished, (next..next + 9).collect::<Vec<_>>());
        next += 9;
        assert_eq!(next_run(&mut other).await.count, 9);
    }
    drop(stalled);
    let finished = finish_all(&mut worker, 6000).await;
    assert_eq!(finished, (next..next + 17).collect::<Vec<_>>(), "there is more room now");
}

#[tokio::test(start_paused = true)]
async fn beside_readers_that_stop_a_stream_gets_what_its_reader_waits_for_until_that_is_too_much() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let mut stalled = start_stream(&pool, CallOptions::default(), ResultOrder::Ordered).await;
    assert_eq!(finish_all(&mut worker, 220_000).await, [0], "the room is full");
    let mut new = start_stream(&pool, CallOptions::default(), ResultOrder::Ordered).await;
    assert_eq!(finish_all(&mut worker, 100_000).await, [0], "and its limit is not passed");
    drop(next_run(&mut new).await);
    assert_eq!(finish_all(&mut worker, 200_000).await, [1]);
    let run = next_run(&mut new).await;
    assert_eq!(run.first_index, 1);
    let mut last = start_stream(&pool, CallOptions::default(), ResultOrder::Ordered).await;
    assert!(finish_all(&mut worker, 1000).await.is_empty(), "now it is");
    let map = start_map(&pool, one_by_one(CallOptions::default()), 3);
    assert_eq!(finish_all(&mut worker, 100_000).await, [0, 1, 2], "there is another room for it");
    map.await.unwrap().unwrap();
    drop((run, next_run(&mut stalled).await));
    assert!(!finish_all(&mut worker, 1000).await.is_empty());
    assert_eq!(next_run(&mut last).await.first_index, 0);
}
