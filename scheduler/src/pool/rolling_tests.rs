//! Restarts, on pools that are told what happens by hand.

use std::time::Duration;

use super::super::demand::tests::{Pool, ready, spec};
use crate::event::{Dispatch, Effect, Event, ResultSize, StopReason};
use crate::id::WorkerId;

impl Pool {
    /// Returns who was told to exit since this was asked last, and for a restart.
    fn replaced(&mut self) -> Vec<WorkerId> {
        let asked = self.others.extract_if(.., |effect| matches!(effect, Effect::Shutdown { .. }));
        let asked = asked.map(|effect| {
            let Effect::Shutdown { worker, reason } = effect else { unreachable!("only these were taken") };
            assert_eq!(reason, StopReason::Restart);
            worker
        });
        asked.collect()
    }

    /// A worker is gone, and the one after it is ready.
    fn replace(&mut self, old: WorkerId) {
        self.apply(Event::WorkerExited { worker: old, running: None, by_shortage: false });
        let new = *self.workers.last().unwrap();
        assert_eq!(new.slot, old.slot);
        assert_eq!(self.replaced(), [], "another goes when this one is ready");
        self.apply(ready(new));
    }

    /// The first item of a chunk is finished, and the others are given back.
    fn finish_one(&mut self, dispatch: &Dispatch) {
        let (worker, chunk) = (dispatch.worker, dispatch.chunk);
        self.apply(Event::Recalled { worker, chunk, first_not_begun: 1 });
        let busy = Duration::from_secs(1);
        self.apply(Event::ItemsFinished {
            worker,
            chunk,
            first: 0,
            count: 1,
            failed: Vec::new(),
            busy,
            size: ResultSize::default(),
        });
    }

    fn is_restarted(&self) -> bool {
        self.others.contains(&Effect::RestartFinished)
    }
}

#[test]
fn idle_workers_are_replaced_first_and_an_endless_item_holds_up_nobody() {
    let mut pool = Pool::new(3);
    pool.submit_as(spec(1, 1));
    let endless = pool.dispatched.remove(0);
    assert_eq!(endless.worker, pool.workers[0], "the lowest slot is the busy one");
    pool.apply(Event::RestartRequested);
    for _ in 0..2 {
        let [old] = pool.replaced()[..] else { panic!("one at a time") };
        assert_ne!(old, endless.worker);
        pool.replace(old);
    }
    assert_eq!(pool.replaced(), []);
    assert!(!pool.is_restarted());
    pool.finish_one(&endless);
    assert_eq!(pool.replaced(), [endless.worker]);
    pool.replace(endless.worker);
    assert!(pool.is_restarted());
    // The last one has yet to prove itself; nothing else is waited for.
    pool.pass(Duration::from_secs(1));
    pool.apply(Event::TimePassed);
    assert_eq!(pool.state.next_wakeup(), None);
}

#[test]
fn while_all_are_busy_one_is_waited_for_and_then_another() {
    let mut pool = Pool::new(3);
    for job in 1..=3 {
        pool.submit_as(spec(job, 1));
        pool.pass(Duration::from_millis(1));
    }
    let dispatched = std::mem::take(&mut pool.dispatched);
    pool.submit_as(spec(4, 100));
    pool.apply(Event::RestartRequested);
    // The last to begin is chosen first; the one before it when that takes long.
    for dispatch in [&dispatched[2], &dispatched[1]] {
        let recalled = pool.others.extract_if(.., |effect| matches!(effect, Effect::Recall { .. }));
        let recalled: Vec<Effect> = recalled.collect();
        let asked = Effect::Recall { worker: dispatch.worker, chunk: dispatch.chunk, cancel: false };
        assert_eq!(recalled, [asked]);
        pool.pass(Duration::from_millis(500));
        pool.apply(Event::TimePassed);
    }
    pool.finish_one(&dispatched[1]);
    assert_eq!(pool.replaced(), [dispatched[1].worker]);
    assert!(pool.dispatched.is_empty(), "whoever is to go is given nothing");
    // Another becomes idle before its turn: until then it works.
    pool.finish_one(&dispatched[2]);
    assert_eq!(pool.replaced(), []);
    assert_eq!(pool.dispatched.last().unwrap().worker, dispatched[2].worker);
    assert!(!pool.is_restarted());
}

#[test]
fn a_pool_that_drains_gives_a_restart_up() {
    let mut pool = Pool::new(1);
    pool.submit_as(spec(1, 1));
    pool.apply(Event::RestartRequested);
    pool.apply(Event::DrainRequested);
    assert!(pool.others.contains(&Effect::RestartGivenUp) && !pool.is_restarted());
    pool.apply(Event::RestartRequested);
    assert!(!pool.state.snapshot().restarting, "it takes no new one");
}

#[test]
fn a_slot_that_was_given_up_during_a_restart_takes_nothing_when_the_restart_is_given_up() {
    let mut pool = Pool::new(2);
    for job in 1..=2 {
        pool.submit_as(spec(job, 1));
        pool.pass(Duration::from_millis(1));
    }
    let dispatched = std::mem::take(&mut pool.dispatched);
    pool.submit_as(spec(3, 100));
    // The last to begin is the first to be replaced.
    pool.apply(Event::RestartRequested);
    assert_eq!(dispatched[1].worker.slot.0, 1);
    pool.apply(Event::Resized { slots: 1 });
    pool.apply(Event::DrainRequested);
    pool.finish_one(&dispatched[1]);
    assert!(pool.dispatched.is_empty(), "{:?}", pool.dispatched);
}
