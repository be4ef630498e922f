//! The two ends of a streaming job that its caller holds.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use procpool_items::{ItemKind, ItemSlab};
use procpool_scheduler::JobId;
use tokio::sync::{mpsc, watch};

use crate::admission::Admission;
use crate::call::{ResultOrder, ResultRun};
use crate::error::CallError;
use crate::message::Command;
use crate::notify::Notifier;
use crate::outcome::OutcomeRun;
use crate::outlet::{Outbox, Taken};

/// Cancels a job when dropped: notifies the driver that nobody waits for it any more. A clone does so, too.
#[derive(Debug, Clone)]
pub(crate) struct CancelOnDrop {
    job: JobId,
    /// The notification may overtake the job itself, which waits in a channel; so the job carries this.
    is_abandoned: Arc<AtomicBool>,
    /// `None`: the job has ended.
    notifier: Option<Arc<Notifier>>,
}

impl CancelOnDrop {
    pub(crate) fn new(job: JobId, is_abandoned: Arc<AtomicBool>, notifier: Arc<Notifier>) -> Self {
        Self { job, is_abandoned, notifier: Some(notifier) }
    }

    pub(crate) fn job(&self) -> JobId {
        self.job
    }

    /// The job has ended: there is nothing to cancel.
    pub(crate) fn disarm(mut self) {
        self.notifier = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(notifier) = self.notifier.take() {
            self.is_abandoned.store(true, Ordering::Release);
            notifier.notify(|notifications| {
                notifications.taken.remove(&self.job);
                notifications.cancelled.insert(self.job);
            });
        }
    }
}

/// The sending side of a stream of items. Dropping it without [`ItemSink::finish`] cancels the job.
#[derive(Debug)]
pub struct ItemSink {
    commands: mpsc::Sender<Command>,
    admission: Admission,
    allowance: watch::Receiver<u64>,
    cancel: CancelOnDrop,
    kind: Option<ItemKind>,
    sent: u64,
}

impl ItemSink {
    pub(crate) fn new(
        cancel: &CancelOnDrop,
        commands: mpsc::Sender<Command>,
        admission: Admission,
        allowance: watch::Receiver<u64>,
    ) -> Self {
        Self { commands, admission, allowance, cancel: cancel.clone(), kind: None, sent: 0 }
    }

    /// Hands over items; waits while the pool holds as many as its window allows. The last hand-over may pass the
    /// allowance by its own length.
    ///
    /// # Errors
    ///
    /// If the items are of another kind than the ones before or more than the pool ever has room for, or the job has
    /// ended; then the results say why.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, either all of the items were handed over or none.
    pub async fn send(&mut self, items: ItemSlab) -> Result<(), CallError> {
        if *self.kind.get_or_insert_with(|| items.kind()) != items.kind() {
            return Err(CallError::MixedKinds);
        }
        if items.is_empty() {
            return Ok(());
        }
        let sent = self.sent;
        // A closed channel still has its last value, and that may allow more.
        self.allowance.has_changed().map_err(|_| CallError::JobEnded)?;
        self.allowance.wait_for(|&allowed| sent < allowed).await.map_err(|_| CallError::JobEnded)?;
        let num_items = items.len() as u64;
        let items = self.admission.admit(items).await?;
        let room = self.commands.reserve().await.map_err(|_| CallError::JobEnded)?;
        let job = self.cancel.job();
        self.sent += num_items;
        room.send(Command::AddItems { job, items });
        Ok(())
    }

    /// Ends the stream of items.
    pub async fn finish(self) {
        // If the driver is gone, so is the job.
        let _ = self.commands.send(Command::CloseInput { job: self.cancel.job() }).await;
        self.cancel.disarm();
    }
}

/// What a stream yields.
#[derive(Debug)]
pub struct StreamOutput {
    /// Results that are ready now; `None` if only the allowance changed.
    pub run: Option<ResultRun>,
    /// How many items of this job the pool will hold so far, in all. Never falls.
    pub items_allowed: u64,
}

/// The results of a job as they come. Dropping it cancels the job.
#[derive(Debug)]
pub struct ResultStream {
    order: ResultOrder,
    outbox: Arc<Outbox>,
    allowance: watch::Receiver<u64>,
    reports_allowance: bool,
    /// `None` once the job has ended.
    cancel: Option<CancelOnDrop>,
}

impl ResultStream {
    pub(crate) fn new(
        order: ResultOrder,
        outbox: Arc<Outbox>,
        allowance: watch::Receiver<u64>,
        cancel: CancelOnDrop,
    ) -> Self {
        Self { order, outbox, allowance, reports_allowance: false, cancel: Some(cancel) }
    }

    /// Returns the stream of a job without items.
    pub(crate) fn empty() -> Self {
        let (_, allowance) = watch::channel(0);
        Self { order: ResultOrder::Ordered, outbox: Arc::default(), allowance, reports_allowance: false, cancel: None }
    }

    /// A change of the allowance is worth an output of its own.
    pub(crate) fn reporting_allowance(mut self) -> Self {
        self.reports_allowance = true;
        self
    }

    /// Returns what is ready, as soon as anything is; all of it at once. `None` after the last result, or an error.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<StreamOutput, CallError>> {
        loop {
            self.cancel.as_ref()?;
            match self.outbox.take() {
                Taken::Runs(runs, held) => {
                    let run = Some(ResultRun { held, ..merge(self.order, runs) });
                    return Some(Ok(StreamOutput { run, items_allowed: *self.allowance.borrow_and_update() }));
                }
                Taken::End(end) => {
                    self.cancel.take()?.disarm();
                    return end.err().map(Err);
                }
                Taken::Nothing => {}
            }
            tokio::select! {
                biased;
                () = self.outbox.changed() => {}
                // An error means that the driver has dropped its end; the outbox has the end, too.
                Ok(()) = self.allowance.changed(), if self.reports_allowance => {
                    let items_allowed = *self.allowance.borrow_and_update();
                    return Some(Ok(StreamOutput { run: None, items_allowed }));
                }
            }
        }
    }

    /// Sets how many results the reader has taken so far, in all. The pool runs at most its window ahead of this.
    /// Without it, the job stops when its window is full.
    pub fn set_taken(&mut self, total: u64) {
        let Some(CancelOnDrop { job, notifier: Some(notifier), .. }) = &self.cancel else { return };
        notifier.notify(|notifications| {
            notifications.taken.insert(*job, total);
        });
    }
}

/// Makes one run of several: they follow each other if they are ordered, and are named one by one if not.
fn merge(order: ResultOrder, runs: Vec<OutcomeRun>) -> ResultRun {
    let mut merged = ResultRun {
        first_index: runs.first().map_or(0, |run| run.first_index),
        parts: Vec::with_capacity(runs.len()),
        ..ResultRun::default()
    };
    for run in runs {
        if order == ResultOrder::Unordered {
            merged.indexes.extend(run.first_index..run.first_index + run.count);
        } else {
            debug_assert_eq!(run.first_index, merged.first_index + merged.count, "ordered runs follow each other");
        }
        merged.count += run.count;
        merged.parts.push(run.items);
        merged.errors.extend(run.errors);
    }
    merged.errors.sort_by_key(|error| error.index);
    merged
}
