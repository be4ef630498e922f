//! A process that outlives the server by a moment, to kill what its workers have started.
//!
//! The kernel ends the workers of a server that is killed, and nobody ends their children. So each server has one guard: it
//! holds the end of a pipe whose other end the server has and nobody else, and the end of the pipe is the end of the
//! server, however that came. After an orderly end there is nothing left to kill.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{ChildStdin, Command, ExitCode, Stdio};

use procpool_pool::supervisor::{ServerTag, kill_remains};

use crate::args::GuardArgs;
use crate::config;

/// The name of the hidden command that is the guard.
pub(crate) const COMMAND: &str = "serve-guard";

/// What it is called where processes are listed, so that whoever kills by name (`pkill -9 procpool`) leaves it to its work.
const NAME: &CStr = c"pool-guard";

/// The server's end of the pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    _pipe: ChildStdin,
}

impl Guard {
    /// Starts the guard of this server. It is no child of it: everybody may take the server's children for workers. For
    /// that, call it before the server adopts orphans.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn start(server: ServerTag) -> io::Result<Self> {
        let mut command = command(server)?;
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        // It ends as soon as it has started the one that stays.
        let status = child.wait()?;
        if status.success() {
            Ok(Self { _pipe: pipe })
        } else {
            Err(io::Error::other(format!("it ended with {status}")))
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what ends processes that the pool has started is no worker")]
fn command(server: ServerTag) -> io::Result<Command> {
    let mut command = Command::new(config::executable()?);
    // Workers can read what environment it has, and it needs none.
    command
        .env_clear()
        .arg0(OsStr::from_bytes(NAME.to_bytes()))
        .args([COMMAND, &server.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// Is the guard, or starts the one that stays.
pub(crate) fn run(args: &GuardArgs) -> ExitCode {
    let done = if args.stay { stay(args.server) } else { leave_one_behind(args.server) };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn leave_one_behind(server: ServerTag) -> io::Result<()> {
    // What is sent to the server's group, or by its terminal, is not for the guard, from the start. It leads no group yet,
    // so this succeeds.
    let _ = rustix::process::setsid();
    command(server)?.arg("--stay").stdin(Stdio::inherit()).spawn().map(drop)
}

fn stay(server: ServerTag) -> io::Result<()> {
    // Until here it has the name of the file.
    let _ = rustix::thread::set_name(NAME);
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    kill_remains(server).map(drop)
}
