//! The second thread of a worker: it attends to the server while the main thread runs an item for long.
//!
//! The main thread reads the socket itself while it has nothing to run, so that an item that comes wakes one thread
//! and not two. When an item, or a run of them, has taken about a millisecond, the attendant takes over: it sends the
//! results that wait, answers Recall and Ping at once, and ends the process when the server is gone. When the main
//! thread is idle again, it asks for the socket back.
//!
//! While the worker is busy, the attendant looks in once a millisecond; when it has been idle for a while, it sleeps
//! until the main thread kicks it.

use std::io::Write;
use std::sync::TryLockError;
use std::time::Duration;

use procpool_ipc::page::monotonic_ns;
use rustix::event::{PollFd, PollFlags, Timespec};

use crate::channel::{Channel, Outlook, Phase, Received};
use crate::error::WorkerError;
use crate::results::MAX_PENDING_NS;

/// How often the attendant looks in on an idle worker before it sleeps. A worker that gets one short call after the
/// other then pays for no kicks.
const NUM_IDLE_LOOKS: u32 = 16;
const LOOK_INTERVAL_NS: u64 = 1_000_000;

/// Runs until the main thread is done, or the connection is of no use any more.
pub(crate) fn attend(channel: &Channel) {
    let mut last_period = 0;
    let mut num_idle_looks = 0;
    loop {
        let outlook = channel.outlook();
        if outlook.phase == Phase::Ended {
            return;
        }
        let step = if outlook.is_running {
            num_idle_looks = 0;
            if outlook.num_periods == last_period {
                attend_socket(channel, &outlook)
            } else {
                last_period = outlook.num_periods;
                wait_for_kick(channel, Some(LOOK_INTERVAL_NS))
            }
        } else {
            num_idle_looks += 1;
            let sleeps = num_idle_looks > NUM_IDLE_LOOKS && channel.let_attendant_sleep(&outlook);
            wait_for_kick(channel, if sleeps { None } else { Some(LOOK_INTERVAL_NS) })
        };
        if let Err(error) = step.and_then(|()| channel.flush_if_due()) {
            let is_disconnect = error.is_disconnect();
            let is_running = channel.fail(error);
            if is_disconnect && is_running {
                exit_with_server();
            }
            // The main thread looks when its item is done; there is nothing to attend to any more.
            return;
        }
    }
}

/// The main thread has been at work for a while: does what it cannot, until something happens.
fn attend_socket(channel: &Channel, outlook: &Outlook) -> Result<(), WorkerError> {
    let mut decoder = match channel.reader.try_lock() {
        Ok(decoder) => decoder,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        // The main thread is between two chunks.
        Err(TryLockError::WouldBlock) => return wait_for_kick(channel, Some(LOOK_INTERVAL_NS)),
    };
    let timeout_ns = match outlook.pending_since_ns {
        Some(since_ns) => Some((since_ns + MAX_PENDING_NS).saturating_sub(monotonic_ns())),
        None if channel.let_attendant_sleep(outlook) => None,
        None => Some(LOOK_INTERVAL_NS),
    };
    let mut descriptors = [PollFd::new(&channel.kick, PollFlags::IN), PollFd::new(&channel.socket, PollFlags::IN)];
    poll(&mut descriptors, timeout_ns)?;
    let was_kicked = !descriptors[0].revents().is_empty();
    let is_readable = !descriptors[1].revents().is_empty();
    if was_kicked {
        take_kicks(channel);
    }
    if is_readable && channel.receive(&mut decoder)? == Received::End {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    Ok(())
}

fn wait_for_kick(channel: &Channel, timeout_ns: Option<u64>) -> Result<(), WorkerError> {
    let mut descriptors = [PollFd::new(&channel.kick, PollFlags::IN)];
    poll(&mut descriptors, timeout_ns)?;
    if !descriptors[0].revents().is_empty() {
        take_kicks(channel);
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

fn take_kicks(channel: &Channel) {
    let mut count = [0; 8];
    // Another look at the eventfd finds it empty, which is fine.
    let _ = rustix::io::read(&channel.kick, &mut count);
}

/// Ends the process in the middle of an item: the server is gone, and nobody will ever take the result.
#[expect(clippy::exit, reason = "the item may run for ever, and a thread cannot be stopped")]
fn exit_with_server() -> ! {
    // Whoever read stderr may be gone, too.
    let _ = writeln!(std::io::stderr(), "the server is gone: the item that runs is given up");
    std::process::exit(1)
}
