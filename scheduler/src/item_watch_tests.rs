//! Time limits and grace periods: who is told to end, who is ended, and that it is never the item after.

use std::time::Duration;

use super::{GracePeriods, ItemAction, ItemWatch, LOOK_INTERVAL, RunningItem, WatchedChunk};
use crate::event::StopReason;
use crate::id::ChunkId;
use crate::time::Time;

const LIMIT: Duration = Duration::from_millis(300);
const CANCEL: Duration = Duration::from_secs(2);
const KILL: Duration = Duration::from_secs(5);

/// A worker with chunks, and what runs there.
struct Worker {
    watch: ItemWatch,
    now: Time,
    chunks: Vec<WatchedChunk>,
    running: Option<(ChunkId, u32, Time)>,
}

impl Worker {
    /// Returns a worker that was just given chunks with time limits, by the names 1, 2, and so on. The first item of the
    /// first begins.
    fn with(limits: &[Option<Duration>]) -> Self {
        let watch = ItemWatch::new(GracePeriods { cancel: CANCEL, kill: KILL });
        let mut worker = Self { watch, now: Time::ZERO, chunks: Vec::new(), running: None };
        for (name, &time_limit) in (1..).zip(limits) {
            worker.watch.chunk_given(worker.now, time_limit);
            worker.chunks.push(WatchedChunk { chunk: ChunkId(name), time_limit, is_cancelled: false });
        }
        worker.begins(1, 0);
        worker
    }

    fn begins(&mut self, chunk: u64, offset: u32) {
        self.running = Some((ChunkId(chunk), offset, self.now));
    }

    /// All of the first chunk is accounted for. What ran there has ended.
    fn ends_first_chunk(&mut self) {
        let ended = self.chunks.remove(0);
        self.running = self.running.filter(|(chunk, ..)| *chunk != ended.chunk);
    }

    fn is_cancelled(&mut self, chunk: u64) -> Option<ItemAction> {
        self.chunks
            .iter_mut()
            .filter(|known| known.chunk == ChunkId(chunk))
            .for_each(|known| known.is_cancelled = true);
        self.look()
    }

    fn look(&mut self) -> Option<ItemAction> {
        let running = self.running.map(|(chunk, offset, began)| RunningItem {
            chunk,
            offset,
            running_for: self.now.since(began),
        });
        let action = self.watch.look(self.now, self.chunks.iter().copied(), running);
        if action == Some(ItemAction::Expire) {
            self.watch.expire(self.now, running.expect("its time is up"));
        }
        action
    }

    /// Lets time pass, with all the looks that are due by then. Returns what they found.
    fn pass(&mut self, time: Duration) -> Vec<ItemAction> {
        let end = self.now.after(time);
        let mut actions = Vec::new();
        while let Some(at) = self.watch.next_look().filter(|&at| at <= end) {
            assert!(at > self.now, "a look follows another later");
            self.now = at;
            actions.extend(self.look());
        }
        self.now = end;
        actions
    }
}

fn just_before(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_nanos(1))
}

const TERMINATED: ItemAction = ItemAction::Terminate(StopReason::ItemTimeout);
const ONE_NANOSECOND: Duration = Duration::from_nanos(1);

#[test]
fn an_item_that_goes_on_is_told_and_then_its_worker_ended() {
    let mut worker = Worker::with(&[Some(LIMIT)]);
    assert_eq!(worker.pass(just_before(LIMIT)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Expire]);
    assert_eq!(worker.pass(just_before(CANCEL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [TERMINATED]);
    assert_eq!(worker.pass(just_before(KILL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Kill]);
}

#[test]
fn without_a_time_limit_nobody_looks() {
    let worker = Worker::with(&[None, None]);
    assert_eq!(worker.watch.next_look(), None);
}

#[test]
fn the_time_of_an_item_counts_from_when_it_began() {
    let mut worker = Worker::with(&[Some(LIMIT)]);
    worker.pass(LIMIT / 2);
    worker.begins(1, 1);
    assert_eq!(worker.pass(just_before(LIMIT)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Expire]);
}

#[test]
fn an_item_with_a_limit_is_found_behind_one_without() {
    let mut worker = Worker::with(&[None, Some(LIMIT)]);
    worker.pass(10 * LIMIT + LIMIT / 2);
    // The result of the item before is held back.
    worker.begins(2, 0);
    assert_eq!(worker.pass(LIMIT), [ItemAction::Expire]);
}

#[test]
fn the_item_after_is_not_ended_for_one_whose_result_is_held_back() {
    let mut worker = Worker::with(&[Some(LIMIT)]);
    assert_eq!(worker.pass(LIMIT), [ItemAction::Expire]);
    worker.pass(just_before(CANCEL));
    // It ended just so; the next one began, and nothing that the worker sends has come since.
    worker.begins(1, 1);
    assert_eq!(worker.pass(just_before(LIMIT)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Expire], "it is the one that is told");
    assert_eq!(worker.pass(just_before(CANCEL)), [], "it has a grace period of its own");
    worker.ends_first_chunk();
    assert_eq!(worker.pass(CANCEL), []);
    assert_eq!(worker.watch.next_look(), None);
}

/// Returns a worker that got SIGTERM for its first item, and has gone on to the next. Nobody has looked since.
fn survivor(next_limit: Option<Duration>) -> Worker {
    let mut worker = Worker::with(&[Some(LIMIT), next_limit]);
    assert_eq!(worker.pass(LIMIT + CANCEL), [ItemAction::Expire, TERMINATED]);
    worker.ends_first_chunk();
    worker.begins(2, 0);
    worker
}

#[test]
fn an_item_that_begins_after_sigterm_is_not_killed_for_the_one_before_it() {
    let limit = 2 * KILL;
    let mut worker = survivor(Some(limit));
    assert_eq!(worker.pass(just_before(limit)), []);
    assert_eq!(worker.pass(LOOK_INTERVAL), [ItemAction::Expire]);
    // It is told, and has a grace period of its own.
    assert_eq!(worker.pass(CANCEL / 2), []);
    assert_eq!(worker.pass(CANCEL / 2), [ItemAction::Kill]);
}

#[test]
fn a_survivor_that_runs_an_item_that_may_go_on_is_killed_when_that_has_ended() {
    let mut worker = survivor(None);
    assert_eq!(worker.pass(10 * KILL), []);
    worker.ends_first_chunk();
    assert_eq!(worker.pass(LOOK_INTERVAL), [ItemAction::Kill]);
}

#[test]
fn an_item_that_begins_after_sigterm_and_is_cancelled_has_its_grace_period() {
    let mut worker = survivor(None);
    worker.pass(2 * KILL);
    assert_eq!(worker.is_cancelled(2), None);
    assert_eq!(worker.pass(just_before(CANCEL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Kill]);
}

#[test]
fn a_worker_that_runs_nothing_after_sigterm_has_its_grace_period() {
    let mut worker = survivor(None);
    worker.ends_first_chunk();
    assert_eq!(worker.pass(just_before(KILL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Kill]);
}

#[test]
fn the_chunk_after_is_not_ended_for_a_call_that_is_gone() {
    let mut worker = Worker::with(&[None, None]);
    assert_eq!(worker.is_cancelled(1), None);
    worker.pass(just_before(CANCEL));
    worker.begins(2, 0);
    assert_eq!(worker.pass(2 * CANCEL), []);
}

#[test]
fn the_chunks_of_two_calls_that_are_gone_have_a_grace_period_each() {
    let mut worker = Worker::with(&[None, None]);
    worker.is_cancelled(1);
    worker.pass(CANCEL / 2);
    worker.is_cancelled(2);
    worker.pass(just_before(CANCEL / 2));
    // The first ends just in time, and the second begins.
    worker.ends_first_chunk();
    worker.begins(2, 0);
    assert_eq!(worker.pass(just_before(CANCEL)), []);
    assert_eq!(worker.pass(2 * ONE_NANOSECOND), [ItemAction::Terminate(StopReason::Cancelled)]);
}

#[test]
fn a_worker_that_neither_begins_nor_gives_back_what_nobody_waits_for_is_ended() {
    let mut worker = Worker::with(&[None]);
    worker.running = None;
    worker.is_cancelled(1);
    assert_eq!(worker.pass(CANCEL), [ItemAction::Terminate(StopReason::Cancelled)]);
}

#[test]
fn an_item_behind_one_whose_time_was_up_has_a_grace_period_of_its_own_when_the_call_is_cancelled() {
    let mut worker = Worker::with(&[Some(LIMIT)]);
    assert_eq!(worker.pass(LIMIT + CANCEL / 2), [ItemAction::Expire]);
    // The first ended in time, and the second had begun before it was told.
    worker.begins(1, 1);
    worker.is_cancelled(1);
    assert_eq!(worker.pass(just_before(CANCEL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Terminate(StopReason::Cancelled)]);
}

#[test]
fn what_cannot_be_told_now_is_told_later() {
    let mut worker = Worker::with(&[Some(LIMIT)]);
    worker.now = worker.now.after(LIMIT);
    let running = RunningItem { chunk: ChunkId(1), offset: 0, running_for: LIMIT };
    let action = worker.watch.look(worker.now, worker.chunks.iter().copied(), Some(running));
    assert_eq!(action, Some(ItemAction::Expire));
    worker.watch.look_later(worker.now);
    assert_eq!(worker.pass(just_before(LOOK_INTERVAL)), []);
    assert_eq!(worker.pass(ONE_NANOSECOND), [ItemAction::Expire]);
}
