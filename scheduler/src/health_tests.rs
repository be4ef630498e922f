//! When slots start workers again.

use std::time::Duration;

use super::{Finding, LossStreak, SlotHealth, StartFailures, shortage_backoff};
use crate::backoff::Rng;
use crate::backoff::tests::check;
use crate::id::SlotId;
use crate::time::Time;

const MS: Duration = Duration::from_millis(1);
const LOST: Finding = Finding::LostWorker { died_young: false };

#[test]
fn failed_starts_wait_longer_and_longer_up_to_a_limit() {
    let (mut failures, mut rng) = (StartFailures::default(), Rng::new(1));
    let mut next = || {
        let wait = failures.backoff(&mut rng);
        failures.tried_in_vain();
        wait
    };
    let waits: Vec<_> = (0..11).map(|_| next()).collect();
    check(&waits, &[100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000]);
    failures.end_tries();
    check(&[failures.backoff(&mut rng)], &[100]);
}

#[test]
fn a_shortage_is_looked_at_twice_a_second() {
    let mut rng = Rng::new(1);
    let waits: Vec<_> = (0..20).map(|before| shortage_backoff(before, &mut rng)).collect();
    check(&waits[..5], &[50, 100, 200, 400, 400]);
    assert!(waits.iter().all(|&wait| wait <= 500 * MS));
}

#[test]
fn the_first_crash_after_work_is_replaced_at_once() {
    let (mut health, mut rng) = (SlotHealth::Sound, Rng::new(1));
    let mut next = || {
        health = health.after(LOST);
        health.crash_backoff(&mut rng)
    };
    assert_eq!(next(), Duration::ZERO);
    let waits: Vec<_> = (0..7).map(|_| next()).collect();
    check(&waits, &[50, 100, 200, 400, 800, 1000, 1000]);
    let health = health.after(Finding::ItemFinished).after(LOST);
    assert_eq!(health.crash_backoff(&mut rng), Duration::ZERO);
}

#[test]
fn a_slot_is_held_for_ever_longer_up_to_a_limit_until_it_finishes_an_item() {
    let (mut health, mut rng) = (SlotHealth::Sound.after(LOST), Rng::new(1));
    let mut next = || {
        health = health.after(Finding::Hold);
        assert!(matches!(health, SlotHealth::Held(_)) && health.is_on_probation());
        health.hold_time(&mut rng)
    };
    let waits: Vec<_> = (0..6).map(|_| next()).collect();
    check(&waits, &[30_000, 60_000, 120_000, 240_000, 300_000, 300_000]);
    assert!(health.after(Finding::StartsWorkElsewhere).was_held(), "it has yet to show that it works");
    assert_eq!(health.after(Finding::ItemFinished), SlotHealth::Sound);
}

#[test]
fn a_slot_is_blamed_for_three_workers_that_it_alone_lost() {
    let mut streak = LossStreak::default();
    let lose = |streak: &mut LossStreak, slot| {
        streak.lost_worker(SlotId(slot));
        streak.blame_slot()
    };
    assert_eq!([0; 2].map(|slot| lose(&mut streak, slot)), [false; 2]);
    streak.lost_worker(SlotId(1));
    assert_eq!([0; 2].map(|slot| lose(&mut streak, slot)), [false; 2], "workers die elsewhere, too");
    streak.forget(SlotId(1));
    assert!(lose(&mut streak, 0));
    streak.forget(SlotId(0));
    assert!(!lose(&mut streak, 0), "it has worked since");
}

#[test]
fn a_slot_whose_starts_fail_remembers_what_it_lost() {
    let at = |seconds| Time::from_start(Duration::from_secs(seconds));
    let young = SlotHealth::Sound.after(Finding::LostWorker { died_young: true });
    assert!(matches!(young, SlotHealth::Probation(_)) && !young.trusts_ready());
    let failing = young.after(Finding::StartFailed { at: at(1) }).after(LOST);
    assert_eq!(failing.failing_since(), Some(at(1)));
    assert!(failing.is_on_probation() && failing.trusts_ready());
    assert_eq!(failing.after(Finding::StartFailed { at: at(2) }).failing_since(), Some(at(2)));
    assert!(matches!(failing.after(Finding::Proof), SlotHealth::Probation(_)));
    assert!(young.after(Finding::Proof).trusts_ready());
    let never_ready = SlotHealth::Sound.after(Finding::StartFailed { at: at(1) });
    assert!(!never_ready.is_on_probation());
    assert_eq!(never_ready.after(Finding::StartsWorkElsewhere), SlotHealth::Sound);
}

#[test]
fn five_failed_starts_in_thirty_seconds_are_too_many() {
    let mut failures = StartFailures::default();
    let at = |seconds| Time::from_start(Duration::from_secs(seconds));
    assert!([0, 8, 16, 24].iter().all(|&second| !failures.record(at(second))));
    assert!(!failures.record(at(32)), "five in 32 seconds");
    assert!(failures.record(at(33)), "five in 25 seconds");
}
