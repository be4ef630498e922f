//! Millions of tiny results for a reader that sleeps before it takes the first: its connection survives, the results
//! arrive in order, and the pool never runs further ahead than the window.
//!
//! The pool is ahead by the items that its workers have finished minus those that the reader has taken. The first
//! number is requested before the second is read, so the result is never too large.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};
use procpool_client::{Client, iter};
use tokio::time::{Instant, MissedTickBehavior};

use crate::row::Row;
use crate::server::{Server, mebibytes, most_growth};

const WINDOW: u32 = 1024;
const MOST_MEMORY: u64 = 64 << 20;

/// Measures; returns the table.
pub(crate) async fn run(items: u64, sleep: Duration) -> Result<Vec<Row>> {
    let server = Server::start().await?;
    let taken = Arc::new(AtomicU64::new(0));
    let load = async {
        let mut most_ahead = 0;
        let observer = Client::connect(server.address()).await?.admin();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading = std::pin::pin!(read_all(&server, items, sleep, &taken));
        loop {
            tokio::select! {
                read = reading.as_mut() => break read.map(|read| (read, most_ahead)),
                _ = tick.tick() => {
                    let finished: u64 = observer.pool().await?.workers.iter().map(|worker| worker.num_finished_items).sum();
                    most_ahead = most_ahead.max(finished.saturating_sub(taken.load(Ordering::Acquire)));
                }
            }
        }
    };
    let ((read_time, most_ahead), grown) = most_growth(&server, load).await?;
    let rate = u128::from(items) * 1000 / read_time.as_millis().max(1);
    Ok(vec![
        Row::bounded("results, in order, without an error", items.to_string(), "all", true),
        Row::new("the reader slept for", format!("{sleep:?}")),
        Row::new("then it took", format!("{read_time:.1?}, {rate} items/s")),
        Row::bounded(
            "the pool was ahead by at most",
            most_ahead.to_string(),
            format!("the window, {WINDOW}"),
            most_ahead <= u64::from(WINDOW),
        ),
        Row::bounded("memory of the server", format!("+{}", mebibytes(grown)), "64 MiB", grown <= MOST_MEMORY),
    ])
}

/// Sleeps before the first result, then takes all of them; returns how long that took.
async fn read_all(server: &Server, items: u64, sleep: Duration, taken: &AtomicU64) -> Result<Duration> {
    let client = Client::connect(server.address()).await?;
    let mut results = client.imap_stream::<u64>("echo", iter(0..items)).window(WINDOW).await?;
    tokio::time::sleep(sleep).await;
    let started_at = Instant::now();
    let mut next = 0;
    while let Some(item) = results.try_next().await? {
        let result = item.result?;
        ensure!((item.index, result) == (next, next), "result {next} was item {} with {result}", item.index);
        next += 1;
        taken.store(next, Ordering::Release);
    }
    ensure!(next == items, "the stream ended after {next} results");
    Ok(started_at.elapsed())
}
