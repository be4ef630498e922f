//! A process that outlives the worker by a moment, to kill the command that the worker leaves behind.
//!
//! A worker may be killed at any time, with the server or by it, and a command is in a process group of its own, out of
//! reach of what kills the worker. So each worker has one watchdog: it reads from a pipe which group runs now, and the end
//! of the pipe is the end of the worker, however that came. What has left its group is left to the
//! server, which kills it as it does for every worker.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::config;

/// The name of the hidden command that is the watchdog.
pub(crate) const COMMAND: &str = "exec-watchdog";

/// The worker's end of the pipe.
#[derive(Debug)]
pub(super) struct GroupWatchdog {
    pipe: ChildStdin,
}

impl GroupWatchdog {
    /// Starts the watchdog of this process.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    #[expect(clippy::disallowed_methods, reason = "a worker that runs commands is what starts processes here")]
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new(config::executable()?);
        command.args(["worker", COMMAND]).process_group(0);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { pipe })
    }

    /// Says which process group runs now. To be told before its leader has been reaped, that it is none. If the watchdog is
    /// dead, another one takes its place.
    ///
    /// # Errors
    ///
    /// If that cannot be started.
    pub(super) fn watch(&mut self, group: Option<Pid>) -> io::Result<()> {
        let word = Pid::as_raw(group).to_ne_bytes();
        if self.pipe.write_all(&word).is_ok() {
            return Ok(());
        }
        *self = Self::start()?;
        self.pipe.write_all(&word)
    }
}

/// Is the watchdog: waits for the end of stdin, and kills the last group that came out of it.
pub(crate) fn run() -> ExitCode {
    let mut group = None;
    let mut word = [0; 4];
    while io::stdin().read_exact(&mut word).is_ok() {
        // 1 would be every process there is.
        group = Pid::from_raw(i32::from_ne_bytes(word)).filter(|group| group.as_raw_nonzero().get() > 1);
    }
    if let Some(group) = group {
        // It may be gone already.
        let _ = kill_process_group(group, Signal::KILL);
    }
    ExitCode::SUCCESS
}
