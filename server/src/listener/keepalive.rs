//! Pings a silent peer, and reports one that does not answer.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

pub(super) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    /// A ping is unanswered; the timer is its timeout.
    is_asked: bool,
}

impl Keepalive {
    pub(super) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        Self { pings, interval, timeout, timer: Box::pin(sleep(interval)), is_asked: false }
    }

    /// Is ready when the peer has not answered in time. `is_active` is set when data of a request arrives, and reset
    /// here.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, is_active: &AtomicBool) -> Poll<()> {
        loop {
            if self.is_asked && matches!(self.pings.poll_pong(context), Poll::Ready(Ok(_))) {
                self.is_asked = false;
                self.timer.as_mut().reset(Instant::now() + self.interval);
            }
            ready!(self.timer.as_mut().poll(context));
            if self.is_asked {
                return Poll::Ready(());
            }
            // A connection that accepts no ping is about to end by itself.
            self.is_asked = !is_active.swap(false, Ordering::Relaxed) && self.pings.send_ping(Ping::opaque()).is_ok();
            let next = if self.is_asked { self.timeout } else { self.interval };
            self.timer.as_mut().reset(Instant::now() + next);
        }
    }
}
