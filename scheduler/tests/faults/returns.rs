//! What goes back before it has begun, again and again.

use procpool_scheduler::{Event, JobId, StopReason};

use crate::world::{MS, SECOND, Vice, World};

/// Returns how often an item was handed out.
fn times_of(world: &World, job: u64) -> usize {
    world.dispatched.iter().filter(|(_, run)| (run.job, run.first_index) == (JobId(job), 0)).count()
}

#[test]
fn a_worker_that_grows_while_it_receives_an_item_is_replaced_after_it_and_not_before() {
    for has_worked in [false, true] {
        let mut world = World::new(1);
        world.pass(2 * SECOND);
        if has_worked {
            world.submit(1, 10, |_| {});
            world.pass(SECOND);
        }
        let first = *world.up.first().unwrap();
        world.items.insert((JobId(2), 0), Vice::SlowToBegin);
        world.submit(2, 1, |_| {});
        world.pass(100 * MS);
        // The session says so once.
        world.apply(Event::MemoryHigh { worker: first });
        world.pass_until(|world| world.completed.contains(&JobId(2)));
        assert_eq!(times_of(&world, 2), 1, "it is not sent to another, which would grow as much");
        world.pass(2 * SECOND);
        let stopped: Vec<_> = world.stopped.iter().map(|&(_, worker, how, reason)| (worker, how, reason)).collect();
        assert_eq!(stopped, [(first, "shutdown", StopReason::Memory)]);
    }
}

#[test]
fn a_worker_that_was_large_before_it_got_anything_is_replaced_after_its_first_item() {
    let mut world = World::new(2);
    world.pass(2 * SECOND);
    let large = *world.up.first().unwrap();
    world.apply(Event::MemoryHigh { worker: large });
    world.pass(10 * SECOND);
    assert!(world.up.contains(&large), "the next one would be as large");
    world.submit(1, 100, |_| {});
    world.pass(SECOND);
    assert!(!world.up.contains(&large) && world.completed == [JobId(1)], "{:?}", world.stopped);
}

#[test]
fn what_is_asked_back_with_every_restart_is_left_alone_in_the_end() {
    let mut world = World::new(2);
    world.items.insert((JobId(1), 0), Vice::SlowToBegin);
    world.pass(2 * SECOND);
    world.submit(1, 1, |_| {});
    // A restart takes the idle worker first, then this one.
    let mut restarts = 0;
    while world.completed.is_empty() {
        world.apply(Event::RestartRequested);
        world.pass(200 * MS);
        restarts += 1;
        assert!(restarts < 100, "it is handed out for the {}th time", times_of(&world, 1));
    }
    assert_eq!(times_of(&world, 1), 4, "three times in vain");
    assert!(world.dispatched.last().unwrap().1.left_alone);
    world.pass_until(|world| !world.state.snapshot().restarting);
}

#[test]
fn a_slot_that_is_given_up_waits_for_the_item_that_its_worker_is_left_alone_with() {
    let mut world = World::new(2);
    world.items.insert((JobId(1), 0), Vice::SlowToBegin);
    world.pass(2 * SECOND);
    world.submit(1, 1, |_| {});
    while !world.dispatched.last().unwrap().1.left_alone {
        world.apply(Event::RestartRequested);
        world.pass(200 * MS);
    }
    let its = world.dispatched.last().unwrap().1.worker;
    world.apply(Event::Resized { slots: 1 });
    world.apply(Event::Resized { slots: 2 });
    world.apply(Event::Resized { slots: 1 });
    world.pass_until(|world| world.completed == [JobId(1)]);
    assert_eq!(world.dispatched.last().unwrap().1.worker, its);
    world.pass(SECOND);
    assert_eq!(world.up.len(), 1);
}
