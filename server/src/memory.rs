//! Returns freed memory to the system.
//!
//! The allocator keeps what is freed, except at the end of its heaps, and what a burst of requests has spread over them
//! stays resident for ever. It gives back the pages in between when it is asked to. That takes a fraction of a
//! millisecond where there is little to give back, and longer the more there is; so it is asked when nothing is going
//! on, and under load now and then, on a thread where nobody waits.
#![cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "malloc_trim is a function of the C library alone"))]

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const INTERVAL_UNDER_LOAD: Duration = Duration::from_secs(60);
/// More than the process had at rest: worth it then, and under load.
const WORTH_AT_REST: usize = 4 << 20;
const WORTH_UNDER_LOAD: usize = 64 << 20;

/// Gives back what was freed, now and then. Ends only when it is dropped.
pub(crate) async fn give_back(calls: TaskTracker) {
    let mut looks = interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut at_rest = resident_bytes();
    let mut last = Instant::now();
    loop {
        looks.tick().await;
        let is_at_rest = calls.is_empty();
        let worth = if is_at_rest { WORTH_AT_REST } else { WORTH_UNDER_LOAD };
        let is_due = is_at_rest || last.elapsed() >= INTERVAL_UNDER_LOAD;
        if !is_due || resident_bytes() < at_rest + worth {
            continue;
        }
        let before = resident_bytes();
        if let Err(error) = tokio::task::spawn_blocking(trim).await {
            tracing::error!(%error, "freed memory is not given back");
        }
        let after = resident_bytes();
        tracing::debug!(before, after, "gave back freed memory");
        last = Instant::now();
        if is_at_rest {
            at_rest = after;
        }
    }
}

/// Returns the bytes of this process that are in memory; 0 where the system does not tell.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size()
}

/// Gives back the pages that are free.
#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it takes no pointer, and locks what it looks at.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such function.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_is_free_between_what_is_not_goes_back() {
        let before = resident_bytes();
        // 100 MB, of which one in a thousand stays.
        let all: Vec<Vec<u8>> = (0..25_000).map(|_| vec![7; 4000]).collect();
        assert!(resident_bytes() - before > 80 << 20);
        let kept: Vec<_> = all.into_iter().step_by(1000).collect();
        trim();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 20 << 20, "{grown} bytes stay for {} pieces", kept.len());
    }
}
