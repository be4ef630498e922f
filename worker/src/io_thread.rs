//! The second thread of a worker: it serves the socket while the main thread runs a long item.
//!
//! The main thread reads the socket itself while it is idle, so that a new item wakes one thread instead of two. When
//! it has been busy for about a millisecond, this thread takes over: it sends pending results, answers Recall and Ping
//! at once, and ends the process when the server is gone. When the main thread is idle again, it takes the socket back.
//!
//! While the worker is busy, this thread polls once a millisecond; when the worker has been idle for a while, it sleeps
//! until the main thread wakes it.

use std::io::Write;
use std::sync::TryLockError;
use std::time::Duration;

use procpool_ipc::page::monotonic_ns;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::channel::{Channel, Outlook, Received};
use crate::error::WorkerError;
use crate::results::MAX_PENDING_NS;
use crate::state::Phase;
use crate::wait::Waiter;

/// How often this thread polls an idle worker before it sleeps. So a worker that gets one short call after the other
/// does no wake-ups.
const NUM_IDLE_POLLS: u32 = 16;
const POLL_INTERVAL_NS: u64 = 1_000_000;

/// Runs until the main thread is done or the connection has failed.
pub(crate) fn run_io_thread(channel: &Channel) {
    let mut last_period = 0;
    let mut num_idle_polls = 0;
    loop {
        let outlook = channel.outlook();
        if outlook.phase == Phase::Ended {
            return;
        }
        let step = if outlook.phase == Phase::Loading {
            watch_for_hang_up(channel)
        } else if outlook.is_running {
            num_idle_polls = 0;
            if outlook.num_periods == last_period {
                serve_socket(channel, &outlook)
            } else {
                last_period = outlook.num_periods;
                wait_for_wakeup(channel, Some(POLL_INTERVAL_NS))
            }
        } else {
            num_idle_polls += 1;
            let sleeps = num_idle_polls > NUM_IDLE_POLLS && channel.let_io_thread_sleep(&outlook);
            wait_for_wakeup(channel, if sleeps { None } else { Some(POLL_INTERVAL_NS) })
        };
        if let Err(error) = step.and_then(|()| channel.flush_if_due()) {
            let is_disconnect = error.is_disconnect();
            let is_running = channel.fail(error);
            if is_disconnect && is_running {
                channel.disconnected();
                exit_with_server();
            }
            // The main thread checks for the failure when its item is done.
            return;
        }
    }
}

/// Serves the socket while the main thread is busy, until the next event.
fn serve_socket(channel: &Channel, outlook: &Outlook) -> Result<(), WorkerError> {
    let mut decoder = match channel.reader.try_lock() {
        Ok(decoder) => decoder,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // The main thread is between two chunks.
        Err(TryLockError::WouldBlock) => return wait_for_wakeup(channel, Some(POLL_INTERVAL_NS)),
    };
    let timeout_ns = match outlook.pending_since_ns {
        Some(since_ns) => Some((since_ns + MAX_PENDING_NS).saturating_sub(monotonic_ns())),
        None if channel.let_io_thread_sleep(outlook) => None,
        None => Some(POLL_INTERVAL_NS),
    };
    let mut descriptors = [PollFd::new(&channel.wakeup, PollFlags::IN), PollFd::new(&channel.socket, PollFlags::IN)];
    poll(&mut descriptors, timeout_ns)?;
    let was_woken = !descriptors[0].revents().is_empty();
    let is_readable = !descriptors[1].revents().is_empty();
    if was_woken {
        drain_wakeups(channel);
    }
    if is_readable && channel.receive(&mut decoder, &Waiter::default())? == Received::End {
        return Err(end_of_connection());
    }
    Ok(())
}

/// Waits until the worker has found its functions or the server is gone. Nothing is read meanwhile: no answer may come
/// before Hello.
fn watch_for_hang_up(channel: &Channel) -> Result<(), WorkerError> {
    let hang_up = PollFlags::RDHUP;
    let mut descriptors = [PollFd::new(&channel.wakeup, PollFlags::IN), PollFd::new(&channel.socket, hang_up)];
    poll(&mut descriptors, None)?;
    if !descriptors[0].revents().is_empty() {
        drain_wakeups(channel);
    }
    if descriptors[1].revents().is_empty() { Ok(()) } else { Err(end_of_connection()) }
}

fn end_of_connection() -> WorkerError {
    std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()
}

fn wait_for_wakeup(channel: &Channel, timeout_ns: Option<u64>) -> Result<(), WorkerError> {
    let mut descriptors = [PollFd::new(&channel.wakeup, PollFlags::IN)];
    poll(&mut descriptors, timeout_ns)?;
    if !descriptors[0].revents().is_empty() {
        drain_wakeups(channel);
    }
    Ok(())
}

fn poll(descriptors: &mut [PollFd<'_>], timeout_ns: Option<u64>) -> Result<(), WorkerError> {
    let timeout = timeout_ns
        .map(|timeout_ns| Timespec::try_from(Duration::from_nanos(timeout_ns)).expect("a few milliseconds fit"));
    match rustix::event::poll(descriptors, timeout.as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn drain_wakeups(channel: &Channel) {
    let mut count = [0; 8];
    // A second read would find it empty, which is fine.
    let _ = rustix::io::read(&channel.wakeup, &mut count);
}

/// Ends the process in the middle of an item: the server is gone, and nobody will read the result.
#[expect(clippy::exit, reason = "the item may run forever, and a thread cannot be stopped")]
fn exit_with_server() -> ! {
    // The reader of stderr may be gone, too.
    let _ = writeln!(std::io::stderr(), "the server is gone; the running item is abandoned");
    std::process::exit(1)
}
