//! Kills and reaps orphans while the server lives: daemons that left a worker's process group, and zombies.
//!
//! A child subreaper becomes the parent of the orphans among its descendants. Those of a worker that is gone are killed
//! here, again and again until none is left, since each may have children of its own; and the dead among our children
//! are reaped, unless they are workers, which their sessions reap. An orphan's tag says whose it is. When there will be no
//! worker any more, all that is left is killed. Nothing here ever waits for "any child".

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::tag::{ServerTag, WorkerTag};
use crate::supervisor::thread::WorkThread;

/// How often one sweep starts over because it has killed something.
const MAX_PASSES: usize = 8;
/// How long the last sweeps go on after the last worker has gone.
const LAST_SWEEPS_TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between those.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// The workers of all pools that are being started or are not reaped yet.
#[derive(Debug, Clone)]
pub(in crate::supervisor) struct LiveWorkers {
    server: ServerTag,
    workers: Arc<Mutex<Workers>>,
    /// Notified when a worker has gone.
    worker_gone: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Workers {
    num_started: u32,
    /// Their process ids, once known.
    pids: HashMap<WorkerTag, Option<Pid>>,
}

impl LiveWorkers {
    pub(in crate::supervisor) fn new(server: ServerTag) -> Self {
        Self { server, workers: Arc::default(), worker_gone: Arc::default() }
    }

    /// Adds a worker before it is started; it counts as alive until the guard is dropped.
    pub(in crate::supervisor) fn add(&self) -> LiveWorker {
        let mut workers = self.lock();
        // Millions of workers later, a number is used again; its last owner is long gone then.
        workers.num_started = workers.num_started.wrapping_add(1);
        let tag = self.server.worker(workers.num_started);
        workers.pids.insert(tag, None);
        LiveWorker { live: self.clone(), tag }
    }

    /// Records which process a worker is. Must be called on the immortal thread, right after the fork.
    pub(in crate::supervisor) fn set_pid(&self, worker: WorkerTag, pid: Pid) {
        self.lock().pids.insert(worker, Some(pid));
    }

    fn pids(&self) -> HashSet<Pid> {
        self.lock().pids.values().copied().flatten().collect()
    }

    /// Returns whether a process descends from a worker that is gone.
    fn is_orphan(&self, pid: Pid) -> bool {
        self.server.ancestor(pid).is_some_and(|worker| !self.lock().pids.contains_key(&worker))
    }

    fn lock(&self) -> MutexGuard<'_, Workers> {
        // Every change is a single insertion or removal; a panic leaves nothing half done.
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker that is alive as long as this lives.
#[derive(Debug)]
pub(in crate::supervisor) struct LiveWorker {
    live: LiveWorkers,
    tag: WorkerTag,
}

impl LiveWorker {
    /// Returns what its process and all that descend from it are to be known by.
    pub(in crate::supervisor) fn tag(&self) -> WorkerTag {
        self.tag
    }
}

impl Drop for LiveWorker {
    fn drop(&mut self) {
        self.live.lock().pids.remove(&self.tag);
        self.live.worker_gone.notify_one();
    }
}

/// Sweeps whenever a worker has gone or a child has died.
#[derive(Debug)]
pub(in crate::supervisor) struct Subreaper {
    pub(in crate::supervisor) thread: WorkThread,
    pub(in crate::supervisor) live: LiveWorkers,
}

/// Which of our children are to die, beside the orphans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// None: they may be the children of a worker's child that has made a server of its own of itself.
    Live,
    /// All that are no workers.
    Die,
}

impl Subreaper {
    /// Makes this process the parent of its descendants' orphans.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub(in crate::supervisor) fn become_subreaper() -> io::Result<()> {
        Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
    }

    /// Works until it is told to stop, when the last worker has gone, and then until nothing is left to do.
    pub(in crate::supervisor) async fn run(self, stop: CancellationToken) {
        let mut child_died = match signal(SignalKind::child()) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::warn!(%error, "no signal tells of dead orphans; they are reaped when a worker goes");
                None
            }
        };
        let mut dying = HashSet::new();
        loop {
            let next_child_death = async {
                match &mut child_died {
                    Some(stream) => stream.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.live.worker_gone.notified() => {}
                _ = next_child_death => {}
            }
            dying = self.sweep(Others::Live, dying).await.dying;
        }
        let last_sweeps = async {
            // What was killed takes a moment to die, and then its children are ours.
            loop {
                let swept = self.sweep(Others::Die, dying).await;
                if swept.left == 0 {
                    break;
                }
                dying = swept.dying;
                tokio::time::sleep(SWEEP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(LAST_SWEEPS_TIMEOUT, last_sweeps).await.is_err() {
            tracing::warn!(timeout = ?LAST_SWEEPS_TIMEOUT, "what workers left behind was killed and does not die");
        }
    }

    /// Kills and reaps what there is. `dying`: what was killed before and is not reaped yet.
    async fn sweep(&self, others: Others, dying: HashSet<Pid>) -> Swept {
        let live = self.live.clone();
        let swept = self.thread.run(move || sweep(&live, others, dying)).await.unwrap_or_default();
        if swept.killed > 0 {
            tracing::info!(processes = swept.killed, "killed what dead workers left behind");
        }
        swept
    }
}

/// What a sweep has come to.
#[derive(Debug, Default)]
struct Swept {
    /// How many processes it has killed.
    killed: usize,
    /// How many children are left that are no workers.
    left: usize,
    /// Those of them that were killed, now or before.
    dying: HashSet<Pid>,
}

/// Runs on the immortal thread: while it does, no worker is between its fork and its entry among the live ones.
fn sweep(live: &LiveWorkers, others: Others, mut dying: HashSet<Pid>) -> Swept {
    let (mut killed, mut left) = (0, 0);
    for _ in 0..MAX_PASSES {
        // Before the children are listed: a worker that is reaped in between is then no child of ours, and not the
        // other way round. So the number of every other child is its own: nobody but this thread reaps it.
        let workers = live.pids();
        let mut found_work = false;
        left = 0;
        for pid in children().into_iter().filter(|pid| !workers.contains(pid)) {
            if let Ok(Some(_)) = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG) {
                dying.remove(&pid);
                // Its own children are ours now.
                found_work = true;
                continue;
            }
            left += 1;
            let is_to_die = others == Others::Die || live.is_orphan(pid);
            if is_to_die && dying.insert(pid) && rustix::process::kill_process(pid, Signal::KILL).is_ok() {
                killed += 1;
                found_work = true;
            }
        }
        if !found_work {
            break;
        }
    }
    Swept { killed, left, dying }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_alive_until_its_guard_is_dropped() {
        let live = LiveWorkers::new(ServerTag::new());
        let (one, other) = (live.add(), live.add());
        assert_ne!(one.tag(), other.tag());
        let pid = rustix::process::getpid();
        live.set_pid(one.tag(), pid);
        assert_eq!(live.pids(), HashSet::from([pid]));
        drop(one);
        assert_eq!(live.pids(), HashSet::new());
        assert!(live.lock().pids.contains_key(&other.tag()));
    }
}
