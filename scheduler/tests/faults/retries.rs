//! What is tried again, and what nobody waits for any more.

use std::num::NonZeroU32;
use std::time::Duration;

use procpool_scheduler::{FailureCause, FunctionId, JobId, OnError, SchedulerConfig, StopReason};

use crate::world::{MS, SECOND, Vice, World};

/// Returns where the attempts of an item ran.
fn workers_of(world: &World, job: u64, index: u64) -> Vec<procpool_scheduler::WorkerId> {
    let runs = world.dispatched.iter().filter(|(_, run)| (run.job, run.first_index) == (JobId(job), index));
    runs.map(|(_, run)| run.worker).collect()
}

fn tried_again(spec: &mut procpool_scheduler::JobSpec) {
    spec.options.max_attempts = NonZeroU32::new(3);
    spec.options.item_timeout = Some(100 * MS);
}

#[test]
fn in_a_pool_of_one_the_worker_where_an_item_failed_is_replaced_before_it_is_tried_again() {
    let mut world = World::new(1);
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.pass(2 * SECOND);
    world.submit(1, 1, tried_again);
    world.pass(2 * SECOND);
    let workers = workers_of(&world, 1, 0);
    assert_eq!(workers.len(), 3);
    assert!(workers[0] != workers[1] && workers[1] != workers[2], "{workers:?}");
    let stopped: Vec<_> = world.stopped.iter().map(|&(_, worker, how, reason)| (worker, how, reason)).collect();
    let renewed = |worker| (worker, "shutdown", StopReason::Retry);
    assert_eq!(stopped, [renewed(workers[0]), renewed(workers[1])], "it was idle, and did as it was told in time");
    assert_eq!(world.failed_items, [(JobId(1), 0, FailureCause::TimedOut { limit: 100 * MS })]);
}

#[test]
fn a_worker_does_not_take_again_what_failed_in_it_but_anything_else() {
    let mut world = World::new(2);
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.items.insert((JobId(2), 0), Vice::Hangs);
    world.item_time = MS;
    world.pass(2 * SECOND);
    world.submit(1, 1, |spec| spec.function = FunctionId(2));
    world.submit(2, 1, tried_again);
    // The other slot is busy for ever, and this one has enough to do.
    world.submit(3, 100_000, |_| {});
    world.pass(SECOND);
    let first = workers_of(&world, 2, 0)[0];
    assert_eq!(workers_of(&world, 2, 0), [first]);
    assert!(world.up.contains(&first), "a warm worker is worth more than a moment");
    let since = world.now;
    world.pass_until(|world| workers_of(world, 2, 0).len() == 2);
    assert!(world.now.since(since) < 2 * SECOND, "but it does not wait for ever");
    let second = workers_of(&world, 2, 0)[1];
    assert_eq!((second.slot, second.generation > first.generation), (first.slot, true));
}

#[test]
fn another_free_worker_tries_again_and_none_is_replaced() {
    let mut world = World::new(3);
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.pass(2 * SECOND);
    world.submit(1, 1, tried_again);
    world.pass_until(|world| !world.completed.is_empty());
    let workers = workers_of(&world, 1, 0);
    assert!(workers.len() == 3 && workers[0].slot != workers[1].slot && workers[1].slot != workers[2].slot);
    assert_eq!((world.spawned.len(), world.stopped.len()), (3, 0));
}

#[test]
fn what_runs_on_for_nobody_and_without_limit_is_cancelled_after_a_minute() {
    let mut world = World::with(SchedulerConfig { slots: 2, ..SchedulerConfig::default() });
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.items.insert((JobId(1), 1), Vice::DiesInItem);
    world.pass(2 * SECOND);
    world.submit(1, 2, |spec| spec.options.on_error = Some(OnError::FailFast));
    world.pass(50 * SECOND);
    assert_eq!(world.failed_jobs.len(), 1, "the call has failed long ago");
    let busy = |world: &World| world.state.snapshot().workers.iter().filter(|worker| worker.running.is_some()).count();
    assert_eq!(busy(&world), 1, "what runs is let finish");
    world.pass(15 * SECOND);
    assert_eq!(busy(&world), 0, "but not for ever");
    assert_eq!((world.up.len(), world.stopped.len()), (2, 0), "it ended when it was told");
}

#[test]
fn what_runs_on_for_nobody_keeps_the_time_limit_or_the_deadline_that_it_has() {
    for (item_timeout, deadline, expected) in [
        (Some(300 * SECOND), None, 300 * SECOND),
        (Some(300 * SECOND), Some(100 * SECOND), 100 * SECOND),
        (None, Some(20 * SECOND), 20 * SECOND),
        (None, Some(100 * SECOND), 60 * SECOND),
    ] {
        let mut world = World::new(2);
        world.items.insert((JobId(1), 0), Vice::Hangs);
        world.items.insert((JobId(1), 1), Vice::DiesInItem);
        world.pass(2 * SECOND);
        let now = world.now;
        world.submit(1, 2, |spec| {
            spec.options.on_error = Some(OnError::FailFast);
            spec.options.item_timeout = item_timeout;
            spec.deadline = deadline.map(|deadline: Duration| now.after(deadline));
        });
        let took = world.pass_until(|world| {
            !world.failed_jobs.is_empty()
                && world.state.snapshot().workers.iter().all(|worker| worker.running.is_none())
        });
        assert!(took >= expected && took <= expected + SECOND, "{took:?} instead of {expected:?}");
    }
}

#[test]
fn what_is_held_ahead_and_recalled_does_not_put_off_the_time_limit_of_what_runs() {
    let mut world = World::new(2);
    world.item_time = MS / 2;
    world.pass(2 * SECOND);
    world.submit(1, 1, |_| {});
    world.pass(SECOND);
    world.items.insert((JobId(2), 0), Vice::Hangs);
    world.submit(2, 1, |spec| spec.options.item_timeout = Some(100 * MS));
    let began = world.now;
    let mut num_recalled = 0;
    for job in 3..50 {
        // One for the free slot, and one to hold ahead of the item that hangs, until the free slot asks for it.
        world.submit(job, 2, |_| {});
        num_recalled += usize::from(workers_of(&world, job, 1) == workers_of(&world, 2, 0));
        world.pass(20 * MS);
        if !world.failed_items.is_empty() {
            break;
        }
    }
    assert!(num_recalled >= 3, "{num_recalled}");
    let took = world.now.since(began);
    assert!(took <= 120 * MS, "{took:?}");
}

#[test]
fn what_failed_in_the_only_idle_worker_is_not_held_ahead_of_a_busy_one_and_recalled_for_ever() {
    let mut world = World::new(2);
    world.item_time = MS / 2;
    world.pass(2 * SECOND);
    world.submit(1, 1, |_| {});
    world.pass(SECOND);
    world.items.insert((JobId(2), 0), Vice::Hangs);
    world.items.insert((JobId(3), 0), Vice::Hangs);
    world.submit(2, 1, |_| {});
    world.submit(3, 1, tried_again);
    world.pass_until(|world| world.failed_items.len() == 1);
    let workers = workers_of(&world, 3, 0);
    assert!(workers.len() <= 5, "three attempts, and at most two at a worker that had no time for them: {workers:?}");
}
