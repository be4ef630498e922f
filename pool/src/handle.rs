//! The pool as its callers see it.

use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_items::ItemSlab;
use procpool_scheduler::{Delivery, Readiness};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::admission::{Admission, AdmittedItems, CommonPermit};
use crate::call::{
    Apply, ApplyOutput, Call, CallStyle, CommonArgument, MapOutput, OnError, ResultOrder, StreamOptions,
};
use crate::config::PoolConfig;
use crate::driver;
use crate::error::{CallError, DeadlinePhase};
use crate::function::{FunctionInfo, FunctionTable, nearest_names};
use crate::job_number::JobNumbers;
use crate::message::{Command, Published, Submission};
use crate::notify::Notifier;
use crate::observer::PoolObserver;
use crate::outlet::{Outlet, StreamOutlet};
use crate::snapshot::Held;
use crate::stream::{CancelOnDrop, ItemSink, ResultStream};
use crate::supervisor::WorkerSpawner;

/// How many commands may wait for the driver. It never waits itself, so the channel is as good as empty.
const COMMAND_CAPACITY: usize = 64;
/// More than a frame with a common argument has beside its bytes and its content type.
const COMMON_OVERHEAD_BYTES: usize = 64;

/// A running pool, to call functions on. Cheap to clone. When the last one is dropped, the pool stops at once.
#[derive(Debug, Clone)]
pub struct PoolHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    admission: Admission,
    max_frame_bytes: u32,
    commands: mpsc::Sender<Command>,
    notifier: Arc<Notifier>,
    published: Published,
    job_numbers: JobNumbers,
}

/// The pool's task; whoever starts a pool joins it.
#[derive(Debug)]
pub struct PoolTask {
    driver: JoinHandle<()>,
}

impl PoolTask {
    /// Waits until every worker is gone, after [`PoolHandle::drain`] or [`PoolHandle::stop_now`].
    ///
    /// # Panics
    ///
    /// If the pool's task did: a bug.
    pub async fn join(self) {
        if let Err(error) = self.driver.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

impl PoolHandle {
    /// Starts a pool and its workers. Must be called within a tokio runtime. What the pool logs is logged in the span
    /// that this is called in.
    pub fn start(config: PoolConfig, spawner: Arc<dyn WorkerSpawner>) -> (Self, PoolTask) {
        Self::start_observed(config, spawner, None, JobNumbers::default())
    }

    /// Starts a pool as [`PoolHandle::start`] does, with somebody who watches it, and who may give the same numbers to
    /// several pools.
    pub fn start_observed(
        config: PoolConfig,
        spawner: Arc<dyn WorkerSpawner>,
        observer: Option<Arc<dyn PoolObserver>>,
        job_numbers: JobNumbers,
    ) -> (Self, PoolTask) {
        let (commands, command_receiver) = mpsc::channel(COMMAND_CAPACITY);
        let notifier = Arc::new(Notifier::default());
        let inputs = driver::Inputs { commands: command_receiver, notifier: Arc::clone(&notifier), observer };
        let max_frame_bytes = spawner.max_frame_bytes();
        let (driver, published) = driver::spawn(&config, spawner, inputs);
        let shared = Shared {
            admission: Admission::new(&config),
            max_frame_bytes,
            config,
            commands,
            notifier,
            published,
            job_numbers,
        };
        (Self { shared: Arc::new(shared) }, PoolTask { driver })
    }

    /// Runs a function over every item; the results are in the order of the items. Waits for the first worker to
    /// become ready if there has been none yet.
    ///
    /// # Errors
    ///
    /// If the pool refuses or gives up the call, or, failing fast, with the first item that failed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future cancels the job: queued items never run.
    pub async fn map(&self, call: Call, items: ItemSlab) -> Result<MapOutput, CallError> {
        if items.is_empty() {
            return Ok(MapOutput::default());
        }
        let items = self.admit(items)?;
        let (outlet, output) = oneshot::channel();
        let ends = (Delivery::Whole, Outlet::Whole(outlet));
        let cancel = self.submit(call, Some(items), ends, OnError::FailFast).await?;
        let result = output.await.unwrap_or(Err(CallError::PoolGone));
        cancel.disarm();
        result
    }

    /// Runs a function once. `call.style` must be [`CallStyle::Apply`].
    ///
    /// # Errors
    ///
    /// As [`PoolHandle::map`].
    ///
    /// # Cancel safety
    ///
    /// As [`PoolHandle::map`].
    pub async fn apply(&self, call: Call, arguments: Apply) -> Result<ApplyOutput, CallError> {
        debug_assert_eq!(call.style, CallStyle::Apply, "apply is called in its own style");
        let kind = arguments.args.kind();
        let MapOutput { parts, held, .. } = self.map(call, arguments.into_item()).await?;
        // The session let only a well-formed list of one result through.
        let results = parts.first().and_then(|list| ItemSlab::parse(kind, list.clone()).ok());
        let result = results.filter(|results| results.len() == 1).map(|results| results.item(0));
        Ok(ApplyOutput { result: result.ok_or(CallError::PoolGone)?, held })
    }

    /// Runs a function over every item and streams the results.
    ///
    /// # Errors
    ///
    /// If the pool refuses the call.
    pub async fn imap(&self, call: Call, items: ItemSlab, options: StreamOptions) -> Result<ResultStream, CallError> {
        if items.is_empty() {
            return Ok(ResultStream::empty());
        }
        let items = self.admit(items)?;
        let (outlet, outbox, allowance) = StreamOutlet::new();
        let ends = (stream_delivery(options), Outlet::Stream(outlet));
        let cancel = self.submit(call, Some(items), ends, OnError::Collect).await?;
        Ok(ResultStream::new(options.order, outbox, allowance, cancel))
    }

    /// Runs a function over a stream of items. The first output of the results only tells how many items are allowed.
    ///
    /// # Errors
    ///
    /// If the pool refuses the call.
    pub async fn imap_stream(&self, call: Call, options: StreamOptions) -> Result<(ItemSink, ResultStream), CallError> {
        let (outlet, outbox, allowance) = StreamOutlet::new();
        let ends = (stream_delivery(options), Outlet::Stream(outlet));
        let cancel = self.submit(call, None, ends, OnError::Collect).await?;
        let sink =
            ItemSink::new(&cancel, self.shared.commands.clone(), self.shared.admission.clone(), allowance.clone());
        Ok((sink, ResultStream::new(options.order, outbox, allowance, cancel).reporting_allowance()))
    }

    /// Returns the functions that the workers registered, by name; empty until one is ready.
    pub fn functions(&self) -> Vec<FunctionInfo> {
        self.shared.published.functions.borrow().values().cloned().collect()
    }

    /// Returns the functions that the workers registered which are ready, now and on every change. When the pool has
    /// [started](PoolHandle::started), they are there. While no worker is ready, those of the last ones are.
    pub fn function_table(&self) -> watch::Receiver<Arc<FunctionTable>> {
        self.shared.published.functions.clone()
    }

    /// Waits until the first worker is ready, or is known not to become so.
    ///
    /// # Errors
    ///
    /// If no worker could be started, the pool is ending, or the deadline passes.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn started(&self, deadline: Option<Instant>) -> Result<(), CallError> {
        let mut status = self.shared.published.status.clone();
        let started = status.wait_for(|status| status.readiness != Readiness::Starting);
        let started = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, started)
                .await
                .map_err(|_| CallError::DeadlineExceeded { phase: DeadlinePhase::Queued })?,
            // A worker that does not become ready degrades the pool after `worker_start_timeout`: this ends.
            None => started.await,
        };
        let status = started.map_err(|_| CallError::PoolGone)?;
        status.takes_calls()
    }

    /// Returns whether the first worker start is still undecided.
    pub fn is_starting(&self) -> bool {
        self.shared.published.status.borrow().readiness == Readiness::Starting
    }

    /// Returns the readiness of the pool, now and on every change.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.shared.published.readiness.clone()
    }

    /// Returns the number of slots: as many as the settings say, or as [`PoolHandle::resize`] has set.
    pub fn num_slots(&self) -> u32 {
        self.shared.published.status.borrow().num_slots
    }

    /// Returns how much it holds of what `max_queued_items` and `max_queued_bytes` allow.
    pub fn held(&self) -> Held {
        self.shared.admission.held()
    }

    /// Returns the settings. The number of slots may be another by now.
    pub fn config(&self) -> &PoolConfig {
        &self.shared.config
    }

    /// Takes nothing new, finishes what was accepted, then stops the workers.
    pub fn drain(&self) {
        self.shared.notifier.notify(|notifications| notifications.drain = true);
    }

    /// Fails every call with [`CallError::Draining`] and stops the workers: SIGTERM, then SIGKILL after the grace
    /// period.
    pub fn stop_now(&self) {
        self.shared.notifier.notify(|notifications| notifications.stop = true);
    }

    /// Finds the function, waiting for the first worker if there has been none; returns how often an item may be executed.
    /// What the call holds is admitted before, so that calls that wait here are bounded, too.
    async fn resolve(&self, call: &Call) -> Result<u32, CallError> {
        self.started(call.deadline).await?;
        let functions = self.shared.published.functions.borrow();
        let function = functions.get(&call.function).ok_or_else(|| CallError::FunctionNotFound {
            name: call.function.clone(),
            nearest: nearest_names(functions.keys(), &call.function),
            started: false,
        })?;
        if call.common.is_some() && !function.takes_common {
            return Err(CallError::CommonNotTaken);
        }
        let default_attempts = if function.idempotent { self.shared.config.crash_limit.get() } else { 1 };
        Ok(call.options.max_attempts.map_or(default_attempts, NonZeroU32::get))
    }

    /// Reserves permits for the items of a call. Checks readiness first: a client told "queue full" would retry against a
    /// pool that is draining.
    fn admit(&self, items: ItemSlab) -> Result<AdmittedItems, CallError> {
        self.shared.published.status.borrow().takes_calls()?;
        self.shared.admission.try_admit(items)
    }

    /// Reserves permits for the common argument of a call.
    fn admit_common(&self, call: &Call) -> Result<Option<CommonPermit>, CallError> {
        let Some(CommonArgument { content_type, bytes, .. }) = &call.common else { return Ok(None) };
        debug_assert_ne!(call.style, CallStyle::Apply, "all arguments of apply are its own");
        let limit = (self.shared.max_frame_bytes as usize).saturating_sub(COMMON_OVERHEAD_BYTES + content_type.len());
        if bytes.len() > limit {
            return Err(CallError::CommonTooLong { bytes: bytes.len() as u64, limit: limit as u64 });
        }
        self.shared.admission.try_admit_common(bytes.len()).map(Some)
    }

    /// Submits a job, which is cancelled when what this returns is dropped. `items`: `None` if they come later.
    async fn submit(
        &self,
        mut call: Call,
        items: Option<AdmittedItems>,
        (delivery, outlet): (Delivery, Outlet),
        default_on_error: OnError,
    ) -> Result<CancelOnDrop, CallError> {
        let common_permit = self.admit_common(&call)?;
        let max_attempts = self.resolve(&call).await?;
        let job = self.shared.job_numbers.next();
        call.job.set(job);
        let is_abandoned = Arc::default();
        let cancel = CancelOnDrop::new(job, Arc::clone(&is_abandoned), Arc::clone(&self.shared.notifier));
        let submission = Submission {
            is_abandoned,
            job,
            max_attempts,
            item_timeout: call.options.item_timeout.or(self.shared.config.item_timeout),
            fail_fast: call.options.on_error.unwrap_or(default_on_error) == OnError::FailFast,
            delivery,
            outlet,
            common: call.common.take().zip(common_permit),
            items,
            call,
        };
        self.send(Command::Submit(Box::new(submission))).await?;
        Ok(cancel)
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), CallError> {
        self.shared.commands.send(command).await.map_err(|_| CallError::Draining { started: false })
    }
}

fn stream_delivery(options: StreamOptions) -> Delivery {
    let window = options.window.map(NonZeroU32::get);
    match options.order {
        ResultOrder::Ordered => Delivery::Ordered { window },
        ResultOrder::Unordered => Delivery::Unordered { window },
    }
}
