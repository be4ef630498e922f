//! Requests to stop: first to drain, then to stop at once.
//!
//! The only module that handles signals. [`crate::App::serve`] says what the phases do.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How urgently the server was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Running,
    Drain,
    Now,
}

/// Tells a server when to stop; [`crate::App::serve`] takes it.
#[derive(Debug)]
pub struct Shutdown {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Signals { terminate: Signal, interrupt: Signal, hangup: Option<Signal> },
    Handle(watch::Receiver<Phase>),
}

/// Tells a server to stop, from within the program. Dropping it changes nothing.
#[derive(Debug, Clone)]
pub struct ShutdownHandle {
    phase: watch::Sender<Phase>,
}

impl ShutdownHandle {
    /// Drains the server: calls in progress finish, then it stops.
    pub fn drain(&self) {
        self.raise(Phase::Drain);
    }

    /// Stops the server at once; calls in progress fail.
    pub fn now(&self) {
        self.raise(Phase::Now);
    }

    fn raise(&self, phase: Phase) {
        self.phase.send_if_modified(|current| {
            let is_higher = phase > *current;
            *current = phase.max(*current);
            is_higher
        });
    }
}

impl Shutdown {
    /// Returns a shutdown that SIGTERM and SIGINT control: the first drains, the second stops at once. SIGHUP replaces
    /// the workers.
    ///
    /// # Errors
    ///
    /// If the signals cannot be listened for.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = Some(signal(SignalKind::hangup())?);
        Ok(Self { source: Source::Signals { terminate, interrupt, hangup } })
    }

    /// Returns a shutdown that a handle controls.
    pub fn with_handle() -> (ShutdownHandle, Self) {
        let (phase, receiver) = watch::channel(Phase::Running);
        (ShutdownHandle { phase }, Self { source: Source::Handle(receiver) })
    }

    /// Returns the receiver of SIGHUP, the first time that it is called.
    pub(crate) fn take_hangups(&mut self) -> Option<Signal> {
        match &mut self.source {
            Source::Signals { hangup, .. } => hangup.take(),
            Source::Handle(_) => None,
        }
    }

    /// Waits until the server is to drain, or to stop at once.
    pub(crate) async fn wait_for_drain(&mut self) {
        self.wait_for(Phase::Drain).await;
    }

    /// Waits until the server is to stop at once. With signals: for one more than was waited for before.
    pub(crate) async fn wait_for_now(&mut self) {
        self.wait_for(Phase::Now).await;
    }

    async fn wait_for(&mut self, phase: Phase) {
        match &mut self.source {
            Source::Signals { terminate, interrupt, .. } => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
            Source::Handle(receiver) => {
                let is_told = receiver.wait_for(|current| *current >= phase).await.is_ok();
                if !is_told {
                    // The handle was dropped: no request can come any more.
                    std::future::pending::<()>().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn the_first_signal_drains_and_the_second_stops_at_once() {
        let mut shutdown = Shutdown::on_signals().unwrap();
        for first in [Signal::TERM, Signal::INT] {
            kill_process(getpid(), first).unwrap();
            shutdown.wait_for_drain().await;
            let second = tokio::time::timeout(Duration::from_millis(20), shutdown.wait_for_now()).await;
            assert!(second.is_err(), "one signal is not two");
            kill_process(getpid(), Signal::TERM).unwrap();
            shutdown.wait_for_now().await;
        }
    }

    #[tokio::test]
    async fn told_to_stop_at_once_it_does_not_wait_to_be_told_to_drain() {
        let (handle, mut shutdown) = Shutdown::with_handle();
        handle.now();
        handle.drain();
        shutdown.wait_for_drain().await;
        shutdown.wait_for_now().await;
    }
}
