//! The methods of `PoolAdminService`, for operators.

use std::num::NonZeroU32;
use std::pin::Pin;
use std::time::Duration;

use futures_util::Stream;
use futures_util::future::try_join_all;
use procpool_pool::{
    CallError, JobReport, PoolConfig, PoolCounts, PoolEvent, PoolSnapshot, PoolWatch, Readiness, Restart, SlotCounts,
    WorkerReport, WorkerState,
};
use procpool_proto::v1;
use procpool_proto::v1::pool_admin_service_server::PoolAdminService;
use procpool_proto::v1::watch_pool_response::Event;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::deadline::Deadline;
use super::request_metadata::trace_id;
use super::status;
use crate::pools::{Pool, Pools};

/// More slots than any machine has use for: a typing mistake should not start a million processes.
const MAX_SLOTS: u32 = 4096;

/// The service, over the pools.
#[derive(Debug, Clone)]
pub(crate) struct AdminRpc {
    /// The pools to inspect and change.
    pub(crate) pools: Pools,
    /// Cancelled to drain the server.
    pub(crate) drain_requested: CancellationToken,
}

impl AdminRpc {
    /// Returns the pool that a request is for.
    fn pool(&self, name: &str) -> Result<&Pool, Status> {
        self.pools.named(name).ok_or_else(|| {
            let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
            let problem = match name {
                "" => format!("is required: this server has the pools {}", names.join(", ")),
                _ => format!("there is no pool {name:?}, only {}", names.join(", ")),
            };
            status::invalid_argument(vec![status::violation("pool", problem)], "")
        })
    }
}

#[tonic::async_trait]
impl PoolAdminService for AdminRpc {
    async fn get_pool(&self, request: Request<v1::GetPoolRequest>) -> Result<Response<v1::GetPoolResponse>, Status> {
        let pool = self.pool(&request.get_ref().pool)?;
        let snapshot = pool.handle.snapshot().await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::GetPoolResponse { pool: Some(pool_snapshot(pool, snapshot)) }))
    }

    type WatchPoolStream = Pin<Box<dyn Stream<Item = Result<v1::WatchPoolResponse, Status>> + Send>>;

    async fn watch_pool(
        &self,
        request: Request<v1::WatchPoolRequest>,
    ) -> Result<Response<Self::WatchPoolStream>, Status> {
        let pool = self.pool(&request.get_ref().pool)?;
        let watch = pool.handle.watch().await.map_err(|error| refused(&error))?;
        Ok(Response::new(Box::pin(events(pool.clone(), watch))))
    }

    async fn resize_pool(
        &self,
        request: Request<v1::ResizePoolRequest>,
    ) -> Result<Response<v1::ResizePoolResponse>, Status> {
        let v1::ResizePoolRequest { num_slots: wanted, pool } = request.into_inner();
        let pool = self.pool(&pool)?;
        let Some(slots) = NonZeroU32::new(wanted).filter(|slots| slots.get() <= MAX_SLOTS) else {
            let problem = format!("{wanted} is not between 1 and {MAX_SLOTS}");
            return Err(status::invalid_argument(vec![status::violation("num_slots", problem)], ""));
        };
        let previous_num_slots = pool.handle.resize(slots).await.map_err(|error| refused(&error))?;
        Ok(Response::new(v1::ResizePoolResponse { previous_num_slots }))
    }

    async fn restart_workers(
        &self,
        request: Request<v1::RestartWorkersRequest>,
    ) -> Result<Response<v1::RestartWorkersResponse>, Status> {
        let deadline = request.extensions().get::<Deadline>().and_then(|deadline| deadline.pool);
        let name = &request.get_ref().pool;
        let pools = if name.is_empty() { self.pools.iter().collect() } else { vec![self.pool(name)?] };
        let begun = pools.iter().map(|pool| pool.handle.begin_restart());
        let mut restarts = try_join_all(begun).await.map_err(|error| refused(&error))?;
        let finished = try_join_all(restarts.iter_mut().map(Restart::finished));
        let finished = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, finished).await.ok(),
            None => Some(finished.await),
        };
        let Some(num_restarted) = finished else {
            let left = pools.iter().zip(&restarts).map(|(pool, restart)| (pool.name.as_str(), restart));
            return Err(status::restart_unfinished(left));
        };
        let num_restarted = num_restarted.map_err(|error| {
            tracing::debug!(%error, "a restart was cut short");
            status::restart_cut_short()
        })?;
        Ok(Response::new(v1::RestartWorkersResponse { num_restarted: num_restarted.iter().sum() }))
    }

    async fn dump_worker(
        &self,
        request: Request<v1::DumpWorkerRequest>,
    ) -> Result<Response<v1::DumpWorkerResponse>, Status> {
        let v1::DumpWorkerRequest { worker_id, pool } = request.into_inner();
        let dump = self.pool(&pool)?.handle.dump_worker(worker_id).await;
        let stacks = dump.map_err(|failure| status::dump_failed(failure, worker_id))?;
        Ok(Response::new(v1::DumpWorkerResponse { stacks }))
    }

    async fn cancel_job(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let job = request.get_ref().job;
        for pool in self.pools.iter() {
            if pool.handle.cancel_job(job).await {
                return Ok(Response::new(v1::CancelJobResponse {}));
            }
        }
        Err(status::no_such_job(job))
    }

    async fn drain_pool(
        &self,
        _request: Request<v1::DrainPoolRequest>,
    ) -> Result<Response<v1::DrainPoolResponse>, Status> {
        tracing::info!("an operator asked to drain the server");
        self.drain_requested.cancel();
        Ok(Response::new(v1::DrainPoolResponse {}))
    }
}

/// The only possible cause: the pool has stopped or drains.
fn refused(error: &CallError) -> Status {
    tracing::debug!(%error, "an operator's wish was refused");
    status::shutting_down()
}

fn events(pool: Pool, watch: PoolWatch) -> impl Stream<Item = Result<v1::WatchPoolResponse, Status>> {
    async_stream::stream! {
        let PoolWatch { snapshot, mut events } = watch;
        yield Ok(response(Event::Snapshot(pool_snapshot(&pool, snapshot))));
        loop {
            match events.recv().await {
                Ok(event) => yield Ok(response(watched_event(event))),
                // Missed events are replaced by a new snapshot.
                Err(RecvError::Lagged(_)) => match pool.handle.watch().await {
                    Ok(again) => {
                        events = again.events;
                        yield Ok(response(Event::Snapshot(pool_snapshot(&pool, again.snapshot))));
                    }
                    Err(_) => break,
                },
                Err(RecvError::Closed) => break,
            }
        }
    }
}

fn response(event: Event) -> v1::WatchPoolResponse {
    v1::WatchPoolResponse { event: Some(event) }
}

fn watched_event(event: PoolEvent) -> Event {
    match event {
        PoolEvent::Worker { worker_id, slot, pid, state, reason } => {
            Event::WorkerChanged(v1::WorkerChanged { worker_id, slot, pid, state: worker_state(state).into(), reason })
        }
        PoolEvent::JobStarted { job, function, num_items } => {
            Event::JobStarted(v1::JobStarted { job, function, num_items })
        }
        PoolEvent::JobEnded { job, error } => Event::JobEnded(v1::JobEnded { job, error }),
        PoolEvent::Resized { before, num_slots } => {
            Event::PoolResized(v1::PoolResized { previous_num_slots: before, num_slots })
        }
        PoolEvent::RestartBegan { num_workers } => Event::RestartStarted(v1::RestartStarted { num_workers }),
        PoolEvent::RestartEnded { is_complete } => Event::RestartEnded(v1::RestartEnded { complete: is_complete }),
        PoolEvent::State(state) => Event::PoolStateChanged(v1::PoolStateChanged { state: pool_state(state).into() }),
    }
}

fn pool_snapshot(of: &Pool, snapshot: PoolSnapshot) -> v1::PoolSnapshot {
    let PoolSnapshot { pool, workers, jobs, last_start_failure, memory, counts } = snapshot;
    let held = of.handle.held();
    let enforcement =
        if memory.hard_bytes.is_some() { v1::MemoryEnforcement::Monitor } else { v1::MemoryEnforcement::None };
    v1::PoolSnapshot {
        state: pool_state(pool.readiness).into(),
        num_slots: pool.num_slots,
        workers: workers.into_iter().map(worker).collect(),
        num_jobs: u32::try_from(pool.num_jobs).unwrap_or(u32::MAX),
        num_queued_items: pool.num_queued_items,
        num_running_items: pool.num_running_items,
        workers_started_total: pool.workers_started_total,
        last_start_failure,
        server_version: env!("CARGO_PKG_VERSION").to_owned(),
        restarting: pool.restarting,
        name: of.name.clone(),
        max_worker_memory_bytes: memory.soft_bytes.unwrap_or(0),
        worker_memory_limit_bytes: memory.hard_bytes.unwrap_or(0),
        memory_enforcement: enforcement.into(),
        held_slots: pool.held_slots.iter().map(|slot| slot.0).collect(),
        limits: Some(limits(of.handle.config())),
        num_held_items: held.items,
        held_bytes: held.bytes,
        slots: Some(slots(pool.slots)),
        counts: Some(pool_counts(counts)),
        jobs: jobs.into_iter().map(job).collect(),
    }
}

fn limits(config: &PoolConfig) -> v1::PoolLimits {
    v1::PoolLimits {
        max_queued_items: config.max_queued_items,
        max_queued_bytes: config.max_queued_bytes.into(),
        item_timeout: config.item_timeout.and_then(duration),
        worker_start_timeout: duration(config.worker_start_timeout),
        cancel_grace_period: duration(config.cancel_grace_period),
        kill_grace_period: duration(config.kill_grace_period),
        max_items_per_worker: config.max_items_per_worker.map_or(0, NonZeroU32::get),
        max_worker_age: config.max_worker_age.and_then(duration),
        idle_timeout: config.idle_timeout.and_then(duration),
        crash_limit: config.crash_limit.get(),
    }
}

fn slots(slots: SlotCounts) -> v1::SlotCounts {
    let SlotCounts { starting, ready, busy, stopping, empty } = slots;
    v1::SlotCounts { starting, ready, busy, stopping, empty }
}

fn pool_counts(counts: PoolCounts) -> v1::PoolCounts {
    v1::PoolCounts {
        jobs_total: counts.jobs_total,
        jobs_failed_total: counts.jobs_failed_total,
        items_succeeded_total: counts.items_succeeded_total,
        items_failed_total: counts.items_failed_total,
        items_dropped_total: counts.items_dropped_total,
        worker_exits_total: counts.worker_exits_total.into_iter().map(|(reason, n)| (reason.to_owned(), n)).collect(),
    }
}

fn worker(report: WorkerReport) -> v1::Worker {
    let function = report.function;
    let running = report.running.map(|running| v1::RunningItems {
        job: running.job.0,
        function,
        first_index: running.first_index,
        count: running.count,
    });
    v1::Worker {
        worker_id: report.worker_id,
        slot: report.slot,
        pid: report.pid,
        state: worker_state(report.state).into(),
        age: duration(report.age),
        num_finished_items: report.num_finished_items,
        rss_bytes: report.usage.map_or(0, |usage| usage.rss_bytes),
        cpu_time: report.usage.and_then(|usage| duration(usage.cpu_time)),
        running,
    }
}

fn job(report: JobReport) -> v1::Job {
    let JobReport { job, label, function, trace, num_failed_items, age, remaining_time } = report;
    v1::Job {
        job: job.id.0,
        method: label.method.to_owned(),
        function,
        request_id: label.request_id,
        trace_id: trace_id(&trace).to_owned(),
        age: duration(age),
        remaining_time: remaining_time.and_then(duration),
        priority: job.priority,
        num_items: job.num_items,
        num_queued_items: job.num_queued_items,
        num_running_items: job.num_running_items,
        num_finished_items: job.num_finished_items,
        num_failed_items,
        input_open: job.input_open,
        waits_for_reader: job.waits_for_reader,
    }
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn worker_state(state: WorkerState) -> v1::WorkerState {
    match state {
        WorkerState::Starting => v1::WorkerState::Starting,
        WorkerState::Ready => v1::WorkerState::Ready,
        WorkerState::Busy => v1::WorkerState::Busy,
        WorkerState::Stopping => v1::WorkerState::Stopping,
        WorkerState::Exited => v1::WorkerState::Exited,
    }
}

fn pool_state(state: Readiness) -> v1::PoolState {
    match state {
        Readiness::Starting => v1::PoolState::Starting,
        Readiness::Ready => v1::PoolState::Ready,
        Readiness::Degraded => v1::PoolState::Degraded,
        Readiness::Draining => v1::PoolState::Draining,
        Readiness::Stopped => v1::PoolState::Stopped,
    }
}
