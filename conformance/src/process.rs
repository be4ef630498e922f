//! The worker's process, started as the server starts one: the socket at descriptor 3, an environment of listed
//! variables, a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, kill_process_group, pidfd_open, set_child_subreaper,
    waitpid,
};

const STDERR_TAIL_BYTES: usize = 4 << 10;
/// How many times to kill orphans that start others when they die.
const MAX_ROUNDS: usize = 100;

/// Starts workers.
#[derive(Debug)]
pub(crate) struct Launcher {
    command: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    /// Reserves descriptor 3 for the socket of the next worker. Another number works too: `PROCPOOL_FD` names it.
    channel: OwnedFd,
    null: OwnedFd,
}

impl Launcher {
    /// Call it before anything else opens a file, so that descriptor 3 is free. From now on, this process adopts the
    /// orphans of workers, in whatever session.
    ///
    /// # Errors
    ///
    /// If there is no descriptor left.
    pub(crate) fn new(command: &[OsString], environment: &[(OsString, OsString)]) -> io::Result<Self> {
        set_child_subreaper(Some(getpid()))?;
        let open_null = || rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        let channel = open_null()?;
        Ok(Self { command: command.to_vec(), environment: environment.to_vec(), channel, null: open_null()? })
    }

    /// Starts a worker with one end of a socket.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    #[expect(clippy::disallowed_methods, reason = "a check starts the worker that it checks")]
    pub(crate) fn start(&mut self, channel: &UnixStream) -> io::Result<WorkerProcess> {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]).env_clear().envs(self.environment.iter().cloned());
        command.env("PROCPOOL_FD", self.channel.as_raw_fd().to_string()).env("PROCPOOL_SLOT", "0");
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // `dup2` clears close-on-exec, so the worker inherits it.
        rustix::io::dup2(channel, &mut self.channel)?;
        let spawned = command.spawn();
        rustix::io::dup2(&self.null, &mut self.channel)?;
        rustix::io::fcntl_setfd(&self.channel, FdFlags::CLOEXEC)?;
        WorkerProcess::new(spawned?)
    }
}

/// A running worker. Dropping it kills its process group.
#[derive(Debug)]
pub(crate) struct WorkerProcess {
    child: Child,
    group: Pid,
    pidfd: OwnedFd,
    outputs: [Option<OwnedFd>; 2],
    stderr_tail: Vec<u8>,
    status: Option<ExitStatus>,
}

impl WorkerProcess {
    fn new(mut child: Child) -> io::Result<Self> {
        let group = Pid::from_child(&child);
        let outputs = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        for output in outputs.iter().flatten() {
            rustix::io::ioctl_fionbio(output, true)?;
        }
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        Ok(Self { child, group, pidfd, outputs, stderr_tail: Vec::new(), status: None })
    }

    /// Waits until the socket is ready, the process has died or the deadline passes; reads the worker's output
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub(crate) fn wait(&mut self, socket: Option<(&UnixStream, PollFlags)>, deadline: Instant) -> io::Result<()> {
        let mut descriptors: Vec<PollFd<'_>> = Vec::with_capacity(4);
        if self.status.is_none() {
            descriptors.push(PollFd::from_borrowed_fd(self.pidfd.as_fd(), PollFlags::IN));
        }
        descriptors.extend(socket.map(|(socket, flags)| PollFd::from_borrowed_fd(socket.as_fd(), flags)));
        for output in self.outputs.iter().flatten() {
            descriptors.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
        }
        let timeout = Timespec::try_from(deadline.saturating_duration_since(Instant::now())).ok();
        match poll(&mut descriptors, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.read_outputs();
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(())
    }

    /// Returns how it ended, if it has.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        self.status
    }

    /// Waits for the exit of the process; `None` if it does not exit in time.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub(crate) fn wait_for_exit(&mut self, limit: Duration) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + limit;
        while self.status.is_none() && Instant::now() < deadline {
            self.wait(None, deadline)?;
        }
        self.read_outputs();
        Ok(self.status)
    }

    /// Kills the process group and reaps the worker.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        if self.status.is_none() {
            self.signal_group();
            self.status = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// Sends SIGTERM to the process group, as the server does.
    pub(crate) fn terminate(&self) {
        // It may be gone already.
        let _ = kill_process_group(self.group, Signal::TERM);
    }

    /// Returns the last line that it wrote to stderr.
    pub(crate) fn last_line(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.stderr_tail);
        text.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
    }

    fn read_outputs(&mut self) {
        let mut bytes = [0; 16 << 10];
        for (index, slot) in self.outputs.iter_mut().enumerate() {
            while let Some(output) = slot {
                match rustix::io::read(&*output, &mut bytes) {
                    Ok(0) => *slot = None,
                    Ok(count) if index == 1 => {
                        self.stderr_tail.extend_from_slice(&bytes[..count]);
                        self.stderr_tail.drain(..self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES));
                    }
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(rustix::io::Errno::AGAIN) => break,
                    Err(_) => *slot = None,
                }
            }
        }
    }

    fn signal_group(&self) {
        // It may be gone already.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Also kills the rest of the group: while the leader is not reaped, or the group is not empty, its id is not
        // reused.
        self.signal_group();
        let _ = self.kill();
        kill_orphans();
    }
}

/// Waits until no descendant of dead workers is left. Returns the names of those left at the deadline.
///
/// # Errors
///
/// If the system fails.
pub(crate) fn wait_for_orphans(deadline: Instant) -> io::Result<Vec<String>> {
    loop {
        let orphans = orphans()?;
        let rest = deadline.saturating_duration_since(Instant::now());
        if orphans.is_empty() || rest.is_zero() {
            return Ok(orphans.into_iter().map(name_of).collect());
        }
        // When one ends, its children may become ours.
        let pidfds: Vec<OwnedFd> =
            orphans.into_iter().filter_map(|orphan| pidfd_open(orphan, PidfdFlags::empty()).ok()).collect();
        let mut descriptors: Vec<PollFd<'_>> =
            pidfds.iter().map(|pidfd| PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)).collect();
        match poll(&mut descriptors, Timespec::try_from(rest).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns the living children of this process, and reaps the dead ones. Valid once the worker is dead.
fn orphans() -> io::Result<Vec<Pid>> {
    let own_pid = getpid().as_raw_nonzero().to_string();
    let mut orphans = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| Pid::from_raw(name.parse().ok()?)) else { continue };
        // The process may have ended since the folder was read.
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())) else { continue };
        // The name is in parentheses, and may contain some.
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1));
        if parent == Some(&*own_pid) && matches!(waitpid(Some(pid), WaitOptions::NOHANG), Ok(None)) {
            orphans.push(pid);
        }
    }
    Ok(orphans)
}

fn name_of(pid: Pid) -> String {
    let number = pid.as_raw_nonzero();
    let name = std::fs::read_to_string(format!("/proc/{number}/comm")).unwrap_or_default();
    format!("{} (pid {number})", name.trim_end())
}

fn kill_orphans() {
    for _ in 0..MAX_ROUNDS {
        let Ok(orphans) = orphans() else { return };
        if orphans.is_empty() {
            return;
        }
        for orphan in orphans {
            let _ = kill_process(orphan, Signal::KILL);
            let _ = waitpid(Some(orphan), WaitOptions::empty());
        }
    }
}

/// Describes how a process ended, as the end of a sentence.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}
