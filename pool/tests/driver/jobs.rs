//! Jobs, as operators see and end them.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_items::{ItemKind, SlabBuilder};
use procpool_pool::supervisor::WorkerCommand;
use procpool_pool::{
    Call, CallError, CallLabel, CallOptions, ItemFailure, JobReport, OnError, PoolEvent, PoolHandle, ResultOrder,
    StreamOptions,
};
use tokio::time::Instant;

use crate::scripted::{call, items, pool_of, settle};

async fn jobs(pool: &PoolHandle) -> Vec<JobReport> {
    pool.snapshot().await.unwrap().jobs
}

#[tokio::test(start_paused = true)]
async fn a_job_is_shown_with_who_called_and_how_far_it_is() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let options = CallOptions {
        chunk_size: NonZeroU32::new(3),
        on_error: Some(OnError::Collect),
        priority: 2,
        ..CallOptions::default()
    };
    let label = CallLabel { method: "Map", request_id: "order 17".to_owned() };
    let deadline = Some(Instant::now() + Duration::from_secs(60));
    let the_call = Call { options, label, deadline, ..call("f") };
    let number = the_call.job.clone();
    assert_eq!((number.get(), number.to_string()), (None, String::new()));
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(the_call, items(0..9)).await });
    let chunk = worker.next_chunk().await;
    assert_eq!((number.get(), number.to_string()), (Some(1), "1".to_owned()));
    tokio::time::advance(Duration::from_secs(20)).await;
    let mut list = SlabBuilder::new();
    list.push(b"0!");
    list.push_placeholder(ItemKind::Blobs);
    let failure = ItemFailure::ResultNotEncodable { message: "no".to_owned() };
    worker.send_results(chunk.chunk, 0, list.take(), vec![(1, failure)]).await;
    settle().await;

    let [report] = jobs(&pool.handle).await.try_into().unwrap();
    assert_eq!(
        (report.function.as_str(), report.label.method, report.label.request_id.as_str()),
        ("f", "Map", "order 17")
    );
    assert_eq!((report.age.as_secs(), report.remaining_time.map(|time| time.as_secs())), (20, Some(40)));
    let job = &report.job;
    assert_eq!((job.id.0, job.priority, job.num_items), (1, 2, 9));
    assert_eq!((job.num_finished_items, report.num_failed_items), (2, 1));
    assert_eq!((job.num_running_items, job.num_queued_items), (4, 3), "one, and a chunk ahead");
    map.abort();
    settle().await;
    assert!(jobs(&pool.handle).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_job_that_an_operator_cancels_fails_with_that_and_what_runs_is_ended() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let mut watch = pool.handle.watch().await.unwrap();
    let handle = pool.handle.clone();
    let first = tokio::spawn(async move { handle.map(call("f"), items(0..3)).await });
    let chunk = worker.next_chunk().await;
    let handle = pool.handle.clone();
    let second = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    settle().await;

    assert!(pool.handle.cancel_job(1).await);
    let failed = first.await.unwrap().unwrap_err();
    assert!(matches!(failed, CallError::CancelledByOperator { job: 1 }), "{failed}");
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { cancel: true, .. }));
    assert!(!pool.handle.cancel_job(1).await, "it has ended");
    assert!(!pool.handle.cancel_job(99).await, "there never was one");
    // The other goes on.
    worker.give_back(chunk.chunk, 0).await;
    let chunk = worker.next_chunk().await;
    worker.finish(&chunk).await;
    assert!(second.await.unwrap().is_ok());
    let ended: Vec<(u64, String)> = std::iter::from_fn(|| watch.events.try_recv().ok())
        .filter_map(|event| if let PoolEvent::JobEnded { job, error } = event { Some((job, error)) } else { None })
        .collect();
    assert_eq!(ended, [(1, "an operator cancelled the call (job 1)".to_owned()), (2, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn the_reader_of_a_stream_that_an_operator_cancels_gets_what_was_there_and_then_the_error() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let options = StreamOptions { order: ResultOrder::Ordered, window: NonZeroU32::new(4) };
    let mut imap = pool.handle.imap(call("f"), items(0..9), options).await.unwrap();
    let chunk = worker.next_chunk().await;
    worker.finish(&chunk).await;
    settle().await;
    assert!(pool.handle.cancel_job(1).await);
    assert!(imap.next().await.unwrap().unwrap().run.is_some_and(|run| run.count == u64::from(chunk.count)));
    assert!(matches!(imap.next().await, Some(Err(CallError::CancelledByOperator { job: 1 }))));
    assert!(imap.next().await.is_none());

    let (mut sink, mut imap_stream) = pool.handle.imap_stream(call("f"), options).await.unwrap();
    sink.send(items(0..2)).await.unwrap();
    settle().await;
    assert!(pool.handle.cancel_job(2).await);
    assert!(matches!(sink.send(items(2..3)).await, Err(CallError::JobEnded)), "the results say why");
    let end = loop {
        match imap_stream.next().await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(CallError::CancelledByOperator { job: 2 }))));
    assert!(jobs(&pool.handle).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_has_stopped_has_no_job_to_cancel() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    pool.handle.stop_now();
    assert!(matches!(worker.next_command().await, WorkerCommand::Terminate));
    worker.leave().await;
    pool.task.join().await;
    assert!(!pool.handle.cancel_job(1).await);
}
