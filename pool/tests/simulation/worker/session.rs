//! The part of a simulated worker that is the server's: its session, which panics, is stuck, looks whether the process
//! stands still, and tells what a dead worker leaves.

use std::time::Duration;

use procpool_items::SlabBuilder;
use procpool_pool::supervisor::{ChunkResults, ChunkRun, WorkerCommand, WorkerEventKind};
use procpool_pool::{ItemFailure, WorkerExit};
use procpool_scheduler::{ChunkId, ItemAction, RunningItem, Time, WatchedChunk};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::{Instant, sleep, sleep_until};

use super::chunks::{SimChunk, items_of, key_in};
use super::{FOR_EVER, Frame, SimWorker};
use crate::ledger::ItemKey;
use crate::random::Random;
use crate::upset::{Moment, Upset};

/// From one look at whether a worker stands still to the next.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a worker may be silent that has something to begin, and how long it may take to answer then.
const MAX_SILENCE: Duration = Duration::from_secs(1);
const MIN_SILENCE: Duration = Duration::from_millis(100);
const PONG_TIMEOUT: Duration = Duration::from_millis(1800);

/// What may befall the session or the process of a worker. It has a source of luck of its own, so that runs without any of
/// this are what they were before there was any.
pub(super) struct Luck {
    random: Random,
    panics: bool,
    gets_stuck: bool,
    stands_still: bool,
}

impl Luck {
    /// Returns that of a worker in a run. Each run has some kinds of bad luck, and not the others.
    pub(super) fn new(seed: u64, generation: u64, has_upsets: bool) -> Self {
        let mut of_run = Random::new(seed.wrapping_mul(9_176_741));
        let mut has = || has_upsets && of_run.below(2) == 0;
        let (panics, gets_stuck, stands_still) = (has(), has(), has());
        let random = Random::new(seed.wrapping_mul(7_919_993).wrapping_add(generation));
        Self { random, panics, gets_stuck, stands_still }
    }
}

/// How a process stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Still {
    /// By SIGSTOP.
    Stopped,
    /// It is deadlocked between two items.
    Deadlocked,
}

impl SimWorker {
    fn has_bad_luck(&mut self, per_mille: u64) -> bool {
        self.luck.random.below(1000) < per_mille && !self.ledger.is_calm()
    }

    /// Tells where the worker stands, as its session sees it.
    pub(super) fn moment(&self) -> Moment {
        match () {
            () if self.is_being_killed => Moment::BeingKilled,
            () if !self.is_ready => Moment::Starting,
            () if self.is_ending => Moment::Stopping,
            () if self.is_running() => Moment::Running,
            () if self.has_something_to_run() => Moment::Given,
            () => Moment::Idle,
        }
    }

    fn is_running(&self) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.running.is_some())
    }

    fn has_something_to_run(&self) -> bool {
        !self.chunks.is_empty() || self.inbox.iter().any(|frame| matches!(frame, Frame::Command(WorkerCommand::Run(_))))
    }

    /// The session may panic here. Then its worker is killed, unless it is being killed already.
    pub(super) fn may_panic(&mut self) -> Option<WorkerExit> {
        if !self.luck.panics || !self.has_bad_luck(if self.is_ending { 40 } else { 4 }) {
            return None;
        }
        self.ledger.note(Upset::SessionPanics(self.moment()));
        self.has_panicked = true;
        Some(match self.moment() {
            Moment::BeingKilled => WorkerExit::Signal(9),
            _ => WorkerExit::GivenUp { reason: "its supervision panicked" },
        })
    }

    /// The session may be stuck for a while, with a channel that is full, or nearly so. Nothing happens meanwhile.
    pub(super) async fn may_get_stuck(&mut self) -> Option<WorkerExit> {
        if !self.luck.gets_stuck || !self.has_bad_luck(if self.is_ending { 60 } else { 3 }) {
            return None;
        }
        let room = self.luck.random.pick(&[0, 0, 1, 2, 3])?;
        if let Some(driver) = self.driver.upgrade() {
            while driver.capacity() > room {
                driver.try_send(WorkerCommand::DropCommons(Vec::new())).expect("there is room");
            }
        }
        let time = Duration::from_micros(self.luck.random.below(100_000));
        sleep(time).await;
        loop {
            match self.commands.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => return self.hear(None).await,
                Ok(command) => {
                    let exit = self.hear(Some(command)).await;
                    if exit.is_some() {
                        return exit;
                    }
                }
            }
        }
    }

    /// The process may stand still from here on, for a while or for good.
    pub(super) async fn may_stand_still(&mut self) -> Option<WorkerExit> {
        if !self.luck.stands_still || !self.has_bad_luck(4) {
            return None;
        }
        // Not within an item, also of one that has survived SIGTERM: that may take for ever, if it has no time limit.
        let is_silent = !self.is_running() && self.luck.random.below(4) == 0;
        if is_silent {
            return self.stand_still(Still::Deadlocked).await;
        }
        self.ledger.note(Upset::Stopped(self.moment()));
        self.stand_still(Still::Stopped).await
    }

    /// The process does nothing. Its session goes on, and looks.
    async fn stand_still(&mut self, still: Still) -> Option<WorkerExit> {
        self.ledger.trace(|| format!("{} stands still: {still:?}", self.id.generation));
        self.still = Some(still);
        let mut look_at = None;
        while self.still.is_some() {
            if let Some(exit) = self.may_panic() {
                return Some(exit);
            }
            if !self.is_looked_at(still) {
                look_at = None;
            } else if look_at.is_none() {
                look_at = Some(Instant::now() + self.time_to_look(still));
            }
            let item_look_at = self.next_look();
            let until = |at: Option<Instant>| sleep_until(at.unwrap_or_else(|| Instant::now() + FOR_EVER));
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let exit = self.hear(command).await;
                    if exit.is_some() {
                        return exit;
                    }
                }
                () = until(item_look_at) => {
                    let exit = self.look_at_items().await;
                    if exit.is_some() {
                        return exit;
                    }
                }
                () = until(look_at) => {
                    look_at = None;
                    let exit = self.look(still);
                    if exit.is_some() {
                        return exit;
                    }
                }
            }
        }
        None
    }

    /// Tells whether the session looks for what keeps the worker from going on.
    fn is_looked_at(&self, still: Still) -> bool {
        match still {
            Still::Stopped => !self.is_ready || self.has_something_to_run(),
            Still::Deadlocked => self.has_something_to_run() && !self.is_ending,
        }
    }

    fn time_to_look(&mut self, still: Still) -> Duration {
        match still {
            // One looks for all workers, at any time.
            Still::Stopped => Duration::from_micros(self.luck.random.below(STATE_INTERVAL.as_micros() as u64)),
            Still::Deadlocked => {
                let limit = self.chunks.front().and_then(|chunk| chunk.run().time_limit);
                limit.map_or(MAX_SILENCE, |limit| (limit / 2).clamp(MIN_SILENCE, MAX_SILENCE)) + PONG_TIMEOUT
            }
        }
    }

    /// The session sees a worker that stands still and has something to run.
    fn look(&mut self, still: Still) -> Option<WorkerExit> {
        if still == Still::Deadlocked {
            self.ledger.note(Upset::Silent);
            return Some(WorkerExit::GivenUp { reason: "it neither began its items nor answered" });
        }
        if self.resumed_at.replace(self.num_begun) == Some(self.num_begun) {
            self.ledger.note(Upset::StoppedAgain(self.moment()));
            return Some(WorkerExit::GivenUp { reason: "it was stopped again" });
        }
        // Whoever has stopped it may do so again at once.
        if !self.has_bad_luck(300) {
            self.ledger.note(Upset::MadeToGoOn(self.moment()));
            self.still = None;
        }
        None
    }

    fn now(&self) -> Time {
        Time::from_start(self.epoch.elapsed())
    }

    pub(super) fn note_given(&mut self, run: &ChunkRun) {
        self.watch.chunk_given(self.now(), run.time_limit);
    }

    /// Returns whether the end of its items is the session's business, and not the driver's.
    fn ends_items(&self) -> bool {
        !self.is_ending || self.watch.has_terminated()
    }

    /// Returns when the session looks at what runs.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.watch.next_look().filter(|_| self.ends_items()).map(|at| self.epoch + at.elapsed())
    }

    /// The session looks at what runs, and does what is due; returns how the worker ended if that has ended it.
    pub(super) async fn look_at_items(&mut self) -> Option<WorkerExit> {
        if !self.ends_items() {
            return None;
        }
        let unread = self.inbox.iter().filter_map(|frame| match frame {
            Frame::Command(WorkerCommand::Run(run)) => Some(run),
            _ => None,
        });
        let watched: Vec<WatchedChunk> = self
            .chunks
            .iter()
            .map(SimChunk::run)
            .chain(unread)
            .map(|run| WatchedChunk {
                chunk: run.chunk,
                time_limit: run.time_limit,
                is_cancelled: self.cancelled.contains(&run.chunk),
            })
            .collect();
        let (now, running, moment) = (self.now(), self.running(), self.moment());
        match self.watch.look(now, watched.into_iter(), running)? {
            ItemAction::Expire => {
                self.ledger.note(Upset::ItemExpired(moment));
                let item = running.expect("it runs");
                let RunningItem { chunk, offset, .. } = item;
                self.watch.expire(now, item);
                self.send(Frame::Expired { chunk, offset });
                self.say(WorkerEventKind::ItemExpired { chunk, offset, stack: String::new() }).await;
                None
            }
            ItemAction::Terminate(reason) => {
                self.ledger.note(Upset::TerminatedForItem(moment));
                self.say(WorkerEventKind::Stopping { reason }).await;
                self.get_sigterm()
            }
            ItemAction::Kill => {
                self.ledger.note(Upset::KilledForItem);
                Some(self.get_sigkill())
            }
        }
    }

    /// SIGTERM has come, and SIGCONT with it.
    pub(super) fn go_on(&mut self) {
        if self.still == Some(Still::Stopped) {
            self.ledger.note(Upset::StoppedAndTerminated);
            self.still = None;
        }
    }

    /// The worker is dead. Tells the driver what it leaves, and returns how it ended and what ran.
    pub(super) async fn report_exit(&mut self, exit: WorkerExit) -> (WorkerExit, Option<(ChunkId, u32)>) {
        if self.has_panicked {
            // Nobody reads what the driver says meanwhile.
            let time = Duration::from_micros(self.luck.random.below(50_000));
            sleep(time).await;
        }
        let per_mille = if self.has_panicked { 400 } else { 20 };
        if self.luck.panics && self.has_bad_luck(per_mille) {
            self.fail_all().await;
            return (WorkerExit::GivenUp { reason: "its supervision panicked" }, None);
        }
        // What has finished is known, even if the process is not there any more to say so.
        if let Some(chunk) = self.chunks.front_mut()
            && chunk.has_pending()
        {
            self.flush().await;
        }
        let running = self.chunks.front().and_then(SimChunk::running_item);
        if let Some((_, _, key)) = running {
            self.ledger.abort(key);
        }
        (exit, running.map(|(chunk, offset, _)| (chunk, offset)))
    }

    /// Nobody knows what of all that the worker had was begun: it fails.
    async fn fail_all(&mut self) {
        self.ledger.note(Upset::ExitReportPanics(self.moment()));
        let is_asked = self.inbox.iter().any(|frame| matches!(frame, Frame::Command(WorkerCommand::Recall { .. })));
        if is_asked && self.has_something_to_run() {
            self.ledger.note(Upset::ExitReportPanicsWhileAsked);
        }
        let known = std::mem::take(&mut self.chunks).into_iter().map(SimChunk::without_results);
        let unread = std::mem::take(&mut self.inbox).into_iter().filter_map(|frame| match frame {
            Frame::Command(WorkerCommand::Run(run)) => Some((run.chunk, 0, keys_of(&run))),
            _ => None,
        });
        for (chunk, first, keys) in known.chain(unread).collect::<Vec<_>>() {
            let mut items = SlabBuilder::new();
            for &key in &keys {
                items.push(b"");
                self.ledger.lose(key);
            }
            let failure = ItemFailure::WorkerProtocol { detail: "nobody knows".to_owned() };
            let count = keys.len() as u32;
            let failures = (first..first + count).map(|offset| (offset, failure.clone())).collect();
            let (busy, items) = (Duration::ZERO, items.take());
            self.say(WorkerEventKind::Results(ChunkResults { chunk, first, count, failures, busy, items })).await;
        }
    }

    /// Notes what the driver will find that the worker had at hand when it ended.
    pub(super) fn lose_what_is_at_hand(&mut self) {
        if let Some(first) = self.chunks.front() {
            let (key, has_begun) = first.at_hand();
            self.lose(key, has_begun);
        }
        for frame in std::mem::take(&mut self.inbox) {
            if let Frame::Command(command) = frame {
                self.lose_command(&command);
            }
        }
        if let Some(command) = self.dropped.take() {
            self.lose_command(&command);
        }
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.lose_command(&command),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    if self.has_panicked {
                        self.ledger.note(Upset::ChannelFullAfterPanic);
                    }
                    self.ledger.goes_deaf();
                    break;
                }
            }
        }
    }

    fn lose_command(&mut self, command: &WorkerCommand) {
        self.ledger.trace(|| format!("{} never does {command:?}", self.id.generation));
        if let WorkerCommand::Run(run) = command {
            self.lose(keys_of(run)[0], false);
        }
    }

    /// Only the first counts.
    fn lose(&mut self, key: ItemKey, has_begun: bool) {
        if std::mem::replace(&mut self.has_lost_item, true) {
            return;
        }
        self.ledger.lose_with(key);
        if !has_begun {
            self.ledger.lose_before(key, self.id.slot.0);
        }
    }

    /// The driver goes on to say things until it has heard of the end.
    pub(super) async fn hear_the_rest(&mut self) {
        while let Some(command) = self.commands.recv().await {
            self.lose_command(&command);
        }
        self.ledger.end_is_heard();
    }
}

/// Returns the items of a chunk.
fn keys_of(run: &ChunkRun) -> Vec<ItemKey> {
    let items = items_of(run);
    (0..items.len()).map(|offset| key_in(&items, offset)).collect()
}
