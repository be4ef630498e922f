//! Ctrl-C and SIGTERM of the commands that call a server.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::exit::{Exit, Failure};

/// Runs a command until it ends or is interrupted. Dropping it cancels its call on the server; a second signal ends the
/// process at once.
pub(crate) async fn until_interrupted(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let cannot_listen = |error: io::Error| Failure::new(Exit::Failed, error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_listen)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_listen)?;
    let (first, interrupted) = tokio::sync::oneshot::channel();
    let mut tasks = JoinSet::new();
    // A task of its own: the command may be stuck writing to a pipe that nobody reads.
    tasks.spawn(async move {
        let mut first = Some(first);
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            match first.take() {
                // The command may have ended just now.
                Some(first) => drop(first.send(())),
                None => end_at_once(),
            }
        }
    });
    tokio::select! {
        result = command => result,
        Ok(()) = interrupted => Ok(Exit::Interrupted),
    }
}

#[expect(clippy::exit, reason = "the main thread is stuck, and the user asked twice")]
fn end_at_once() -> ! {
    std::process::exit(Exit::Interrupted as i32)
}
