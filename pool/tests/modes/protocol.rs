//! A worker says what no worker should, or too much.

use std::num::NonZeroU32;

use procpool_pool::{ItemError, ItemFailure};
use serde_json::{Value, json};

use crate::support::{Accounts, TestPool, call};

/// Less than what a length may claim, and more than the other tests of this program take meanwhile.
const CLAIMED_BYTES: usize = 1 << 30;

/// F6: whatever it is, it costs the worker and what it had to do with itself.
#[tokio::test(flavor = "multi_thread")]
async fn f6_a_worker_that_breaks_the_protocol_is_killed_and_takes_no_more_than_its_items() {
    for vice in ["bad_frame", "huge_frame", "double_reply", "wrong_chunk", "wrong_count", "empty_value"] {
        let pool = TestPool::start_with_one_bad(2, vice).await;
        let items: Vec<Value> = (0..20).map(Value::from).collect();
        let before = resident_bytes();
        let mut call = call("echo");
        call.options.chunk_size = NonZeroU32::new(1);
        let outcome = pool.call(call, &items).await;
        // The item whose answer it was, and the other one that the worker has, if it had begun it by the time it was killed
        // for that. (Of two answers the first is one, and two more may have been begun.)
        let expected = if vice == "double_reply" { 0..=2 } else { 1..=2 };
        assert!(expected.contains(&outcome.errors.len()), "{vice}: {:?}", outcome.errors);
        let is_meant = |error: &ItemError| matches!(error.failure, ItemFailure::WorkerProtocol { .. });
        assert!(outcome.errors.iter().all(is_meant), "{vice}: {:?}", outcome.errors);
        assert_eq!(Accounts::of(&pool.accounts.workers_lost), 1, "{vice}");
        let right = outcome.results.iter().zip(&items).filter(|(result, item)| result == item).count();
        assert_eq!(right, items.len() - outcome.errors.len(), "{vice}");
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < CLAIMED_BYTES, "{vice}: nothing is allocated for what a length claims, and {grown} bytes were");
        pool.assert_whole_again().await;
    }
}

/// F9: what a worker prints is read, cut and limited, and does not block the worker. That it does not fill our memory is
/// seen where there is a process for that alone: `pool/tests/supervisor/server.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn f9_a_flood_of_output_holds_up_nobody() {
    const BYTES: u64 = 64 << 20;
    let pool = TestPool::start(2, "floods_stderr").await;
    let (floods, item) = ([json!(BYTES), json!(BYTES)], [json!(1)]);
    let (flood, others) = tokio::join!(pool.map("flood", &floods), pool.map("echo", &item));
    assert!(flood.errors.is_empty() && others.errors.is_empty());
    assert_eq!(Accounts::of(&pool.accounts.workers_started), 2, "the workers live on");
    pool.assert_whole_again().await;
}

/// F23: a result that cannot be sent fails its item, and the worker lives on.
#[tokio::test(flavor = "multi_thread")]
async fn f23_a_result_that_cannot_be_sent_costs_no_worker() {
    let pool = TestPool::start(1, "well_behaved").await;
    let outcome = pool.map("nan", &[json!(0)]).await;
    assert!(matches!(outcome.only_failure().1, ItemFailure::ResultNotEncodable { .. }));
    // Larger than a frame may be.
    let outcome = pool.map("repeat", &[json!(200_u32 << 20)]).await;
    assert!(matches!(outcome.only_failure().1, ItemFailure::ResultNotEncodable { .. }));
    assert_eq!(Accounts::of(&pool.accounts.workers_started), 1);
    pool.assert_whole_again().await;
}

/// Returns the memory that this process holds.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * rustix::param::page_size()
}
