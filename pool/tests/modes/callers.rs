//! A caller stops reading, or goes away.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_items::value::list_from_bytes;
use procpool_pool::{ResultStream, StreamOptions};
use procpool_test_workers::Marker;
use serde_json::{Value, json};

use crate::support::{Accounts, PATIENCE, TestPool, call, star_call};

const WINDOW: u64 = 8;
const NUM_ITEMS: u64 = 500;

/// F14: the pool runs no further ahead of a reader than the window; when the reader goes on, so does the pool.
#[tokio::test(flavor = "multi_thread")]
async fn f14_a_reader_that_stops_stops_the_pool() {
    let pool = TestPool::start(2, "well_behaved").await;
    let items: Vec<Value> = (0..NUM_ITEMS).map(Value::from).collect();
    let options = StreamOptions { window: NonZeroU32::new(u32::try_from(WINDOW).unwrap()), ..StreamOptions::default() };
    let mut results = pool.handle.imap(call("echo"), pool.list(&items), options).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 3 {
        next(&mut results, &mut received).await;
    }
    results.set_taken(3);
    // It comes to rest with the window full, not before and not later.
    let ahead = 3 + WINDOW;
    pool.until("the window is full", |_| Accounts::of(&pool.accounts.succeeded) == ahead).await;
    let at_rest = pool.all_are_ready().await.pool;
    assert_eq!((at_rest.num_running_items, at_rest.num_queued_items), (0, NUM_ITEMS - ahead));
    assert_eq!(Accounts::of(&pool.accounts.succeeded), ahead);
    while received.len() < items.len() {
        results.set_taken(received.len() as u64);
        next(&mut results, &mut received).await;
        let finished = Accounts::of(&pool.accounts.succeeded);
        assert!(finished <= received.len() as u64 + WINDOW, "{finished} are finished, and {} read", received.len());
    }
    assert!(results.next().await.is_none());
    assert_eq!(received, items);
    drop(results);
    pool.assert_whole_again().await;
}

async fn next(results: &mut ResultStream, received: &mut Vec<Value>) {
    let output = tokio::time::timeout(PATIENCE, results.next()).await.expect("more comes").unwrap().unwrap();
    let run = output.run.unwrap();
    assert!(run.errors.is_empty() && run.first_index == received.len() as u64);
    received.extend(list_from_bytes::<Value>(&run.parts.concat()).unwrap());
}

/// F15: what is queued of a caller who is gone never runs, what runs is cancelled, and its slot is free at once.
#[tokio::test(flavor = "multi_thread")]
async fn f15_a_caller_who_goes_away_frees_the_slots() {
    // A function that listens ends by itself, however long the grace period is.
    let pool = TestPool::start_with(1, "well_behaved", |config, _| {
        config.cancel_grace_period = Duration::from_secs(60);
    });
    pool.all_are_ready().await;
    let began = pool.file("began");
    let mut items = vec![json!([began])];
    items.extend((0..50).map(|item| json!([pool.file(&format!("item-{item}"))])));
    let handle = pool.handle.clone();
    let list = pool.list(&items);
    let caller = tokio::spawn(async move { handle.map(star_call("touch_and_wait_until_cancelled", 1), list).await });
    let marker = Marker::new(pool.directory.path(), "began");
    tokio::task::spawn_blocking(move || marker.wait()).await.unwrap();
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    pool.until("nothing runs", |pool| pool.pool.num_jobs == 0).await;
    assert_eq!(Accounts::of(&pool.accounts.workers_started), 1, "the worker goes on");
    let directory = pool.directory.path().to_owned();
    let names: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["began"], "nothing else has begun");
    pool.assert_whole_again().await;
}
