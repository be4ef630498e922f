//! Reads /proc for the workers that are at work: how much memory they hold, and whether they are stopped.
//!
//! The kernel does not say when a process passes a limit, nor when it was stopped, so that has to be looked at again and
//! again: memory ten times a second, where there are limits, and the rest once a second. To find what a worker has
//! started takes a file for each of its threads. So all workers of a process are looked at by one task, on a thread
//! beside the runtime, and while that takes long it is done less often: the thread is idle for nine tenths of the time.
//! Nothing is looked at while no worker is at work.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::thread::WorkThread;
use crate::usage;

/// The name of the thread.
pub(super) const THREAD_NAME: &str = "procpool-look";
/// From one look at the memory of workers to the next.
const MEMORY_INTERVAL: Duration = Duration::from_millis(100);
/// From one look at whether they are stopped to the next.
const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a look, in times of what it took.
const PAUSE_FACTOR: u32 = 9;

/// Looks at the workers of all pools of this process.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    thread: WorkThread,
    watched: Arc<Mutex<Vec<Arc<Watched>>>>,
    /// Notified when there is something to look at.
    wake: Arc<Notify>,
}

/// A worker that is looked at while its session wants that.
#[derive(Debug)]
struct Watched {
    pid: u32,
    /// The process that runs the items, if that is another one; 0 if not.
    runner: AtomicU32,
    has_memory_limits: bool,
    is_wanted: AtomicBool,
    is_gone: AtomicBool,
    reading: Mutex<Reading>,
    /// Notified when there is a reading.
    news: Notify,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// How much memory it holds with all that it has started; `None` if that was not looked at, or cannot be seen.
    pub(super) rss_bytes: Option<u64>,
    /// It is stopped (SIGSTOP or one of its kind).
    pub(super) is_stopped: bool,
}

/// A session's end of it. Nothing more is looked at when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    watched: Arc<Watched>,
    wake: Arc<Notify>,
}

impl Monitor {
    /// Looks at nothing yet: for that, [run](Self::run) it.
    pub(super) fn new(thread: WorkThread) -> Self {
        Self { thread, watched: Arc::default(), wake: Arc::default() }
    }

    /// Returns the thread where /proc may be read.
    pub(super) fn thread(&self) -> &WorkThread {
        &self.thread
    }

    /// Adds a worker, which is being started, and so is looked at.
    pub(super) fn watch(&self, pid: u32, has_memory_limits: bool) -> Watch {
        let watched = Arc::new(Watched {
            pid,
            runner: AtomicU32::new(0),
            has_memory_limits,
            is_wanted: AtomicBool::new(false),
            is_gone: AtomicBool::new(false),
            reading: Mutex::default(),
            news: Notify::new(),
        });
        // A panic while it is locked leaves nothing half done.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&watched));
        let watch = Watch { watched, wake: Arc::clone(&self.wake) };
        watch.want();
        watch
    }

    /// Works until it is told to stop.
    pub(super) async fn run(self, stop: CancellationToken) {
        let works = async {
            loop {
                self.wake.notified().await;
                self.look_until_idle().await;
            }
        };
        tokio::select! {
            () = works => {}
            () = stop.cancelled() => {}
        }
    }

    async fn look_until_idle(&self) {
        let (mut states_at, mut took) = (Instant::now() + STATE_INTERVAL, Duration::ZERO);
        loop {
            let has_limits = self.wanted().iter().any(|watched| watched.has_memory_limits);
            let interval = if has_limits { MEMORY_INTERVAL } else { STATE_INTERVAL };
            tokio::time::sleep(interval.max(took * PAUSE_FACTOR)).await;
            let began = Instant::now();
            let looks_at_states = states_at <= began;
            if looks_at_states {
                states_at = began + STATE_INTERVAL;
            }
            let wanted = self.wanted();
            if wanted.is_empty() {
                return;
            }
            // If a look panics, the next one may not.
            let _ = self.thread.run(move || wanted.iter().for_each(|watched| watched.look(looks_at_states))).await;
            took = began.elapsed();
        }
    }

    /// Forgets who is gone, and returns who is to be looked at.
    fn wanted(&self) -> Vec<Arc<Watched>> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|watched| !watched.is_gone.load(Ordering::Relaxed));
        all.iter().filter(|watched| watched.is_wanted.load(Ordering::Relaxed)).cloned().collect()
    }
}

impl Watched {
    fn look(&self, looks_at_state: bool) {
        let rss_bytes = if self.has_memory_limits { usage::held_memory(self.pid) } else { None };
        let runner = self.runner.load(Ordering::Relaxed);
        let is_stopped = looks_at_state
            && (usage::is_stopped(self.pid) || runner != 0 && runner != self.pid && usage::is_stopped(runner));
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Reading { rss_bytes, is_stopped };
        self.news.notify_one();
    }
}

impl Watch {
    /// Has the worker looked at, from now on and again and again.
    pub(super) fn want(&self) {
        if !self.watched.is_wanted.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        }
    }

    /// It need not be looked at.
    pub(super) fn rest(&self) {
        self.watched.is_wanted.store(false, Ordering::Relaxed);
    }

    /// Another process runs the items.
    pub(super) fn set_runner(&self, pid: u32) {
        self.watched.runner.store(pid, Ordering::Relaxed);
    }

    /// Waits until the worker was looked at.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn news(&self) {
        self.watched.news.notified().await;
    }

    /// Returns what was seen last.
    pub(super) fn reading(&self) -> Reading {
        *self.watched.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.rest();
        self.watched.is_gone.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No wait is longer. Nothing depends on its length but how fast a failure shows.
    const PATIENCE: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn who_is_at_work_is_looked_at_again_and_again_and_beside_the_runtime() {
        let (thread, handle) = WorkThread::start(THREAD_NAME).unwrap();
        let monitor = Monitor::new(thread.clone());
        let (stop, own) = (CancellationToken::new(), std::process::id());
        let watch = monitor.watch(own, true);
        let idle = monitor.watch(own, true);
        idle.rest();
        let looks = async {
            for _ in 0..3 {
                watch.news().await;
                assert!(watch.reading().rss_bytes.unwrap() > 100_000);
            }
            watch.rest();
            assert_eq!(idle.reading(), Reading::default(), "it has nothing to do");
            drop(idle);
            // Who rests is looked at again when there is something to do.
            watch.want();
            watch.news().await;
            stop.cancel();
        };
        let both = async { tokio::join!(monitor.clone().run(stop.clone()), looks) };
        tokio::time::timeout(PATIENCE, both).await.expect("there is news");
        assert_eq!(monitor.wanted().len(), 1);
        assert_eq!(monitor.watched.lock().unwrap().len(), 1, "who is gone is forgotten");
        thread.stop().await;
        handle.join().unwrap();
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "somebody has to be stopped")]
    fn who_stands_still_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        assert!(!usage::is_stopped(child.id()));
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
        let began = std::time::Instant::now();
        while !usage::is_stopped(child.id()) {
            assert!(began.elapsed() < PATIENCE, "it is not stopped");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!usage::is_stopped(child.id()));
    }
}
