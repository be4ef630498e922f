//! Slots where every worker dies, and items that kill wherever they run.

use std::num::NonZeroU32;

use procpool_scheduler::{Event, FailureCause, FunctionId, JobId, Readiness, SlotId};

use crate::world::{MS, SECOND, Vice, World};

#[test]
fn a_slot_that_dies_on_receipt_fails_no_item_and_is_held_back() {
    // The other slots are busy all the time, so whatever comes back can only go to the bad one, which is always free.
    for slots in [2, 4] {
        let mut world = World::new(slots).break_slots([0], Vice::DiesOnReceipt);
        world.item_time = 3 * SECOND;
        world.pass(SECOND);
        world.submit(1, 10, |_| {});
        // After two it is left to the others, until one of them has shown that the job can be done.
        world.pass(4 * SECOND);
        assert!(world.touched_by(0).len() <= 3, "{:?}", world.touched_by(0));
        let [(_, SlotId(0), wait)] = world.held[..] else { panic!("{:?}", world.held) };
        assert!(wait >= 24 * SECOND && wait <= 36 * SECOND, "{wait:?}");
        world.pass_until(|world| !world.completed.is_empty());
        assert_eq!(world.failed_items, [], "nothing of it has begun");
        assert_eq!(world.readiness.len(), 1, "{:?}", world.readiness);
        assert!(world.spawned.iter().filter(|(_, worker)| worker.slot.0 == 0).count() <= 4, "{:?}", world.spawned);
    }
}

#[test]
fn a_slot_whose_workers_lose_what_they_get_is_held_back() {
    let mut world = World::new(2).break_slots([0], Vice::Loses);
    world.item_time = 3 * SECOND;
    world.pass(SECOND);
    world.submit(1, 30, |spec| spec.options.chunk_size = NonZeroU32::new(1));
    world.pass_until(|world| !world.completed.is_empty());
    assert!(world.touched_by(0).len() <= 8, "it drains the queue: {:?}", world.touched_by(0));
    assert!(!world.held.is_empty());
    assert_eq!(world.healed, [], "what is lost is no proof");
}

#[test]
fn an_item_is_not_blamed_for_what_happens_in_one_slot_however_often() {
    let mut world = World::new(2).break_slots([0], Vice::DiesOnReceipt);
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.pass(2 * SECOND);
    let bad = world.slots.remove(&0).unwrap();
    // Whichever slot takes it: the other is the bad one.
    world.submit(1, 1, |spec| spec.function = FunctionId(2));
    let busy = world.dispatched[0].1.worker.slot.0;
    world.items.clear();
    world.slots.insert(1 - busy, bad);
    world.submit(2, 1, |_| {});
    world.pass(100 * SECOND);
    let there = world.dispatched.iter().filter(|(_, run)| run.job == JobId(2)).count();
    assert!(
        (4..=6).contains(&there),
        "it is tried for as long as there is no other slot, but ever more rarely: {there}"
    );
    assert_eq!(world.failed_items, []);
    world.apply(Event::JobCancelled { job: JobId(1) });
    world.pass_until(|world| world.completed == [JobId(2)]);
    assert_eq!(world.failed_items, []);
}

#[test]
fn an_item_is_not_blamed_in_one_slot_while_another_has_a_worker_that_has_yet_to_prove_itself() {
    let mut world = World::new(2).break_slots([0], Vice::DiesAfter(50 * MS));
    let starts = |world: &World| world.spawned.iter().filter(|(_, worker)| worker.slot.0 == 0).count();
    world.pass_until(|world| starts(world) == 2 && world.up.len() == 2);
    world.pass_until(|world| world.up.len() == 1);
    world.slots.clear();
    world.pass_until(|world| world.up.len() == 2);
    // The slot that works gets the first of these, the other one the second.
    world.items.insert((JobId(2), 0), Vice::Hangs);
    world.items.insert((JobId(3), 0), Vice::DiesOnReceipt);
    world.submit(1, 1, |_| {});
    world.submit(2, 1, |spec| spec.function = FunctionId(2));
    world.submit(3, 1, |_| {});
    let slots = |world: &World, job| -> Vec<u32> {
        let there = world.dispatched.iter().filter(|(_, run)| run.job == JobId(job));
        there.map(|(_, run)| run.worker.slot.0).collect()
    };
    assert_eq!((slots(&world, 1), slots(&world, 2)), (vec![1], vec![0]));
    world.pass(20 * SECOND);
    assert!(slots(&world, 3).iter().all(|&slot| slot == 1) && slots(&world, 3).len() >= 2, "{:?}", slots(&world, 3));
    assert_eq!(world.failed_items, [], "the other slot could show whose fault it is");
    world.apply(Event::JobCancelled { job: JobId(2) });
    world.pass_until(|world| !world.failed_items.is_empty());
    assert!(slots(&world, 3).contains(&0), "{:?}", slots(&world, 3));
}

#[test]
fn a_slot_whose_workers_die_in_any_item_does_not_drain_the_queue() {
    let mut world = World::new(4).break_slots([2], Vice::DiesInItem);
    world.pass(2 * SECOND);
    world.submit(1, 30_000, |_| {});
    world.pass_until(|world| !world.completed.is_empty());
    let took = world.now.since(world.readiness[0].0);
    assert!(took >= 90 * SECOND && took <= 120 * SECOND, "three slots do the work: {took:?}");
    // Three before it is held back, then one each time that it is tried again.
    assert!(world.failed_items.len() <= 3 + 2, "{:?}", world.failed_items);
    assert!(world.held.iter().all(|&(_, slot, _)| slot == SlotId(2)) && world.held.len() >= 2, "{:?}", world.held);
    let waits: Vec<_> = world.held.iter().map(|&(_, _, wait)| wait).collect();
    assert!(waits.windows(2).all(|pair| pair[1] > pair[0]), "{waits:?}");
}

#[test]
fn a_slot_that_was_held_back_gets_single_items_and_heals_when_it_finishes_one() {
    let mut world = World::new(2).break_slots([0], Vice::DiesOnReceipt);
    world.item_time = 5 * MS;
    world.pass(SECOND);
    world.submit(1, 100_000, |spec| spec.options.chunk_size = NonZeroU32::new(8));
    world.pass_until(|world| !world.held.is_empty());
    assert_eq!(world.state.snapshot().held_slots, [SlotId(0)]);
    world.slots.clear();
    let since = world.now;
    world.pass_until(|world| !world.healed.is_empty());
    assert_eq!(world.healed, [SlotId(0)]);
    assert_eq!(world.state.snapshot().held_slots, []);
    world.pass(SECOND);
    let there = world.dispatched.iter().filter(|(at, run)| *at > since && run.worker.slot.0 == 0);
    let counts: Vec<u32> = there.map(|(_, run)| run.count).collect();
    assert_eq!(counts[0], 1, "one item tells whether it works");
    assert!(counts[1..].iter().all(|&count| count == 8), "{counts:?}");
    assert_eq!(world.held.len(), 1);
}

#[test]
fn an_item_that_kills_before_it_begins_ends_after_three_workers_of_different_slots() {
    for (slots, distinct) in [(1, 1), (2, 2), (4, 3)] {
        let mut world = World::new(slots);
        world.items.insert((JobId(1), 5), Vice::DiesOnReceipt);
        world.pass(2 * SECOND);
        world.submit(1, 20, |_| {});
        world.pass_until(|world| !world.completed.is_empty());
        assert_eq!(world.failed_items, [(JobId(1), 5, FailureCause::CrashLimit { crashes: 3 })]);
        let killed = world.dispatched.iter().filter(|(_, run)| run.first_index == 5);
        let killed: Vec<u32> = killed.map(|(_, run)| run.worker.slot.0).collect();
        assert_eq!(killed.len(), 3, "three workers are lost to it, not more: {killed:?}");
        let mut different = killed.clone();
        different.sort_unstable();
        different.dedup();
        assert_eq!(different.len(), distinct, "{killed:?}");
        assert!(world.held.is_empty(), "no slot is at fault: {:?}", world.held);
    }
}

#[test]
fn an_item_that_kills_before_it_begins_stops_no_other_while_all_other_slots_are_busy() {
    let mut world = World::new(2);
    world.items.insert((JobId(1), 0), Vice::Hangs);
    world.items.insert((JobId(2), 0), Vice::DiesOnReceipt);
    world.pass(2 * SECOND);
    world.submit(1, 1, |_| {});
    world.submit(2, 1, |_| {});
    // The only free slot is lost to it again and again, and cannot know that it is not at fault.
    world.pass_until(|world| !world.held.is_empty());
    assert_eq!(world.failed_items, []);
    world.submit(3, 1000, |_| {});
    let waited = world.pass_until(|world| world.completed.contains(&JobId(3)));
    assert!(waited < 60 * SECOND, "the slot is tried again with something else: {waited:?}");
    assert_eq!(world.held.len(), 1);
    // While there is other work, it takes no more than a worker a second.
    world.submit(4, 6000, |_| {});
    let since = world.now;
    world.pass(20 * SECOND);
    assert!(world.spawns_since(since) <= 21, "{} workers lost in 20 s", world.spawns_since(since));
    // When the other slot is free, it shows whose fault it is.
    world.apply(Event::JobCancelled { job: JobId(1) });
    world.pass_until(|world| world.completed.contains(&JobId(2)));
    assert_eq!(world.failed_items, [(JobId(2), 0, FailureCause::CrashLimit { crashes: 3 })]);
}

#[test]
fn a_slot_is_not_held_back_when_nobody_else_could_do_its_work() {
    let mut world = World::new(1).break_slots([0], Vice::DiesInItem);
    world.pass(2 * SECOND);
    world.submit(1, 20, |_| {});
    world.pass_until(|world| !world.completed.is_empty());
    assert!(world.held.is_empty());

    // The other slot fails only after this one is held back.
    let mut world = World::new(2).break_slots([0], Vice::DiesOnReceipt);
    world.item_time = 500 * MS;
    world.pass(2 * SECOND);
    world.submit(1, 20, |_| {});
    world.pass_until(|world| !world.held.is_empty());
    world.slots = [(1, Vice::FailsToStart)].into();
    let good = *world.up.iter().find(|worker| worker.slot.0 == 1).unwrap();
    world.kill(good);
    let waited = world.pass_until(|world| world.up.iter().any(|worker| worker.slot.0 == 0));
    assert!(waited < 2 * SECOND, "{waited:?}");
    world.pass_until(|world| !world.completed.is_empty());
}

#[test]
fn a_function_that_always_crashes_is_not_taken_for_a_bad_slot() {
    // One call after the other, while all slots are free: they share the damage.
    let mut world = World::new(3);
    world.pass(2 * SECOND);
    for job in 1..30 {
        world.items.insert((JobId(job), 0), Vice::DiesInItem);
        world.submit(job, 1, |_| {});
        world.pass_until(|world| world.completed.contains(&JobId(job)));
    }
    assert_eq!((world.failed_items.len(), world.held.len()), (29, 0));

    // One slot is free, and the function has never run: it may be its fault, and others need the slot.
    let mut world = World::new(3);
    world.item_time = 3600 * SECOND;
    world.pass(2 * SECOND);
    world.submit(1, 2, |spec| spec.function = FunctionId(2));
    world.item_time = MS;
    for item in 0..100 {
        world.items.insert((JobId(2), item), Vice::DiesInItem);
    }
    world.submit(2, 100, |_| {});
    world.pass(10 * SECOND);
    world.submit(3, 1, |spec| spec.function = FunctionId(3));
    let waited = world.pass_until(|world| world.completed.contains(&JobId(3)));
    assert!(waited < 5 * SECOND, "{waited:?}");
    world.pass_until(|world| world.completed.contains(&JobId(2)));
    assert_eq!((world.failed_items.len(), world.held.len()), (100, 0));
}

#[test]
fn operators_may_have_mended_a_slot_that_is_held_back() {
    for repair in [Event::RestartRequested, Event::Resized { slots: 1 }] {
        let mut world = World::new(2).break_slots([0], Vice::DiesOnReceipt);
        world.item_time = 50 * MS;
        world.pass(2 * SECOND);
        world.submit(1, 100, |_| {});
        world.pass_until(|world| !world.held.is_empty());
        world.slots.clear();
        world.apply(repair);
        let waited = world.pass_until(|world| world.up.iter().any(|worker| worker.slot.0 == 0));
        assert!(waited < SECOND, "{waited:?}");
        world.pass_until(|world| !world.completed.is_empty());
        assert_eq!(world.failed_items, []);
    }
}

#[test]
fn a_slot_that_is_held_back_is_in_nobodys_way_when_workers_are_replaced() {
    let mut world = World::new(3).break_slots([0], Vice::DiesOnReceipt);
    world.pass(2 * SECOND);
    world.submit(1, 10_000, |_| {});
    world.pass_until(|world| !world.held.is_empty());
    let large = *world.up.iter().next().unwrap();
    world.apply(Event::MemoryHigh { worker: large });
    world.pass(SECOND);
    assert!(!world.up.contains(&large), "its memory does not wait for the slot that is held back");
    world.apply(Event::RestartRequested);
    world.pass(10 * SECOND);
    assert!(!world.state.snapshot().restarting, "nor does a restart");
    assert_eq!(world.readiness.last().unwrap().1, Readiness::Ready);
}
