//! A sign of life, asked of a worker that has something to run and does not begin it.

use std::time::Duration;

use procpool_ipc::proto;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use tokio::time::Instant;

use super::Session;
use crate::supervisor::process_group::Process;

/// How long a worker that has begun nothing of what it has may take to answer a Ping. Long, since a busy machine is no
/// reason to kill it.
const PONG_TIMEOUT: Duration = Duration::from_secs(5);

/// Whether a worker was asked for a sign of life.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ping {
    /// The Pong has not come.
    pub(super) is_due: bool,
    /// When a worker that has not said anything since is killed.
    pub(super) deadline: Option<Instant>,
}

impl<P: Process> Session<P> {
    /// The worker has something to run and has not begun it in the time that an item may take: it is slow to take it up,
    /// or it never will, as one that was stopped.
    pub(super) fn ask_for_life(&mut self) {
        if self.ledger.front().is_none() || self.ping.deadline.is_some() || self.is_ending {
            return;
        }
        if !self.ping.is_due {
            self.send(ServerFrame::Ping(proto::Ping::default()));
        }
        self.ping = Ping { is_due: true, deadline: Some(Instant::now() + PONG_TIMEOUT) };
    }

    /// A worker that does not read while it runs an item cannot answer, but then it has begun one.
    pub(super) fn give_up_if_silent(&mut self) {
        self.ping.deadline = None;
        if self.progress().is_none() && !self.is_ending {
            tracing::warn!(
                worker = self.worker.generation,
                slot = self.worker.slot.0,
                pid = self.process.pid(),
                timeout = ?PONG_TIMEOUT,
                "worker neither begins its items nor answers, and is killed"
            );
            // Not `kill` of the session: this is no end that somebody has asked for.
            self.process.kill();
        }
    }
}
