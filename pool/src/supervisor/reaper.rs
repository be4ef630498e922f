//! The end of what dead workers leave behind: daemons that left the process group, and zombies.
//!
//! A child subreaper becomes the parent of the orphans among its descendants. Those of a worker that is gone are killed
//! here, again and again until none is left, since each may have children of its own; and the dead among our children
//! are reaped, unless they are workers, which the runtime reaps. Whose an orphan is says its environment. Nothing here
//! ever waits for "any child".

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::spawn::SpawnThread;

/// The variable that names the worker, by a number that is unique in the life of its pool.
pub(super) const WORKER_ID_VARIABLE: &str = "PROCPOOL_WORKER_ID";
/// The variable that names the server and the pool in it, so that one server never touches another's workers.
pub(super) const SERVER_ID_VARIABLE: &str = "PROCPOOL_SERVER_ID";

/// How often one sweep starts over because it has killed something.
const MAX_PASSES: usize = 8;
/// How long the last sweeps go on after the last worker has gone.
const LAST_SWEEPS_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between those.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// A worker among those of all pools: the name of its pool and server, and its number.
pub(super) type WorkerKey = (Arc<str>, u64);

/// The workers that are being started or are not reaped yet, with their process ids once known.
#[derive(Debug, Clone, Default)]
pub(super) struct LiveWorkers {
    pids: Arc<Mutex<HashMap<WorkerKey, Option<u32>>>>,
}

impl LiveWorkers {
    /// Adds a worker before it is started; it counts as alive until the guard is dropped.
    pub(super) fn add(&self, worker: WorkerKey) -> LiveWorkerGuard {
        self.lock().insert(worker.clone(), None);
        LiveWorkerGuard { live: self.clone(), worker }
    }

    /// Says which process a worker is. Must be called on the immortal thread, right after the fork.
    pub(super) fn set_pid(&self, worker: WorkerKey, pid: u32) {
        self.lock().insert(worker, Some(pid));
    }

    fn is_worker_process(&self, pid: u32) -> bool {
        self.lock().values().any(|&worker_pid| worker_pid == Some(pid))
    }

    fn is_alive(&self, pool: &str, worker: u64) -> bool {
        self.lock().keys().any(|(live_pool, live_worker)| **live_pool == *pool && *live_worker == worker)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerKey, Option<u32>>> {
        // Every change is a single insertion or removal; a panic leaves nothing half done.
        self.pids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that is alive as long as this lives.
#[derive(Debug)]
pub(super) struct LiveWorkerGuard {
    live: LiveWorkers,
    worker: WorkerKey,
}

impl Drop for LiveWorkerGuard {
    fn drop(&mut self) {
        self.live.lock().remove(&self.worker);
    }
}

/// Sweeps whenever a worker has gone or a child has died.
#[derive(Debug)]
pub(super) struct Reaper {
    pub(super) thread: SpawnThread,
    pub(super) live: LiveWorkers,
    pub(super) server_id: Arc<str>,
    /// Notified when a worker has gone.
    pub(super) worker_gone: Arc<Notify>,
}

impl Reaper {
    /// Makes this process the parent of its descendants' orphans.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(super) fn become_subreaper() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
    }

    /// Works until it is told to stop, when the last worker has gone, and then until nothing is left to do.
    pub(super) async fn run(self, stop: CancellationToken) {
        let mut child_died = match signal(SignalKind::child()) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(%error, "no signal tells of dead orphans; they are reaped when a worker goes");
                None
            }
        };
        let mut is_stopping = false;
        while !is_stopping {
            let next_child_death = async {
                match &mut child_died {
                    Some(stream) => stream.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => is_stopping = true,
                () = self.worker_gone.notified() => {}
                _ = next_child_death => {}
            }
            self.sweep().await;
        }
        let _ = tokio::time::timeout(LAST_SWEEPS_TIMEOUT, async {
            // What was killed takes a moment to die, and then its children are ours.
            while self.sweep().await {
                tokio::time::sleep(SWEEP_INTERVAL).await;
            }
        })
        .await;
    }

    /// Kills and reaps what there is; tells whether there may be more in a moment.
    async fn sweep(&self) -> bool {
        let live = self.live.clone();
        let server_id = self.server_id.clone();
        let swept = self.thread.run(move || sweep(&live, &server_id)).await.unwrap_or_default();
        if swept.killed > 0 {
            tracing::info!(processes = swept.killed, "killed what dead workers left behind");
        }
        swept.killed + swept.reaped + swept.dying > 0
    }
}

/// How many processes a sweep has found.
#[derive(Debug, Default)]
struct Swept {
    killed: usize,
    reaped: usize,
    /// Neither alive nor dead yet.
    dying: usize,
}

/// Whose child of ours a process is that is no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// It descends from a worker of this server that is gone.
    DeadWorker,
    /// It has given back its memory, and with it its environment.
    Dying,
    /// Not for us to say.
    Other,
}

/// Runs on the immortal thread: while it does, no worker is between its fork and its entry among the live ones.
fn sweep(live: &LiveWorkers, server_id: &str) -> Swept {
    let mut swept = Swept::default();
    let mut killed = HashSet::new();
    for _ in 0..MAX_PASSES {
        let mut found_work = false;
        swept.dying = 0;
        for pid in children() {
            if live.is_worker_process(pid.as_raw_nonzero().get().unsigned_abs()) {
                continue;
            }
            // The number is its own all the while: nobody but this thread reaps it.
            if let Ok(Some(_)) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
                swept.reaped += 1;
                // Its own children are ours now.
                found_work = true;
                continue;
            }
            match origin(pid, live, server_id) {
                Origin::DeadWorker if killed.insert(pid) => {
                    swept.killed += 1;
                    found_work |= rustix::process::kill_process(pid, Signal::KILL).is_ok();
                }
                Origin::Dying => swept.dying += 1,
                Origin::DeadWorker | Origin::Other => {}
            }
        }
        if !found_work {
            break;
        }
    }
    swept
}

/// Lists the children of this process. The kernel keeps them by thread.
fn children() -> Vec<Pid> {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    let mut children = Vec::new();
    for thread in threads.flatten() {
        // A thread may end while we look.
        let list = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(list.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

fn origin(pid: Pid, live: &LiveWorkers, server_id: &str) -> Origin {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return Origin::Other };
    if environment.is_empty() {
        return Origin::Dying;
    }
    let pool = variable(&environment, SERVER_ID_VARIABLE).filter(|pool| is_pool_of(pool, server_id));
    let worker = variable(&environment, WORKER_ID_VARIABLE).and_then(|value| value.parse().ok());
    let is_of_dead_worker = pool.zip(worker).is_some_and(|(pool, worker)| !live.is_alive(pool, worker));
    if is_of_dead_worker { Origin::DeadWorker } else { Origin::Other }
}

pub(super) fn variable<'a>(environment: &'a [u8], name: &str) -> Option<&'a str> {
    environment.split(|&byte| byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        std::str::from_utf8(value).ok()
    })
}

/// Returns a name for this server that no other on this machine has, now or later: it holds the time.
pub(super) fn new_server_id() -> Arc<str> {
    let pid = rustix::process::getpid();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Arc::from(format!("{pid}-{}-{}", now.tv_sec, now.tv_nsec))
}

/// Returns a name for one pool of this server.
pub(super) fn pool_id(server_id: &str, pool_number: u32) -> Arc<str> {
    Arc::from(format!("{server_id}/{pool_number}"))
}

pub(super) fn is_pool_of(pool_id: &str, server_id: &str) -> bool {
    pool_id.strip_prefix(server_id).is_some_and(|rest| rest.starts_with('/'))
}

/// Returns the variables by which a worker's descendants are known.
pub(super) fn identity((pool_id, worker): &WorkerKey) -> [(&'static str, OsString); 2] {
    [(SERVER_ID_VARIABLE, (**pool_id).into()), (WORKER_ID_VARIABLE, worker.to_string().into())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_of_two_pools_with_the_same_number_are_not_confused() {
        let live = LiveWorkers::default();
        let (one, other) = (pool_id("7-1-2", 0), pool_id("7-1-2", 1));
        let guard = live.add((one.clone(), 5));
        assert!(live.is_alive(&one, 5));
        assert!(!live.is_alive(&other, 5));
        drop(guard);
        assert!(!live.is_alive(&one, 5));
        assert!(is_pool_of(&other, "7-1-2"));
        assert!(!is_pool_of("7-1-23/0", "7-1-2"), "another server");
        assert!(!is_pool_of("7-1-2", "7-1-2"));
    }
}
