//! The process that kills what the workers of a killed server have started.
//!
//! The kernel ends the workers of a server that is killed, and nobody ends their children. So each server has one
//! watchdog: it holds the end of a pipe whose other end the server has and nobody else, and the end of the pipe is the
//! end of the server, however that came. After an orderly end there is nothing left to kill.
//!
//! The pipe also tells the server when its watchdog is gone, killed by somebody or by the kernel: then it starts
//! another. Who kills both at once gets away with it, and so does who stops the watchdog (SIGSTOP) and kills the
//! server.

use std::convert::Infallible;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use procpool_pool::supervisor::{ServerTag, kill_orphans};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::unix::pipe;
use tokio::time::Instant;

use crate::config;

/// What the log says when there is none.
pub(crate) const NO_WATCHDOG: &str = "the server has no watchdog: if it is killed, what its workers started lives on";

/// The name of the hidden command that is the watchdog.
pub(crate) const COMMAND: &str = "serve-watchdog";

/// What it is called where processes are listed, so that whoever kills by name (`pkill -9 procpool`) leaves it to its work.
const NAME: &CStr = c"pool-watchdog";

/// How long to wait before a watchdog that has lived for less than this is replaced.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(crate) struct WatchdogArgs {
    /// What the descendants of the server's workers are known by
    server: ServerTag,
    /// Be the watchdog, instead of starting it
    #[arg(long)]
    stay: bool,
}

/// The server's end of the pipe.
#[derive(Debug)]
pub(crate) struct Watchdog {
    pipe: pipe::Sender,
}

impl Watchdog {
    /// Starts the watchdog of this server. It should be no child of it, since everybody may take the server's children for
    /// workers: so start the first before the server adopts orphans. Later ones become its children.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub(crate) fn start(server: ServerTag) -> io::Result<Self> {
        let mut command = command(server)?;
        let mut child = command.stdin(Stdio::piped()).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let pipe = pipe::Sender::from_owned_fd(pipe.into())?;
        // It ends as soon as it has started the one that stays.
        match child.wait() {
            Ok(status) if !status.success() => Err(io::Error::other(format!("it ended with {status}"))),
            // What reaps orphans was faster. If there is no watchdog now, the pipe will tell.
            Err(error) if error.raw_os_error() != Some(Errno::CHILD.raw_os_error()) => Err(error),
            Ok(_) | Err(_) => Ok(Self { pipe }),
        }
    }

    /// Starts another watchdog whenever there is none, and says so. Dropping the future ends the watchdog that there is
    /// by then.
    pub(crate) async fn keep(self, server: ServerTag, count_restart: impl Fn()) -> Infallible {
        let mut watchdog = Some(self);
        let mut started_at = Instant::now();
        loop {
            if let Some(watchdog) = watchdog.take() {
                watchdog.gone().await;
                tracing::warn!("the watchdog of the server was killed; starting another");
            }
            if started_at.elapsed() < RESTART_PAUSE {
                tokio::time::sleep(RESTART_PAUSE).await;
            }
            started_at = Instant::now();
            count_restart();
            let started = tokio::task::spawn_blocking(move || Self::start(server)).await.map_err(io::Error::other);
            watchdog = started
                .and_then(|started| started)
                .inspect_err(|error| tracing::error!(%error, "{NO_WATCHDOG}; trying again"))
                .ok();
        }
    }

    /// Returns when no process has the other end of the pipe.
    async fn gone(&self) {
        // There is nothing else to hear of a pipe; if the runtime cannot listen, it is ending.
        while self.pipe.ready(Interest::ERROR).await.is_ok_and(|ready| !ready.is_error()) {}
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

/// Is the watchdog, or starts the one that stays.
pub(crate) fn run(args: &WatchdogArgs) -> ExitCode {
    let done = if args.stay { stay(args.server) } else { leave_one_behind(args.server) };
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn leave_one_behind(server: ServerTag) -> io::Result<()> {
    // What is sent to the server's group, or by its terminal, is not for the watchdog, from the start. It leads no group yet,
    // so this succeeds.
    let _ = rustix::process::setsid();
    command(server)?.arg("--stay").stdin(Stdio::inherit()).spawn().map(drop)
}

fn stay(server: ServerTag) -> io::Result<()> {
    // Until here it has the name of the file.
    let _ = rustix::thread::set_name(NAME);
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    kill_orphans(server).map(drop)
}
