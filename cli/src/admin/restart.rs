//! Reports the progress of a restart on stderr: it may take long, and new code may fail to start.

use std::collections::BTreeSet;
use std::pin::pin;

use futures_util::StreamExt as _;
use procpool_client::CallError;
use procpool_client::admin::{Admin, Event, WorkerChanged, WorkerState};

use crate::print::print_message;

/// Waits for a restart and meanwhile reports the workers that become ready or fail to. Reports nothing for several pools:
/// the server's watch is for one.
pub(super) async fn report_while(
    admin: &Admin,
    restart: impl Future<Output = Result<u32, CallError>>,
) -> Result<u32, CallError> {
    let mut restart = pin!(restart);
    let watch = tokio::select! {
        biased;
        watch = admin.watch() => watch,
        replaced = restart.as_mut() => return replaced,
    };
    let Ok(events) = watch else { return restart.await };
    let mut events = pin!(events);
    let mut starting = BTreeSet::new();
    loop {
        tokio::select! {
            biased;
            event = events.next() => match event {
                Some(Ok(Event::WorkerChanged(change))) => report(&change, &mut starting),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return restart.await,
            },
            replaced = restart.as_mut() => return replaced,
        }
    }
}

/// `starting`: the workers that were seen to start, and not to become ready.
fn report(change: &WorkerChanged, starting: &mut BTreeSet<u64>) {
    let WorkerChanged { worker_id, slot, pid, reason, .. } = change;
    match change.state() {
        WorkerState::Starting => {
            starting.insert(*worker_id);
        }
        WorkerState::Ready => {
            starting.remove(worker_id);
            print_message(&format!("slot {slot}: worker {worker_id} is ready, process {pid}"));
        }
        WorkerState::Exited if starting.remove(worker_id) => {
            print_message(&format!("slot {slot}: worker {worker_id} did not become ready: {reason}"));
        }
        _ => {}
    }
}
