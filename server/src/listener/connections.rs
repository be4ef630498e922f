//! The limit of open connections, and which of them is evicted for a new one.
//!
//! A client that connects at the limit is not refused: it waits until another leaves. The connection that has
//! been idle longest is asked to leave for it, if there is one that may be asked, see [`Eviction`]. So clients that
//! connect and do nothing cannot block others.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a waiting client looks for a connection that has been idle for long enough by then.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two warnings that clients wait.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// Which connections are asked to leave when another has no permit.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Eviction {
    /// Those that have been idle for this long.
    Idle(Duration),
    /// Any, idle ones first.
    Any,
}

/// The connections of a port or several. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limit: usize,
    eviction: Eviction,
    open: Mutex<Open>,
    left: Notify,
    num_delayed: AtomicU64,
}

#[derive(Debug, Default)]
struct Open {
    next_id: u64,
    entries: BTreeMap<u64, Entry>,
    last_warning: Option<Instant>,
}

/// A connection that is open.
#[derive(Debug)]
struct Entry {
    num_requests: usize,
    /// It has had a request.
    is_used: bool,
    /// Since when it has had no request; since when it has had its last, if that is in progress.
    since: Instant,
    leave: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limit: usize, eviction: Eviction) -> Self {
        let (open, left, num_delayed) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { shared: Arc::new(Shared { limit, eviction, open, left, num_delayed }) }
    }

    /// Returns how many are open.
    pub(crate) fn count(&self) -> usize {
        self.shared.lock().entries.len()
    }

    /// Returns how many connections have had to wait for a permit.
    pub(crate) fn num_delayed(&self) -> u64 {
        self.shared.num_delayed.load(Ordering::Relaxed)
    }

    /// Takes a permit for a connection to this address; waits until there is one.
    pub(super) async fn enter(&self, address: &impl Display) -> ConnectionPermit {
        let mut asked = None;
        let mut is_delayed = false;
        loop {
            let left = self.shared.left.notified();
            if let Some(permit) = self.try_enter(&mut asked) {
                return permit;
            }
            if !std::mem::replace(&mut is_delayed, true) {
                self.shared.num_delayed.fetch_add(1, Ordering::Relaxed);
                self.warn(address);
            }
            let _ = tokio::time::timeout(CHECK_INTERVAL, left).await;
        }
    }

    /// Takes a permit if there is one. If not, asks a connection to leave, and remembers which: only when that has left,
    /// another is asked.
    fn try_enter(&self, asked: &mut Option<u64>) -> Option<ConnectionPermit> {
        let mut open = self.shared.lock();
        if open.entries.len() < self.shared.limit {
            let (id, leave) = (open.next_id, CancellationToken::new());
            open.next_id += 1;
            let entry = Entry { num_requests: 0, is_used: false, since: Instant::now(), leave: leave.clone() };
            open.entries.insert(id, entry);
            return Some(ConnectionPermit { leave, requests: ActiveRequests { id, shared: Arc::clone(&self.shared) } });
        }
        if !asked.is_some_and(|id| open.entries.contains_key(&id)) {
            let now = Instant::now();
            let may_be_asked = |entry: &Entry| match self.shared.eviction {
                Eviction::Any => true,
                Eviction::Idle(time) => entry.num_requests == 0 && entry.since + time <= now,
            };
            let candidates =
                open.entries.iter().filter(|(_, entry)| !entry.leave.is_cancelled() && may_be_asked(entry));
            let quietest = candidates.min_by_key(|(_, entry)| (entry.num_requests > 0, entry.since));
            *asked = quietest.map(|(id, entry)| {
                entry.leave.cancel();
                *id
            });
        }
        None
    }

    fn warn(&self, address: &impl Display) {
        let now = Instant::now();
        let mut open = self.shared.lock();
        if open.last_warning.is_none_or(|last| last + WARNING_INTERVAL <= now) {
            open.last_warning = Some(now);
            drop(open);
            let delayed = self.num_delayed();
            tracing::warn!(
                limit = self.shared.limit,
                delayed,
                %address,
                "the limit of connections is reached: a client waits until another leaves"
            );
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Open> {
        // Every change is a single insertion, removal or assignment; a panic leaves nothing half done.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The permit of a connection that is open; free again when this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionPermit {
    leave: CancellationToken,
    requests: ActiveRequests,
}

impl ConnectionPermit {
    /// Waits until the connection has to leave for another.
    pub(crate) async fn evicted(&self) {
        self.leave.cancelled().await;
    }

    /// Returns what counts the connection's requests.
    pub(crate) fn requests(&self) -> ActiveRequests {
        self.requests.clone()
    }

    /// Returns whether a request is in progress.
    pub(crate) fn has_requests(&self) -> bool {
        self.requests.read(|entry| entry.num_requests > 0)
    }

    /// Waits until the connection has been idle for `first`, if it has had no request yet, or for `next`.
    pub(crate) async fn idle_for(&self, first: Duration, next: Duration) {
        loop {
            let now = Instant::now();
            let due = self.requests.read(|entry| {
                let limit = if entry.is_used { next } else { first };
                if entry.num_requests > 0 { now + next } else { entry.since + limit }
            });
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.requests.shared.lock().entries.remove(&self.requests.id);
        self.requests.shared.left.notify_one();
    }
}

/// Counts the requests of a connection.
#[derive(Debug, Clone)]
pub(crate) struct ActiveRequests {
    id: u64,
    shared: Arc<Shared>,
}

impl ActiveRequests {
    /// Counts a request until what this returns is dropped. That may be after the connection has gone.
    pub(crate) fn begin(&self) -> ActiveRequest {
        self.change(|entry| {
            entry.num_requests += 1;
            entry.is_used = true;
        });
        ActiveRequest(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.shared.lock().entries.get_mut(&self.id) {
            change(entry);
            entry.since = Instant::now();
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Entry) -> T) -> T {
        read(
            self.shared
                .lock()
                .entries
                .get(&self.id)
                .expect("a connection is among the open ones as long as its permit"),
        )
    }
}

/// Counts as a request in progress until it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveRequest(ActiveRequests);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.change(|entry| entry.num_requests -= 1);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const QUIET: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_waits_for_one_and_is_counted() {
        let connections = Connections::new(2, Eviction::Idle(QUIET));
        let first = connections.enter(&"here").await;
        let second = connections.enter(&"here").await;
        assert_eq!((connections.count(), connections.num_delayed()), (2, 0));
        let mut third = std::pin::pin!(connections.enter(&"here"));
        assert!(third.as_mut().now_or_never().is_none());
        drop(second);
        let third = third.await;
        assert_eq!((connections.count(), connections.num_delayed()), (2, 1));
        drop((first, third));
        assert_eq!(connections.count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_one_that_has_been_quiet_longest_makes_room_and_who_has_a_call_does_not() {
        let connections = Connections::new(3, Eviction::Idle(QUIET));
        let (busy, used, quiet) =
            (connections.enter(&"").await, connections.enter(&"").await, connections.enter(&"").await);
        let request = busy.requests().begin();
        drop(used.requests().begin());
        let moment = Duration::from_secs(1);
        tokio::time::advance(moment).await;
        drop(used.requests().begin());
        let began = Instant::now();
        let asked = async {
            quiet.evicted().await;
            assert!(began.elapsed() + moment >= QUIET);
            drop(quiet);
        };
        let (next, ()) = tokio::join!(connections.enter(&""), asked);
        assert!(used.evicted().now_or_never().is_none() && busy.evicted().now_or_never().is_none());
        drop((request, next, used));
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_always_room_even_who_has_a_call_makes_it() {
        let connections = Connections::new(1, Eviction::Any);
        let busy = connections.enter(&"").await;
        let request = busy.requests().begin();
        let asked = async {
            busy.evicted().await;
            drop(busy);
        };
        let (next, ()) = tokio::join!(connections.enter(&""), asked);
        // The request's task may notice later.
        drop(request);
        assert!(!next.has_requests());
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_quiet_when_no_call_was_there_for_long_enough() {
        let (first, next) = (Duration::from_secs(5), Duration::from_secs(90));
        let connections = Connections::new(1, Eviction::Any);
        let permit = connections.enter(&"").await;
        let began = Instant::now();
        permit.idle_for(first, next).await;
        assert_eq!(began.elapsed(), first);
        let request = permit.requests().begin();
        assert!(tokio::time::timeout(10 * next, permit.idle_for(first, next)).await.is_err());
        drop(request);
        let ended = Instant::now();
        permit.idle_for(first, next).await;
        assert_eq!(ended.elapsed(), next);
    }
}
