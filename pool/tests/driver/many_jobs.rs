//! So many jobs that whatever went a step deeper for each of them would overflow the stack.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_pool::supervisor::{ChunkResults, ChunkRun, WorkerEventKind};
use procpool_pool::{CallError, PoolConfig, ResultStream, StreamOptions};

use crate::scripted::{ScriptedPool, ScriptedWorker, blobs, call, items, pool_with, settle};

const NUM_STREAMS: usize = 10_000;
/// A quarter of this is for streams.
const ROOM: u32 = 400_000;

/// A pool with one slot.
fn pool() -> ScriptedPool {
    let slots = NonZeroU32::MIN;
    pool_with(PoolConfig { max_result_bytes: ROOM, worker_start_timeout: Duration::MAX, ..PoolConfig::new(slots) })
}

async fn start_streams(pool: &ScriptedPool) -> Vec<ResultStream> {
    let mut streams = Vec::new();
    for _ in 0..NUM_STREAMS {
        streams.push(pool.handle.imap(call("f"), items(0..1), StreamOptions::default()).await.unwrap());
    }
    streams
}

/// Finishes a chunk of one item with a result of this length, after so long that nothing is given to a worker ahead.
async fn finish(worker: &ScriptedWorker, chunk: &ChunkRun, length: usize) {
    let (chunk, items, busy) = (chunk.chunk, blobs(&["x".repeat(length)]), Duration::from_secs(1));
    let results = ChunkResults { chunk, first: 0, count: 1, failures: Vec::new(), busy, items };
    worker.say(WorkerEventKind::Results(results)).await;
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_streams_are_held_back_at_once_and_go_on() {
    let mut pool = pool();
    let mut worker = pool.next_ready_worker().await;
    let mut large = pool.handle.imap(call("f"), items(0..1), StreamOptions::default()).await.unwrap();
    let chunk = worker.next_chunk().await;
    let streams = start_streams(&pool).await;
    // Now the budget for streams is exceeded.
    finish(&worker, &chunk, ROOM as usize).await;
    let run = large.next().await.unwrap().unwrap().run.unwrap();
    assert!(worker.has_no_command().await, "every stream is held back");
    drop(run);
    worker.next_chunk().await;
    // Their readers go, all at once.
    drop(streams);
    settle().await;
    assert_eq!(pool.handle.snapshot().await.unwrap().pool.num_jobs, 0);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_streams_end_with_their_pool() {
    let mut pool = pool();
    let mut worker = pool.next_ready_worker().await;
    let streams = start_streams(&pool).await;
    // The first item fails with its worker, the others by what follows.
    worker.next_chunk().await;
    pool.handle.stop_now();
    for mut stream in streams {
        assert!(matches!(stream.next().await, Some(Err(CallError::Draining { .. }))));
    }
    worker.leave().await;
    pool.task.join().await;
}
