//! What really happened: written by workers, read by callers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use procpool_pool::{JobNumber, Readiness};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::upset::{Upset, Upsets};

/// An item: the caller's number for the job, and the index of the item.
pub(crate) type ItemKey = (u64, u64);

/// Returns what the function returns for an item. Some jobs have large results.
pub(crate) fn result_of(job: u64, index: u64) -> String {
    let padding = if job % 3 == 1 { usize::try_from(index % 5).unwrap() * 100 } else { 0 };
    format!("{job}:{index}!{}", "x".repeat(padding))
}

/// What happened to an item.
#[derive(Debug, Default, Clone)]
pub(crate) struct ItemHistory {
    /// How often it began.
    pub(crate) executions: u32,
    pub(crate) is_running: bool,
    /// A worker has finished it, well or not, and has said so or will before it is gone.
    pub(crate) finished: Option<Finish>,
    /// The worker where it began last.
    last_worker: u64,
    /// The workers that died with it at hand since then, before they had begun it.
    pub(crate) deaths_before: Vec<DeathBefore>,
    /// How often it was at the head of a chunk that was given back since then, before any of it had begun.
    returns: u32,
    /// Nobody knew whether it had begun, and it was said to have failed.
    pub(crate) is_lost: bool,
}

/// A worker that died with an item at hand, which it had not begun.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeathBefore {
    slot: u32,
    /// How many items the slot had finished by then.
    finished_there: u64,
    /// Another slot had a worker that could have shown whose fault it is.
    has_other: bool,
}

/// When a job kills workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kills {
    /// Before they begin an item of it.
    Before,
    /// When they have begun one.
    After,
}

/// How the function ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    Returned,
    Raised,
    /// Since it was told to end.
    RaisedCancelled,
}

/// What a job may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct JobRules {
    pub(crate) function: &'static str,
    pub(crate) max_attempts: u32,
    /// It ends by itself when an item does not: it has a limit of time.
    pub(crate) may_hang: bool,
    pub(crate) has_common: bool,
    /// Its common argument kills.
    pub(crate) kills: Option<Kills>,
    /// Of each item.
    pub(crate) has_time_limit: bool,
    /// When nobody waits for it any more, if that is known before: the caller gives up, or its deadline passes.
    pub(crate) ends_at: Option<Instant>,
}

/// The functions of each version of the code.
const CODE: [&[&str]; 2] = [&["f", "again", "sometimes"], &["f", "again"]];

#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they have nothing to do with each other")]
struct State {
    jobs: BTreeMap<u64, JobRules>,
    items: BTreeMap<ItemKey, ItemHistory>,
    /// The workers that died with items of a job at hand: which item it was, and when.
    deaths: BTreeMap<u64, Vec<(u64, Instant)>>,
    /// How many items each slot has finished.
    finished_in: BTreeMap<u32, u64>,
    /// Callers have had the last word on these.
    ended: BTreeMap<u64, bool>,
    /// Callers were told that nothing of these has started, and so may send them again.
    refused: BTreeSet<u64>,
    /// The pool's own number of each job.
    numbers: BTreeMap<u64, JobNumber>,
    /// What an operator cancelled first when, by the pool's own numbers.
    cancelled: BTreeMap<u64, Instant>,
    readiness: Option<watch::Receiver<Readiness>>,
    /// When no worker could be started, so that every call failed.
    degraded: Vec<Instant>,
    live_workers: u32,
    most_workers: u32,
    num_slots: u32,
    fewest_slots: u32,
    /// The slots with a worker that takes items, and its functions.
    able: BTreeMap<u32, &'static [&'static str]>,
    has_bad_slot: bool,
    is_calm: bool,
    /// The pool was told to end.
    drains: bool,
    /// How long an item may go on that was told to end.
    cancel_grace_period: Duration,
    is_traced: bool,
    /// How many workers were told what nobody has heard, or may have been.
    num_deaf: usize,
    upsets: Upsets,
    /// What workers run that start from now on: its place in `CODE`.
    code: usize,
}

impl State {
    fn look_at_readiness(&mut self) {
        let Some(readiness) = &mut self.readiness else { return };
        let readiness = readiness.borrow_and_update();
        if readiness.has_changed() && *readiness == Readiness::Degraded {
            self.degraded.push(Instant::now());
        }
    }

    /// Returns since when nobody has waited for an item that began then, if that may be so, or from when on nobody will:
    /// every reason is here for which a call ends before its items.
    fn nobody_waits_since(&self, job: u64, began: Instant) -> Option<Instant> {
        // Its items have killed three workers. The caller learns of it when it likes.
        let deaths = self.deaths.get(&job).map_or(&[][..], Vec::as_slice);
        let has_killed_at = deaths.get(2_usize.saturating_sub(self.num_deaf)).map(|&(_, at)| at);
        let number = self.numbers.get(&job).and_then(JobNumber::get);
        let cancelled_at = number.and_then(|number| self.cancelled.get(&number).copied());
        let degraded_at = self.degraded.iter().copied().find(|&at| at >= began);
        [self.jobs[&job].ends_at, has_killed_at, cancelled_at, degraded_at].into_iter().flatten().min()
    }
}

/// The record of one run. Cheap to clone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Has everything printed from now on.
    pub(crate) fn start_trace(&self) {
        self.state().is_traced = true;
    }

    #[expect(clippy::print_stderr, reason = "for who replays a seed")]
    pub(crate) fn trace(&self, what: impl FnOnce() -> String) {
        if self.state().is_traced {
            eprintln!("{:?} {}", tokio::time::Instant::now(), what());
        }
    }

    pub(crate) fn job_begins(&self, job: u64, rules: JobRules, number: JobNumber) {
        let mut state = self.state();
        state.jobs.insert(job, rules);
        state.numbers.insert(job, number);
    }

    /// The caller has its answer. `is_complete`: with an outcome for every item.
    pub(crate) fn job_ended(&self, job: u64, is_complete: bool) {
        self.state().ended.insert(job, is_complete);
    }

    /// The caller was told that nothing has started.
    pub(crate) fn job_refused(&self, job: u64) {
        let mut state = self.state();
        let has_begun = state.items.range((job, 0)..=(job, u64::MAX)).next().is_some();
        assert!(!has_begun, "call {job} was refused, and has begun");
        state.refused.insert(job);
    }

    /// An operator is about to cancel a job, by the pool's own number.
    pub(crate) fn operator_cancels(&self, job: u64) {
        self.state().cancelled.entry(job).or_insert_with(Instant::now);
    }

    pub(crate) fn has_operator_cancelled(&self, job: u64) -> bool {
        self.state().cancelled.contains_key(&job)
    }

    pub(crate) fn rules(&self, job: u64) -> JobRules {
        self.state().jobs[&job]
    }

    pub(crate) fn begin(&self, key: ItemKey, attempt: u32, worker: u64) {
        let mut state = self.state();
        let rules = state.jobs[&key.0];
        let is_complete = state.ended.get(&key.0).copied();
        assert_ne!(is_complete, Some(true), "item {key:?} runs after its call was answered whole");
        assert!(!state.refused.contains(&key.0), "item {key:?} runs after its call was refused");
        let item = state.items.entry(key).or_default();
        assert!(!item.is_running, "item {key:?} runs twice at a time");
        // Who finishes after its time is up may be tried again.
        let finished = item.finished.take();
        assert!(finished.is_none() || rules.has_time_limit, "item {key:?} runs again after it has finished");
        assert!(!item.is_lost || rules.has_time_limit, "item {key:?} runs again after it has failed for good");
        item.executions += 1;
        assert!(item.executions <= rules.max_attempts, "item {key:?} runs more than {} times", rules.max_attempts);
        assert_eq!(item.executions, attempt, "item {key:?}: the attempt is what it is told");
        assert_ne!(item.last_worker, worker, "item {key:?} is tried again in the process where it failed");
        item.last_worker = worker;
        item.deaths_before.clear();
        item.returns = 0;
        item.is_running = true;
    }

    pub(crate) fn finish(&self, key: ItemKey, slot: u32, finish: Finish) {
        let mut state = self.state();
        *state.finished_in.entry(slot).or_default() += 1;
        let item = state.items.get_mut(&key).unwrap();
        assert!(std::mem::take(&mut item.is_running), "item {key:?} was running");
        item.finished = Some(finish);
    }

    /// The item ended with its worker.
    pub(crate) fn abort(&self, key: ItemKey) {
        self.state().items.get_mut(&key).unwrap().is_running = false;
    }

    /// Nobody knows whether a dead worker had begun the item, and so it has failed.
    pub(crate) fn lose(&self, key: ItemKey) {
        let mut state = self.state();
        let item = state.items.entry(key).or_default();
        (item.is_running, item.is_lost) = (false, true);
    }

    /// A worker hears nothing any more. There may be a chunk among what it is told.
    pub(crate) fn goes_deaf(&self) {
        self.state().num_deaf += 1;
    }

    /// It is known what a worker was told after its end.
    pub(crate) fn end_is_heard(&self) {
        self.state().num_deaf -= 1;
    }

    pub(crate) fn note(&self, upset: Upset) {
        self.trace(|| format!("{upset:?}"));
        self.state().upsets.note(upset);
    }

    pub(crate) fn upsets(&self) -> Upsets {
        self.state().upsets.clone()
    }

    /// A worker died with this item at hand, which it had not begun.
    pub(crate) fn lose_before(&self, key: ItemKey, slot: u32) {
        let mut state = self.state();
        let finished_there = state.finished_in.get(&slot).copied().unwrap_or(0);
        let function = state.jobs[&key.0].function;
        let mut others = state.able.range(..state.num_slots).filter(|(other, _)| **other != slot);
        let has_other = others.any(|(_, functions)| functions.contains(&function));
        let deaths = &mut state.items.entry(key).or_default().deaths_before;
        deaths.push(DeathBefore { slot, finished_there, has_other });
        assert!(deaths.len() <= 9, "item {key:?} kills for ever: {deaths:?}");
    }

    /// A worker died with this item at hand, begun or not.
    pub(crate) fn lose_with(&self, key: ItemKey) {
        let mut state = self.state();
        let is_killer = state.jobs[&key.0].kills.is_some();
        let deaths = state.deaths.entry(key.0).or_default();
        deaths.push((key.1, Instant::now()));
        assert!(!is_killer || deaths.len() < 60, "call {} kills for ever", key.0);
    }

    /// A chunk with this item at its head was given back before any of it had begun.
    pub(crate) fn give_back(&self, key: ItemKey) {
        self.state().items.entry(key).or_default().returns += 1;
    }

    /// A worker is given this item.
    pub(crate) fn hand_out(&self, key: ItemKey) {
        let returns = self.state().items.get(&key).map_or(0, |item| item.returns);
        assert!(returns <= 3, "item {key:?} was given back {returns} times before it began");
    }

    /// The caller was told that so many workers died with items of its call at hand.
    pub(crate) fn check_blame_of_job(&self, job: u64, crashes: u32) {
        let state = self.state();
        let deaths = state.deaths.get(&job).map_or(&[][..], Vec::as_slice);
        let is_one_item = state.num_deaf == 0 && deaths.iter().all(|(item, _)| *item == deaths[0].0);
        let most = deaths.len() + state.num_deaf;
        assert!(most >= crashes as usize && !is_one_item, "call {job} has not killed {crashes}: {deaths:?}");
    }

    /// The caller was told that an item has killed too many workers, none of which had begun it.
    pub(crate) fn check_blame(&self, key: ItemKey) {
        let state = self.state();
        let deaths = &state.items[&key].deaths_before;
        assert!(deaths.len() + state.num_deaf >= 3, "item {key:?} has killed nobody: {deaths:?}");
        // Where no other slot works, one is enough. And a worker in another one may have had it when it became deaf.
        let num_bad = u32::from(state.has_bad_slot);
        let has_others = state.num_deaf == 0
            && state.fewest_slots > 1 + num_bad
            && deaths.iter().skip(1).all(|death| death.has_other);
        let place = |death: &DeathBefore| (death.slot, death.finished_there);
        let is_one_slot = deaths.iter().all(|death| place(death) == place(&deaths[0]));
        assert!(
            !has_others || !is_one_slot || deaths.len() >= 9,
            "item {key:?} is blamed for what happened in one slot: {deaths:?}"
        );
    }

    /// Every worker of some slot dies, so that it may be held back.
    pub(crate) fn slot_is_bad(&self) {
        self.state().has_bad_slot = true;
    }

    /// The worker of a slot takes items of these functions.
    pub(crate) fn slot_is_able(&self, slot: u32, functions: &'static [&'static str]) {
        self.state().able.insert(slot, functions);
    }

    /// The worker of a slot takes nothing any more, or is gone.
    pub(crate) fn slot_is_unable(&self, slot: u32) {
        self.state().able.remove(&slot);
    }

    pub(crate) fn history(&self, key: ItemKey) -> ItemHistory {
        self.state().items.get(&key).cloned().unwrap_or_default()
    }

    pub(crate) fn worker_starts(&self) {
        let mut state = self.state();
        state.live_workers += 1;
        assert!(state.live_workers <= state.most_workers, "more workers than slots");
    }

    pub(crate) fn worker_is_gone(&self) {
        self.state().live_workers -= 1;
    }

    pub(crate) fn live_workers(&self) -> u32 {
        self.state().live_workers
    }

    /// From now on there may be as many workers. (Those of slots that are given up take a while to go.)
    pub(crate) fn allow_workers(&self, slots: u32) {
        let mut state = self.state();
        state.fewest_slots = if state.most_workers == 0 { slots } else { state.fewest_slots.min(slots) };
        state.most_workers = state.most_workers.max(slots);
        state.num_slots = slots;
    }

    /// Workers that start from now on run other code.
    pub(crate) fn change_code(&self) {
        let mut state = self.state();
        state.code = (state.code + 1) % CODE.len();
    }

    /// Returns the functions of the present code.
    pub(crate) fn functions(&self) -> &'static [&'static str] {
        CODE[self.state().code]
    }

    pub(crate) fn set_cancel_grace_period(&self, period: Duration) {
        self.state().cancel_grace_period = period;
    }

    /// The pool is told to end.
    pub(crate) fn drain(&self) {
        self.state().drains = true;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state().drains
    }

    pub(crate) fn set_readiness(&self, readiness: watch::Receiver<Readiness>) {
        self.state().readiness = Some(readiness);
    }

    /// The readiness may have changed.
    pub(crate) fn look_at_readiness(&self) {
        self.state().look_at_readiness();
    }

    /// A worker is made to end while it runs this item: nobody waits for it, or it has had its time; and then its grace.
    pub(crate) fn check_end(&self, key: ItemKey, began: Instant, time_limit: Option<Duration>) {
        let mut state = self.state();
        // It may have changed just now, and nobody has looked yet.
        state.look_at_readiness();
        let is_late_at = time_limit.map(|limit| began + limit);
        let may_end_at = [state.nobody_waits_since(key.0, began), is_late_at].into_iter().flatten().min();
        let had_its_grace = may_end_at.is_some_and(|at| at + state.cancel_grace_period <= Instant::now());
        assert!(had_its_grace || state.drains, "item {key:?} is ended, and it should not be");
    }

    pub(crate) fn calm_down(&self) {
        self.state().is_calm = true;
    }

    /// Tells whether the faults are over.
    pub(crate) fn is_calm(&self) -> bool {
        self.state().is_calm
    }
}
