//! Calls whose data kills workers: they fail, and nobody else has to.

use std::num::NonZeroU32;

use procpool_scheduler::{FunctionId, JobFailure, JobId, SlotId};

use crate::world::{MS, SECOND, Vice, World};

/// Returns how many workers had items of a job.
fn workers_of(world: &World, job: u64) -> usize {
    world.dispatched.iter().filter(|(_, run)| run.job == JobId(job)).count()
}

#[test]
fn a_common_argument_that_kills_fails_its_job_and_the_pool_serves_others_throughout() {
    for (slots, vice) in
        [1, 2, 4].into_iter().flat_map(|slots| [(slots, Vice::DiesOnReceipt), (slots, Vice::DiesInItem)])
    {
        let mut world = World::new(slots);
        world.pass(2 * SECOND);
        world.items = (0..1000).map(|index| ((JobId(1), index), vice)).collect();
        world.submit(1, 1000, |spec| spec.has_common = true);
        let mut slowest = MS;
        for job in 2..40 {
            world.submit(job, 2, |spec| spec.function = FunctionId(2));
            slowest = slowest.max(world.pass_until(|world| world.completed.contains(&JobId(job))));
        }
        assert!(slowest < 3 * SECOND, "{slots} slots, {vice:?}: others waited for {slowest:?}");
        world.pass_until(|world| !world.failed_jobs.is_empty());
        let [(JobId(1), JobFailure::CrashLimit { .. })] = world.failed_jobs[..] else {
            panic!("{:?}", world.failed_jobs)
        };
        let killed = workers_of(&world, 1);
        // Those that have begun may have been sent at the same time.
        let most = if vice == Vice::DiesInItem { 3 * slots as usize + 1 } else { slots.max(4) as usize };
        assert!(killed <= most, "{slots} slots, {vice:?}: {killed} workers killed");
        assert_eq!(world.readiness.len(), 1, "{:?}", world.readiness);
        assert_eq!(world.held, [], "no slot is at fault");
    }
}

#[test]
fn a_job_whose_every_item_kills_before_it_begins_fails_after_three_of_them() {
    let mut world = World::new(4);
    world.pass(2 * SECOND);
    world.items = (0..1000).map(|index| ((JobId(1), index), Vice::DiesOnReceipt)).collect();
    world.submit(1, 1000, |_| {});
    world.pass_until(|world| !world.failed_jobs.is_empty());
    assert_eq!(world.failed_jobs, [(JobId(1), JobFailure::CrashLimit { crashes: 3 })]);
    assert!(workers_of(&world, 1) <= 4);
    assert_eq!(world.readiness.len(), 1);
}

#[test]
fn a_job_is_not_blamed_for_its_items_once_one_has_been_finished() {
    let mut world = World::new(2);
    world.pass(2 * SECOND);
    world.items = (1..30).map(|index| ((JobId(1), index), Vice::DiesInItem)).collect();
    world.submit(1, 30, |spec| spec.has_common = true);
    world.pass_until(|world| !world.completed.is_empty());
    assert_eq!((world.failed_items.len(), world.failed_jobs.len()), (29, 0));
}

#[test]
fn what_is_lost_does_not_speak_for_its_job() {
    let mut world = World::new(2);
    world.pass(2 * SECOND);
    world.items = (1..30).map(|index| ((JobId(1), index), Vice::DiesInItem)).collect();
    world.items.insert((JobId(1), 0), Vice::Loses);
    world.submit(1, 30, |spec| {
        spec.has_common = true;
        spec.options.chunk_size = NonZeroU32::new(1);
    });
    world.pass_until(|world| !world.failed_jobs.is_empty() || !world.completed.is_empty());
    let [(JobId(1), JobFailure::CrashLimit { .. })] = world.failed_jobs[..] else { panic!("{:?}", world.failed_jobs) };
}

#[test]
fn a_job_is_not_blamed_for_a_slot_where_every_worker_dies() {
    for vice in [Vice::DiesOnReceipt, Vice::DiesInItem] {
        let mut world = World::new(2).break_slots([0], vice);
        // The other slot takes its time with the first item.
        world.item_time = 30 * SECOND;
        world.pass(2 * SECOND);
        world.submit(1, 4, |spec| spec.has_common = true);
        world.pass_until(|world| !world.completed.is_empty());
        assert_eq!(world.failed_jobs, [], "{vice:?}");
        let there = world.dispatched.iter().filter(|(_, run)| run.worker.slot == SlotId(0)).count();
        assert!(there <= 8, "{vice:?}: {there} went to the slot where all die");
    }
}

#[test]
fn a_kill_of_all_workers_at_once_is_not_the_fault_of_what_they_have_begun() {
    let mut world = World::new(4);
    world.pass(2 * SECOND);
    world.item_time = SECOND;
    world.submit(1, 20, |spec| {
        spec.has_common = true;
        spec.options.max_attempts = NonZeroU32::new(3);
    });
    world.pass(100 * MS);
    for worker in world.up.clone() {
        world.kill(worker);
    }
    world.pass_until(|world| world.completed == [JobId(1)]);
    assert_eq!((world.failed_items.len(), world.failed_jobs.len()), (0, 0));
}
