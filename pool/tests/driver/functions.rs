//! Which functions a pool has, while its workers are not alike.

use procpool_pool::{CallError, PoolHandle};

use crate::scripted::{call, items, pool_of, settle};

/// The functions, each with the number of the worker whose description it has.
fn functions(handle: &PoolHandle) -> Vec<(String, String)> {
    handle.functions().into_iter().map(|function| (function.name, function.doc)).collect()
}

fn of(worker: u64, names: &[&str]) -> Vec<(String, String)> {
    names.iter().map(|&name| (name.to_owned(), format!("of worker {worker}"))).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_says_that_does_not_become_ready_changes_nothing() {
    let mut pool = pool_of(2);
    let (first, mut second) = (pool.next_worker().await, pool.next_worker().await);
    first.become_ready_with(&["f"]).await;
    second.become_ready_with(&["f"]).await;
    first.die(None).await;
    let third = pool.next_worker().await;
    third.say_hello(&["renamed"]).await;
    settle().await;
    assert_eq!(functions(&pool.handle), of(2, &["f"]));
    third.die(None).await;
    settle().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let chunk = second.next_chunk().await;
    second.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    let unknown = pool.handle.map(call("renamed"), items(0..1)).await;
    assert!(matches!(unknown, Err(CallError::FunctionNotFound { .. })), "{unknown:?}");
}

#[tokio::test(start_paused = true)]
async fn the_functions_are_those_of_all_workers_as_the_youngest_describes_them() {
    let mut pool = pool_of(3);
    let (first, second, third) = (pool.next_worker().await, pool.next_worker().await, pool.next_worker().await);
    second.become_ready_with(&["new", "both"]).await;
    settle().await;
    assert_eq!(functions(&pool.handle), of(2, &["both", "new"]));
    // That it is ready last does not make it younger.
    first.become_ready_with(&["both", "old"]).await;
    settle().await;
    assert_eq!(functions(&pool.handle), [of(2, &["both", "new"]), of(1, &["old"])].concat());
    third.become_ready_with(&["both", "new"]).await;
    second.die(None).await;
    settle().await;
    assert_eq!(functions(&pool.handle), [of(3, &["both", "new"]), of(1, &["old"])].concat());
}

#[tokio::test(start_paused = true)]
async fn while_no_worker_is_up_the_last_functions_stay() {
    let mut pool = pool_of(1);
    let first = pool.next_worker().await;
    first.become_ready_with(&["f"]).await;
    first.die(None).await;
    settle().await;
    assert_eq!(functions(&pool.handle), of(1, &["f"]));
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("f"), items(0..1)).await });
    let mut second = pool.next_worker().await;
    second.become_ready_with(&["f", "g"]).await;
    let chunk = second.next_chunk().await;
    second.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    assert_eq!(functions(&pool.handle), of(2, &["f", "g"]));
}
