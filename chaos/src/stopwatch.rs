//! Measures how long the pool took to report a death and to start the next worker, through `WatchPool`.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use procpool_client::Client;
use procpool_client::admin::{Event, WorkerChanged, WorkerState};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::plan::Language;
use crate::saboteur::Strike;

/// When which worker was ready or gone.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    changes: Mutex<Vec<(Instant, Language, WorkerChanged)>>,
}

impl Stopwatch {
    /// Watches a pool until the server ends.
    pub(crate) async fn watch(&self, client: &Client, language: Language) {
        let Ok(events) = client.admin().of_pool(language.name()).watch().await else { return };
        let mut events = pin!(events);
        while let Some(Ok(event)) = events.next().await {
            if let Event::WorkerChanged(change) = event {
                let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
                changes.push((Instant::now(), language, change));
            }
        }
    }

    /// Returns the times from each kill of a ready worker to the event of its exit, and to the event of the next ready
    /// worker, in ascending order.
    pub(crate) fn times(&self, strikes: &[Strike], language: Language) -> (Vec<Duration>, Vec<Duration>) {
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut by_slot: HashMap<u32, Vec<(Instant, &WorkerChanged)>> = HashMap::new();
        for (at, _, change) in changes.iter().filter(|(_, of, _)| *of == language) {
            by_slot.entry(change.slot).or_default().push((*at, change));
        }
        let (mut detections, mut replacements) = (Vec::new(), Vec::new());
        let is_of_interest =
            |strike: &&Strike| strike.language == language && strike.was_ready && strike.signal != Signal::STOP;
        for strike in strikes.iter().filter(is_of_interest) {
            let changes = by_slot.get(&strike.slot).map_or(&[][..], Vec::as_slice);
            let is_its_end = |(at, change): &(Instant, &WorkerChanged)| {
                change.state() == WorkerState::Exited && change.pid == strike.pid && *at >= strike.at
            };
            // A watcher that was too slow missed it.
            let Some(end) = changes.iter().position(is_its_end) else { continue };
            detections.push(changes[end].0 - strike.at);
            let is_ready = |change: &WorkerChanged| matches!(change.state(), WorkerState::Ready | WorkerState::Busy);
            if let Some((at, _)) = changes[end..].iter().find(|(_, change)| is_ready(change)) {
                replacements.push(*at - strike.at);
            }
        }
        detections.sort_unstable();
        replacements.sort_unstable();
        (detections, replacements)
    }
}
