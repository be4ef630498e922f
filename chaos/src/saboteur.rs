//! The saboteur: kills and stops workers, has them restarted, and takes slots away, in step with the items.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use procpool_client::Client;
use procpool_client::admin::{Worker, WorkerState};
use rustix::process::{PidfdFlags, Signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::history::count_vices;
use crate::plan::{Language, Plan};
use crate::server::{PATIENCE, pid, slots, state_and_parent};

/// The last items run without kills, so that stopped workers are found and killed while there is still work.
const SHARE_WITH_KILLS: f64 = 0.93;
/// How far the items may be ahead of the kills.
const SLACK: f64 = 0.04;
/// The longest pause between two polls.
const LONGEST_PAUSE: Duration = Duration::from_millis(8);
/// How often the workers of a pool are restarted, or a slot is taken and given back, in kills.
const KILLS_PER_ORDER: u64 = 20;

/// A signal that was sent to a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Strike {
    pub(crate) pid: u32,
    pub(crate) slot: u32,
    pub(crate) language: Language,
    pub(crate) signal: Signal,
    /// The worker was ready: its start was reported, and it is not about to exit anyway.
    pub(crate) was_ready: bool,
    pub(crate) at: Instant,
}

/// The saboteur's actions.
#[derive(Debug, Default)]
pub(crate) struct Sabotage {
    pub(crate) strikes: Vec<Strike>,
    pub(crate) num_restarts: u64,
    pub(crate) num_resizes: u64,
}

impl Sabotage {
    pub(crate) fn count_by_signal(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let mut counts = BTreeMap::new();
        for strike in &self.strikes {
            *counts.entry((name(strike.signal), strike.language.name())).or_default() += 1;
        }
        counts
    }
}

pub(crate) fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::KILL => "SIGKILL",
        Signal::SEGV => "SIGSEGV",
        Signal::STOP => "SIGSTOP",
        _ => "another signal",
    }
}

/// The saboteur.
#[derive(Debug)]
pub(crate) struct Saboteur {
    pub(crate) plan: Plan,
    pub(crate) server_pid: u32,
    pub(crate) directory: PathBuf,
    pub(crate) client: Client,
    pub(crate) done: Arc<AtomicU64>,
    /// How many items may begin so far.
    pub(crate) allowed: watch::Sender<u64>,
}

impl Saboteur {
    /// Kills workers until there were as many kills as the plan has, including those by items.
    ///
    /// # Errors
    ///
    /// If the server does not answer, or a restart of the workers fails.
    pub(crate) async fn run(self) -> Result<Sabotage> {
        let mut rng = Rng::with_seed(self.plan.seed ^ 0x5ab0_7e0c);
        let mut sabotage = Sabotage::default();
        let mut orders = JoinSet::new();
        loop {
            let kills = sabotage.strikes.len() as u64 + count_vices(&self.directory);
            self.allowed.send_replace(self.allowed_items(kills));
            if kills >= self.plan.kills {
                break;
            }
            if self.done.load(Ordering::Relaxed) >= self.due_items(kills) {
                if let Some(strike) = self.strike(&mut rng, kills, &sabotage).await? {
                    sabotage.strikes.push(strike);
                }
                if kills / KILLS_PER_ORDER > sabotage.num_restarts + sabotage.num_resizes && orders.is_empty() {
                    let is_resize = rng.bool();
                    *(if is_resize { &mut sabotage.num_resizes } else { &mut sabotage.num_restarts }) += 1;
                    orders.spawn(order(self.client.clone(), Language::ALL[rng.usize(..2)], is_resize));
                }
                while let Some(obeyed) = orders.try_join_next() {
                    obeyed??;
                }
            }
            tokio::time::sleep(LONGEST_PAUSE.mul_f64(rng.f64())).await;
        }
        while let Some(obeyed) = orders.join_next().await {
            obeyed??;
        }
        Ok(sabotage)
    }

    #[expect(clippy::cast_precision_loss, reason = "an item more or less does not matter")]
    fn items_per_kill(&self) -> f64 {
        self.plan.items as f64 * SHARE_WITH_KILLS / self.plan.kills as f64
    }

    /// Returns after how many items the next kill is due.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as above"
    )]
    fn due_items(&self, kills: u64) -> u64 {
        (kills as f64 * self.items_per_kill()) as u64
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "as above"
    )]
    fn allowed_items(&self, kills: u64) -> u64 {
        if kills >= self.plan.kills {
            return u64::MAX;
        }
        let slack = (self.plan.kills as f64 * SLACK).max(2.0);
        ((kills as f64 + slack) * self.items_per_kill()) as u64
    }

    async fn strike(&self, rng: &mut Rng, kills: u64, sabotage: &Sabotage) -> Result<Option<Strike>> {
        let language = if rng.u8(..7) == 0 { Language::Python } else { Language::Rust };
        let pool = self.client.admin().of_pool(language.name()).pool().await.context("the pool does not tell")?;
        let is_up = |worker: &Worker| matches!(worker.state(), WorkerState::Ready | WorkerState::Busy);
        let num_up = pool.workers.iter().filter(|worker| is_up(worker)).count();
        // As long as others are up, starting and stopping workers are killed, too.
        let targets: Vec<&Worker> =
            pool.workers.iter().filter(|worker| worker.pid != 0 && (num_up > 1 || is_up(worker))).collect();
        if targets.is_empty() {
            return Ok(None);
        }
        let target = targets[rng.usize(..targets.len())];
        let signal = match rng.u8(..20) {
            0..=3 => Signal::SEGV,
            4 | 5 if self.may_stop(kills, sabotage) && is_up(target) => Signal::STOP,
            _ => Signal::KILL,
        };
        // The pid of an exited worker may have been reused; a pidfd still names the same process.
        let Ok(process) = rustix::process::pidfd_open(pid(target.pid)?, PidfdFlags::empty()) else { return Ok(None) };
        let is_ours = state_and_parent(target.pid)
            .is_some_and(|(state, parent)| parent == self.server_pid && !matches!(state, 'Z' | 'X' | 'T'));
        if !is_ours || rustix::process::pidfd_send_signal(&process, signal).is_err() {
            return Ok(None);
        }
        let (pid, slot, was_ready) = (target.pid, target.slot, is_up(target));
        let mut at = Instant::now();
        // The first SIGSEGV goes to a handler of Rust's that looks for a stack overflow and lets the next one kill.
        while signal == Signal::SEGV && state_and_parent(pid).is_some_and(|(state, _)| !matches!(state, 'Z' | 'X')) {
            tokio::time::sleep(LONGEST_PAUSE / 8).await;
            if rustix::process::pidfd_send_signal(&process, signal).is_err() {
                break;
            }
            at = Instant::now();
        }
        Ok(Some(Strike { pid, slot, language, signal, was_ready, at }))
    }

    /// At most two hang at a time, and none when there will be no more work to find it.
    fn may_stop(&self, kills: u64, sabotage: &Sabotage) -> bool {
        let hanging = sabotage.strikes.iter().rev().take(64).filter(|strike| {
            strike.signal == Signal::STOP && state_and_parent(strike.pid).is_some_and(|(state, _)| state == 'T')
        });
        hanging.count() < 2 && kills < self.plan.kills * 9 / 10
    }
}

/// Restarts the workers of a pool, or removes a slot and adds it again.
async fn order(client: Client, language: Language, is_resize: bool) -> Result<()> {
    let admin = client.admin().of_pool(language.name());
    if is_resize {
        let all = NonZeroU32::new(slots(language)).context("a pool has slots")?;
        let fewer = NonZeroU32::new(all.get() - 1).context("each pool has several")?;
        for size in [fewer, all] {
            admin.resize(size).await.context("the pool was not resized")?;
        }
    } else {
        admin.restart_workers(Some(PATIENCE)).await.context("the workers were not restarted")?;
    }
    Ok(())
}

/// Waits until every killed worker is gone.
pub(crate) async fn wait_until_gone(server_pid: u32, strikes: &[Strike]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    for strike in strikes {
        while state_and_parent(strike.pid).is_some_and(|(state, parent)| state == 'T' && parent == server_pid) {
            ensure!(Instant::now() < deadline, "worker {} was stopped and is still there", strike.pid);
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
    }
    Ok(())
}
