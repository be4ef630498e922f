//! Which functions a pool has, while its workers are not alike.

use std::num::NonZeroU32;

use procpool_pool::supervisor::WorkerCommand;
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

#[tokio::test(start_paused = true)]
async fn an_item_goes_to_a_worker_that_has_its_function() {
    let mut pool = pool_of(2);
    let (mut old, mut new) = (pool.next_worker().await, pool.next_worker().await);
    old.become_ready_with(&["f"]).await;
    new.become_ready_with(&["added", "f"]).await;
    let mut one_at_a_time = call("added");
    one_at_a_time.options.chunk_size = NonZeroU32::new(1);
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(one_at_a_time, items(0..3)).await });
    for _ in 0..3 {
        let chunk = new.next_chunk().await;
        assert!(old.has_no_command().await, "it does not know the function");
        new.finish(&chunk).await;
    }
    assert!(map.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_is_queued_of_a_function_ends_when_no_worker_has_it_any_more() {
    let mut pool = pool_of(1);
    let mut worker = pool.next_ready_worker().await;
    let mut calls = Vec::new();
    for _ in 0..2 {
        let handle = pool.handle.clone();
        calls.push(tokio::spawn(async move { handle.map(call("f"), items(0..2)).await }));
        settle().await;
    }
    let chunk = worker.next_chunk().await;
    let restart = pool.handle.begin_restart().await.unwrap();
    assert!(matches!(worker.next_command().await, WorkerCommand::Recall { .. }));
    worker.finish(&chunk).await;
    assert!(matches!(worker.next_command().await, WorkerCommand::Shutdown));
    worker.leave().await;
    settle().await;
    assert!(pool.handle.functions().iter().any(|function| function.name == "f"), "the next may have it, too");
    pool.next_worker().await.become_ready_with(&["g"]).await;
    settle().await;
    assert!(restart.is_over());
    let mut ends = Vec::new();
    for call in calls {
        match call.await.unwrap() {
            Err(CallError::FunctionNotFound { name, started, .. }) => ends.push((name, started)),
            other => panic!("{other:?}"),
        }
    }
    let f = |started| ("f".to_owned(), started);
    assert_eq!(ends, [f(true), f(false)]);
    let names: Vec<_> = pool.handle.functions().into_iter().map(|function| function.name).collect();
    assert_eq!(names, ["g"]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_only_one_worker_has_is_waited_for_while_that_is_replaced() {
    let mut pool = pool_of(2);
    let (old, new) = (pool.next_worker().await, pool.next_worker().await);
    old.become_ready_with(&["f"]).await;
    new.become_ready_with(&["added", "f"]).await;
    settle().await;
    new.die(None).await;
    settle().await;
    let handle = pool.handle.clone();
    let map = tokio::spawn(async move { handle.map(call("added"), items(0..1)).await });
    settle().await;
    let mut next = pool.next_worker().await;
    next.become_ready_with(&["added", "f"]).await;
    let chunk = next.next_chunk().await;
    next.finish(&chunk).await;
    assert!(map.await.unwrap().is_ok());
    // If the next one does not start, that is the end of it.
    next.die(None).await;
    pool.next_worker().await.die(None).await;
    settle().await;
    assert_eq!(functions(&pool.handle), of(1, &["f"]));
}
