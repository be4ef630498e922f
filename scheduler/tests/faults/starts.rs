//! Workers that do not start, or end as soon as they have.

use procpool_scheduler::{Event, FailureCause, JobFailure, JobId, Readiness};

use crate::world::{MS, SECOND, START_TIME, Vice, World};

#[test]
fn while_no_worker_starts_one_slot_tries_for_all_and_when_it_succeeds_all_start() {
    for slots in [1, 4, 8, 64] {
        let mut world = World::new(slots).break_slots(0..slots, Vice::FailsToStart);
        world.pass(6 * SECOND);
        let spawned = world.spawned.len();
        assert!(spawned >= slots as usize + 5, "{slots} slots: {spawned} starts in 6 s are too few to heal soon");
        assert!(spawned < slots as usize + 10, "{slots} slots: {spawned} starts in 6 s");
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Degraded);
        world.pass(60 * SECOND);
        let since = world.now;
        world.pass(100 * SECOND);
        assert!((3..=5).contains(&world.spawns_since(since)), "about two a minute are {}", world.spawns_since(since));

        world.slots.clear();
        let healed = world.pass_until(|world| world.up.len() == slots as usize);
        assert!(healed <= 36 * SECOND + 3 * START_TIME, "{slots} slots are whole {healed:?} after they were mended");
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Ready);
    }
}

#[test]
fn slots_whose_starts_fail_take_turns_so_that_one_that_never_works_stops_none() {
    let mut world = World::new(4).break_slots(0..4, Vice::FailsToStart);
    world.pass(SECOND);
    // Whichever tries first now.
    world.slots = [0, 1, 2].map(|slot| (slot, Vice::FailsToStart)).into();
    world.pass_until(|world| world.up.len() == 1);
    let since = world.now;
    world.pass(600 * SECOND);
    let tries = world.spawned.iter().filter(|(at, _)| *at > since);
    let tries: Vec<u32> = tries.map(|(_, worker)| worker.slot.0).collect();
    assert!((20..40).contains(&tries.len()), "{tries:?}");
    assert!([0, 1, 2].iter().all(|slot| tries.iter().filter(|&other| other == slot).count() >= 6), "{tries:?}");
    assert_eq!(world.readiness.last().unwrap().1, Readiness::Ready, "one slot works");
}

#[test]
fn workers_that_die_as_soon_as_they_are_ready_are_failed_starts_and_the_pool_says_so_and_heals() {
    for slots in [1, 4, 8] {
        let mut world = World::new(slots).break_slots(0..slots, Vice::DiesAfter(50 * MS));
        world.pass(3 * SECOND);
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Degraded, "{slots} slots");
        world.submit(1, 1, |_| {});
        assert_eq!(world.failed_jobs, [(JobId(1), JobFailure::Degraded { started: false })]);
        let since = world.now;
        world.pass(60 * SECOND);
        assert!(world.spawns_since(since) < 10, "{slots} slots: {} starts in a minute", world.spawns_since(since));
        let changes = world.readiness.len();
        world.pass(60 * SECOND);
        assert_eq!(world.readiness.len(), changes, "that a worker is ready says nothing any more");

        world.slots.clear();
        world.pass_until(|world| world.up.len() == slots as usize);
        // Who is ready has to live for a second.
        world.pass(SECOND);
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Ready);
        world.submit(2, 10, |_| {});
        world.pass(SECOND);
        assert_eq!(world.completed, [JobId(2)]);
    }
}

#[test]
fn a_pool_whose_workers_are_killed_as_fast_as_they_come_is_healthy_as_long_as_items_finish() {
    let mut world = World::new(4);
    world.pass(SECOND);
    world.submit(1, 4000, |_| {});
    let mut kills = 0;
    while world.completed.is_empty() {
        world.pass(25 * MS);
        // One of each four has just been started, one is idle in the end, and most run an item.
        if let Some(&worker) = world.up.iter().nth(kills % 4) {
            world.kill(worker);
            kills += 1;
        }
    }
    assert!(kills > 100, "{kills}");
    assert_eq!(world.readiness, [(world.readiness[0].0, Readiness::Ready)]);
    assert!(world.held.is_empty() && world.failed_jobs.is_empty());
    assert!(world.failed_items.len() <= kills, "only what ran is blamed");
    assert!(world.failed_items.iter().all(|(_, _, cause)| *cause == FailureCause::WorkerDied));
}

#[test]
fn an_item_that_kills_its_worker_is_no_failed_start() {
    let mut world = World::new(2).break_slots(0..2, Vice::DiesInItem);
    world.pass(SECOND);
    world.submit(1, 30, |_| {});
    world.pass_until(|world| !world.completed.is_empty());
    assert_eq!(world.failed_items.len(), 30);
    assert_eq!(world.readiness.len(), 1, "the pool works, its items do not: {:?}", world.readiness);
    assert!(world.held.is_empty(), "the slots are as bad as each other");
    assert!(world.now.elapsed() < 20 * SECOND, "callers wait, so a slot is filled again within a second");
}

#[test]
fn a_shortage_is_over_for_the_pool_within_a_second_and_keeps_nobody_busy() {
    for slots in [1, 8] {
        let mut world = World::new(slots);
        world.pass(2 * SECOND);
        world.slots = (0..slots).map(|slot| (slot, Vice::Shortage)).collect();
        for worker in world.up.clone() {
            world.kill(worker);
        }
        world.pass(10 * SECOND);
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Degraded, "nobody should wait");
        let since = world.now;
        world.pass(20 * SECOND);
        let per_slot = world.spawns_since(since) / slots as usize;
        assert!((40..=65).contains(&per_slot), "{per_slot} starts of each slot in 20 s");
        world.slots.clear();
        let healed = world.pass_until(|world| world.up.len() == slots as usize);
        assert!(healed <= SECOND / 2 + START_TIME, "{slots} slots are whole {healed:?} after the shortage");
        assert_eq!(world.readiness.last().unwrap().1, Readiness::Ready);
    }
}

#[test]
fn a_restart_to_workers_that_die_at_once_leaves_most_of_those_that_work() {
    let mut world = World::new(8);
    world.pass(2 * SECOND);
    world.slots = (0..8).map(|slot| (slot, Vice::DiesAfter(50 * MS))).collect();
    world.apply(Event::RestartRequested);
    world.pass(60 * SECOND);
    // Some more go in the time that it takes for the first to die.
    assert!(world.up.len() >= 5, "{:?}", world.up);
    assert_eq!(world.readiness.len(), 1, "{:?}", world.readiness);
    world.slots.clear();
    world.pass_until(|world| !world.state.snapshot().restarting);
    assert!(world.up.iter().all(|worker| worker.generation > 8), "{:?}", world.up);
}

#[test]
fn slots_that_come_and_go_do_not_leave_others_waiting_for_their_turn() {
    let mut world = World::new(4).break_slots(0..8, Vice::FailsToStart);
    world.pass(SECOND);
    for slots in [1, 8, 2, 5] {
        world.apply(Event::Resized { slots });
        world.pass(40 * SECOND);
    }
    world.slots.clear();
    world.pass_until(|world| world.up.len() == 5);
    world.pass(60 * SECOND);
    assert_eq!(world.up.len(), 5);
}
