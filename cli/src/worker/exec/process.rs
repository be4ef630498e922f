//! One run of a command: its pipes, its end, and the end of everything in its process group.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use procpool_worker::cancelled;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::watchdog::GroupWatchdog;

/// How much of the end of stderr is kept, in bytes.
const STDERR_TAIL_BYTES: usize = 4 << 10;
const READ_BYTES: usize = 16 << 10;

/// The outcome of a command.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// The end of what it wrote to stderr.
    pub(super) stderr_tail: Vec<u8>,
    /// Why it was killed; `None` if it ended by itself.
    pub(super) killed: Option<KillReason>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillReason {
    /// The item was cancelled.
    Cancelled,
    /// It printed more than a result can have.
    TooMuchOutput,
}

/// Wakes the wait for a command when its item is cancelled.
#[derive(Debug)]
pub(super) struct CancelEvent(OwnedFd);

impl CancelEvent {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn set(&self) {
        // Fails only if it was set 2^64 times.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        // Fails if it is not set.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

/// A command that runs.
struct Running<'a> {
    child: Child,
    group: Pid,
    pidfd: OwnedFd,
    cancel_event: &'a CancelEvent,
    input: Option<ChildStdin>,
    rest_of_input: &'a [u8],
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
    max_output_bytes: usize,
    stdout: Vec<u8>,
    stderr_tail: Vec<u8>,
}

/// Runs a command to its end, or kills it when it is cancelled or prints too much.
///
/// # Errors
///
/// If it cannot be started, or the watchdog is dead.
pub(super) fn run(
    mut command: Command,
    input: Option<&[u8]>,
    max_output_bytes: usize,
    cancel_event: &CancelEvent,
    watchdog: &mut GroupWatchdog,
) -> io::Result<Finished> {
    // A cancellation of an earlier item. One of this item is seen all the same: `cancelled` was true before the event.
    cancel_event.clear();
    command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn()?;
    let group = Pid::from_child(&child);
    let started = watchdog.watch(Some(group)).and_then(|()| {
        let pidfd = pidfd_open(group, PidfdFlags::empty())?;
        let input_pipe = child.stdin.take();
        let output = child.stdout.take().map(OwnedFd::from);
        let errors = child.stderr.take().map(OwnedFd::from);
        let pipes =
            [input_pipe.as_ref().map(AsFd::as_fd), output.as_ref().map(AsFd::as_fd), errors.as_ref().map(AsFd::as_fd)];
        for pipe in pipes.into_iter().flatten() {
            rustix::io::ioctl_fionbio(pipe, true)?;
        }
        Ok((pidfd, input_pipe, output, errors))
    });
    let (pidfd, input_pipe, output, errors) = match started {
        Ok(started) => started,
        Err(error) => {
            let _ = kill_process_group(group, Signal::KILL);
            child.wait()?;
            return Err(error);
        }
    };
    let running = Running {
        child,
        group,
        pidfd,
        cancel_event,
        input: input_pipe,
        rest_of_input: input.unwrap_or_default(),
        output,
        errors,
        max_output_bytes,
        stdout: Vec::new(),
        stderr_tail: Vec::new(),
    };
    running.finish(watchdog)
}

impl Running<'_> {
    fn finish(mut self, watchdog: &mut GroupWatchdog) -> io::Result<Finished> {
        let mut killed = None;
        while !self.attend()? {
            if killed.is_some() {
                continue;
            }
            killed = if cancelled() {
                Some(KillReason::Cancelled)
            } else if self.stdout.len() > self.max_output_bytes {
                Some(KillReason::TooMuchOutput)
            } else {
                continue;
            };
            let _ = kill_process_group(self.group, Signal::KILL);
        }
        // The leader is dead and not reaped, so the number is still its own. Whatever it left in its group ends now;
        // and what holds the pipes open from elsewhere is not waited for.
        let _ = kill_process_group(self.group, Signal::KILL);
        self.read_output();
        self.read_errors();
        if self.stderr_tail.last().is_some_and(|&byte| byte != b'\n') {
            // The next item's first line must not follow on this one's last.
            let _ = io::stderr().write_all(b"\n");
        }
        watchdog.watch(None)?;
        let status = self.child.wait()?;
        if killed.is_none() && self.stdout.len() > self.max_output_bytes {
            killed = Some(KillReason::TooMuchOutput);
        }
        Ok(Finished { status, stdout: self.stdout, stderr_tail: self.stderr_tail, killed })
    }

    /// Waits until something happens and handles it. Returns whether the command is dead.
    fn attend(&mut self) -> io::Result<bool> {
        let mut descriptors =
            vec![PollFd::new(&self.pidfd, PollFlags::IN), PollFd::new(&self.cancel_event.0, PollFlags::IN)];
        descriptors.extend(self.output.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        descriptors.extend(self.errors.iter().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        descriptors.extend(self.input.iter().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        match poll(&mut descriptors, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let is_dead = !descriptors[0].revents().is_empty();
        self.cancel_event.clear();
        self.write_input();
        self.read_output();
        self.read_errors();
        Ok(is_dead)
    }

    fn write_input(&mut self) {
        let Some(pipe) = &mut self.input else { return };
        while !self.rest_of_input.is_empty() {
            match pipe.write(self.rest_of_input) {
                Ok(count) => self.rest_of_input = &self.rest_of_input[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The command does not want the rest, which is its own affair.
                Err(_) => break,
            }
        }
        self.input = None;
    }

    fn read_output(&mut self) {
        let Self { output, stdout, max_output_bytes, .. } = self;
        // One more than the limit: so it is known to be too much.
        let is_open = read_present(output.as_ref(), |bytes| {
            let room = (*max_output_bytes + 1).saturating_sub(stdout.len());
            stdout.extend_from_slice(&bytes[..room.min(bytes.len())]);
            stdout.len() <= *max_output_bytes
        });
        if !is_open {
            *output = None;
        }
    }

    fn read_errors(&mut self) {
        let tail = &mut self.stderr_tail;
        let is_open = read_present(self.errors.as_ref(), |bytes| {
            // Nobody may read it.
            let _ = io::stderr().write_all(bytes);
            tail.extend_from_slice(bytes);
            tail.drain(..tail.len().saturating_sub(STDERR_TAIL_BYTES));
            true
        });
        if !is_open {
            self.errors = None;
        }
    }
}

/// Reads what is there without waiting, as long as `take` wants more. Returns whether there may be more.
fn read_present(pipe: Option<&OwnedFd>, mut take: impl FnMut(&[u8]) -> bool) -> bool {
    let Some(pipe) = pipe else { return false };
    let mut bytes = [0; READ_BYTES];
    loop {
        match rustix::io::read(pipe, &mut bytes) {
            Ok(0) => return false,
            Ok(count) => {
                if !take(&bytes[..count]) {
                    return false;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}
