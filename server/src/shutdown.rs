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
    /// `None`: it does not hear any.
    signals: Option<Signals>,
    phase: watch::Receiver<Phase>,
}

#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Option<Signal>,
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
    /// the workers. The handle controls it, too.
    ///
    /// # Errors
    ///
    /// If the signals cannot be listened for.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn on_signals() -> io::Result<(ShutdownHandle, Self)> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = Some(signal(SignalKind::hangup())?);
        let (handle, shutdown) = Self::with_handle();
        Ok((handle, Self { signals: Some(Signals { terminate, interrupt, hangup }), ..shutdown }))
    }

    /// Returns a shutdown that a handle controls.
    pub fn with_handle() -> (ShutdownHandle, Self) {
        let (sender, phase) = watch::channel(Phase::Running);
        (ShutdownHandle { phase: sender }, Self { signals: None, phase })
    }

    /// Returns the receiver of SIGHUP, the first time that it is called.
    pub(crate) fn take_hangups(&mut self) -> Option<Signal> {
        self.signals.as_mut()?.hangup.take()
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
        let Self { signals, phase: told } = self;
        let signalled = async {
            match signals {
                Some(Signals { terminate, interrupt, .. }) => {
                    tokio::select! {
                        _ = terminate.recv() => {}
                        _ = interrupt.recv() => {}
                    }
                }
                None => std::future::pending().await,
            }
        };
        let told = async {
            if told.wait_for(|current| *current >= phase).await.is_err() {
                // The handle was dropped: no request can come any more.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = signalled => {}
            () = told => {}
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
        let (_, mut shutdown) = Shutdown::on_signals().unwrap();
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
    async fn a_shutdown_on_signals_can_be_told_to_stop_at_once() {
        let (handle, mut shutdown) = Shutdown::on_signals().unwrap();
        let early = tokio::time::timeout(Duration::from_millis(20), shutdown.wait_for_drain()).await;
        assert!(early.is_err(), "nobody has asked");
        handle.now();
        shutdown.wait_for_drain().await;
        shutdown.wait_for_now().await;
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
