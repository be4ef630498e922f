//! One slot where every worker dies, among others that work.

use procpool_scheduler::SlotId;
use serde_json::Value;

use crate::support::{Accounts, TestPool, call};

/// F11: the queue is not drained by a slot that is always free because its workers die at once.
#[tokio::test(flavor = "multi_thread")]
async fn f11_a_slot_whose_workers_die_is_held_back() {
    let pool = TestPool::start(3, "dies_on_run").await;
    let mark = pool.file("bad_slot_1");
    std::fs::write(&mark, b"").unwrap();
    let items: Vec<Value> = (0..200).map(Value::from).collect();
    // A slot that has lost a worker gets items only while the others are busy, so it may take a few calls.
    while pool.snapshot().await.pool.held_slots.is_empty() {
        let mut call = call("echo");
        call.options.chunk_size = std::num::NonZeroU32::new(1);
        let outcome = pool.call(call, &items).await;
        assert_eq!((outcome.results, outcome.errors.len()), (items.clone(), 0), "nothing of it had begun there");
    }
    assert_eq!(pool.snapshot().await.pool.held_slots, [SlotId(1)]);
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 3);
    let outcome = pool.map("echo", &items).await;
    assert_eq!((outcome.results, outcome.errors.len()), (items, 0));
    assert_eq!(Accounts::of(&pool.accounts.workers_lost), 3, "it gets nothing any more");
    // Somebody mends it and says so; otherwise it would be tried in half a minute.
    std::fs::remove_file(mark).unwrap();
    assert_eq!(pool.handle.restart_workers().await.unwrap(), 2);
    pool.assert_whole_again().await;
}
