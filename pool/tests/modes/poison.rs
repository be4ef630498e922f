//! Items and arguments that workers cannot bear: what is too large to be received within the limits of memory, and what
//! kills whoever decodes it. Workers may decode before an item begins or after; both are tried.

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_pool::{Call, CallError, CommonArgument, Readiness, WorkerExit, WorkerState};
use serde_json::{Value, json};

use crate::support::{Accounts, PATIENCE, TestPool, call};

/// A worker that passes `max_worker_memory` while it receives an item would be replaced for ever, as the next one
/// receives as much. So it is replaced after the item.
#[tokio::test(flavor = "multi_thread")]
async fn f25_an_item_that_is_too_large_to_receive_is_run_and_then_the_worker_is_replaced() {
    let pool = TestPool::start_with(1, "large_to_receive", |_, spawn| {
        std::fs::write(spawn.working_directory.as_ref().unwrap().join("large"), b"").unwrap();
        spawn.memory.soft_bytes = Some(48 << 20);
    });
    for item in 1..3 {
        let pid = pool.all_are_ready().await.workers[0].pid;
        let outcome = pool.map("echo", &[json!(item)]).await;
        assert_eq!((outcome.results, outcome.errors.len()), (vec![json!(item)], 0));
        let is_new = |pool: &procpool_pool::PoolSnapshot| {
            pool.workers.iter().all(|worker| worker.state == WorkerState::Ready && worker.pid != pid)
        };
        pool.until("it is replaced", is_new).await;
        assert_eq!(Accounts::of(&pool.accounts.workers_lost), 0);
    }
    let started = Accounts::of(&pool.accounts.workers_started);
    assert!(started <= 3, "each item had one worker, and not {started} in all");
    pool.end().await;
}

/// One caller's common argument kills every worker that gets it: the call fails after three, and others are served all
/// the time.
#[tokio::test(flavor = "multi_thread")]
async fn f26_a_common_argument_that_kills_fails_its_call_and_takes_the_pool_from_nobody() {
    for (slots, begins_first) in [(1, false), (1, true), (3, false), (3, true)] {
        let pool = TestPool::start_with(slots, "common_kills", |_, spawn| {
            if begins_first {
                std::fs::write(spawn.working_directory.as_ref().unwrap().join("begins_first"), b"").unwrap();
            }
        });
        pool.all_are_ready().await;
        let poison =
            CommonArgument { kind: ItemKind::Blobs, content_type: String::new(), bytes: Bytes::from(vec![b'x'; 4096]) };
        let mut the_call = Call { common: Some(poison), ..call("echo") };
        // One that began may be tried again.
        the_call.options.max_attempts = std::num::NonZeroU32::new(10);
        let items: Vec<Value> = (0..200).map(Value::from).collect();
        let bad = pool.handle.map(the_call, pool.list(&items));
        let others = async {
            for item in 0..20 {
                let outcome = pool.map("echo", &[json!(item)]).await;
                assert_eq!((outcome.results, outcome.errors.len()), (vec![json!(item)], 0));
                assert_eq!(pool.snapshot().await.pool.readiness, Readiness::Ready);
            }
        };
        let (error, ()) = tokio::time::timeout(PATIENCE, async { tokio::join!(bad, others) }).await.expect("it ends");
        let CallError::CrashLimit { exit: WorkerExit::Code(9), .. } = error.unwrap_err() else { panic!("it kills") };
        let lost = Accounts::of(&pool.accounts.workers_lost);
        // Slots that have it at hand when it is known to kill lose their workers, too.
        assert!((3..=4 * u64::from(slots)).contains(&lost), "{lost} workers of {slots} slots were lost");
        assert_eq!(pool.snapshot().await.pool.held_slots, [], "no slot is at fault");
        pool.assert_whole_again().await;
    }
}
