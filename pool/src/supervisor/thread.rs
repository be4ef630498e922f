//! A thread that does one piece of work after the other, for tasks that must not block their runtime.
//!
//! A process has two of them. One starts every worker, see [`spawn`](super::spawn); the other reads what /proc tells of
//! processes, see [`monitor`](super::monitor), so that neither a slow fork nor a long look holds up the other. A third
//! prints what workers print, if it is not logged; see [`output`](super::output).

use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// How much work may wait for the thread. Whoever has more waits to hand it over.
const REQUEST_CAPACITY: usize = 16;

/// Something to do; `Break` ends the thread.
type Work = Box<dyn FnOnce() -> ControlFlow<()> + Send>;

/// The sending side of a thread's channel. The thread ends when it is told to, or the last of them is dropped.
#[derive(Debug, Clone)]
pub(super) struct WorkThread {
    requests: mpsc::Sender<Work>,
}

impl WorkThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread for us.
    pub(super) fn start(name: &str) -> io::Result<(Self, JoinHandle<()>)> {
        let (requests, mut queue) = mpsc::channel::<Work>(REQUEST_CAPACITY);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Some(work) = queue.blocking_recv() {
                // Whoever asked for it learns that there is no answer. The thread lives on: with the one that starts
                // workers every worker would die, and none could be started any more.
                if matches!(catch_unwind(AssertUnwindSafe(work)), Ok(ControlFlow::Break(()))) {
                    return;
                }
            }
        })?;
        Ok((Self { requests }, thread))
    }

    /// Runs this on the thread, after what waits already. `None` if it panicked, or the thread has ended.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the work may be done all the same, and its result is dropped.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let work = Box::new(move || {
            // The session that asked may be gone; then the result is dropped, and a process in it is killed.
            let _ = reply.send(work());
            ControlFlow::Continue(())
        });
        self.requests.send(work).await.ok()?;
        answer.await.ok()
    }

    /// Waits until more work may be left for the thread.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(super) async fn has_room(&self) {
        // Also when the thread has ended: then work is dropped.
        let _ = self.requests.reserve().await;
    }

    /// Reserves a place for work; `None` if too much waits already.
    pub(super) fn room(&self) -> Option<Room<'_>> {
        match self.requests.try_reserve() {
            Ok(permit) => Some(Room(Some(permit))),
            Err(TrySendError::Closed(())) => Some(Room(None)),
            Err(TrySendError::Full(())) => None,
        }
    }

    /// Ends the thread after what waits already. Whatever is asked of it later is not done.
    pub(super) async fn stop(&self) {
        // If it has ended already, so much the better.
        let _ = self.requests.send(Box::new(|| ControlFlow::Break(()))).await;
    }
}

/// A place for work of which nobody hears.
#[derive(Debug)]
pub(super) struct Room<'a>(Option<mpsc::Permit<'a, Work>>);

impl Room<'_> {
    /// Leaves work for the thread; it is dropped if the thread has ended.
    pub(super) fn fill(self, work: impl FnOnce() + Send + 'static) {
        if let Some(permit) = self.0 {
            permit.send(Box::new(move || {
                work();
                ControlFlow::Continue(())
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_that_panics_has_no_answer_and_the_thread_lives_on() {
        let (thread, handle) = WorkThread::start("procpool-test").unwrap();
        assert_eq!(thread.run(|| -> u32 { panic!("a bug") }).await, None);
        assert_eq!(thread.run(|| 7).await, Some(7));
        thread.stop().await;
        handle.join().unwrap();
        assert_eq!(thread.run(|| 8).await, None);
    }
}
