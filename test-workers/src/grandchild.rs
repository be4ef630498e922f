//! Processes that survive their worker.

use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The argument that makes a program a grandchild.
const GRANDCHILD: &str = "be-grandchild";
const GRANDCHILD_IN_NEW_SESSION: &str = "be-grandchild-in-new-session";
/// Longer than any test waits, but finite.
const LIFE: Duration = Duration::from_secs(60);

/// The process group of a grandchild.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Session {
    /// In the worker's process group.
    Same,
    /// In a session and process group of its own, where a signal to the worker's group does not reach it.
    New,
}

/// Starts a child of this program that sleeps for a minute and holds stdout and stderr open; returns its process id.
/// [`be_grandchild_if_asked`] must be called at the start of `main`.
///
/// # Errors
///
/// If the process cannot be started.
#[expect(clippy::disallowed_methods, reason = "a fixture that leaves processes behind")]
pub fn spawn_grandchild(session: Session) -> io::Result<u32> {
    let argument = match session {
        Session::Same => GRANDCHILD,
        Session::New => GRANDCHILD_IN_NEW_SESSION,
    };
    let mut command = Command::new(std::env::current_exe()?);
    // Without the worker's environment, from which it could be recognised.
    command.arg(argument).stdin(Stdio::null()).env_clear();
    Ok(command.spawn()?.id())
}

/// Sleeps and exits if this process was started as a grandchild.
#[expect(clippy::exit, reason = "the process was started for nothing else")]
pub fn be_grandchild_if_asked() {
    match std::env::args().nth(1).as_deref() {
        Some(GRANDCHILD) => {}
        Some(GRANDCHILD_IN_NEW_SESSION) => {
            // Cannot fail: a process that was just forked does not lead a group.
            let _ = rustix::process::setsid();
        }
        _ => return,
    }
    std::thread::sleep(LIFE);
    std::process::exit(0);
}
