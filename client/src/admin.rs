//! What operators do: get, watch and change the state of a pool.
//!
//! The answers are the messages of the administration API themselves: plain structs, documented in
//! `proto/procpool/v1/pool_admin.proto`.

use std::num::NonZeroU32;

use futures_util::{Stream, StreamExt as _};
use procpool_proto::v1 as proto;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
pub use procpool_proto::v1::watch_pool_response::Event;
pub use procpool_proto::v1::{
    Job, JobEnded, JobStarted, MemoryEnforcement, PoolCounts, PoolLimits, PoolResized, PoolSnapshot, PoolState,
    PoolStateChanged, RestartEnded, RestartStarted, RunningItems, SlotCounts, Worker, WorkerChanged, WorkerState,
};
/// A length of time, as protobuf has it.
pub use prost_types::Duration;

use crate::connection::Connection;
use crate::error::CallError;
use crate::status::call_error;
use crate::transport::Transport;

/// The operator's side of a client: [`Client::admin`](crate::Client::admin) returns it.
#[derive(Debug, Clone)]
pub struct Admin {
    connection: Connection,
    /// The name of the pool. Empty: the only one.
    pool: String,
}

impl Admin {
    pub(crate) fn new(connection: Connection) -> Self {
        Self { connection, pool: String::new() }
    }

    /// Returns the operator's side of one pool of a server that has several.
    #[must_use]
    pub fn of_pool(self, name: impl Into<String>) -> Self {
        Self { pool: name.into(), ..self }
    }

    /// Returns the state of the pool.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, if its pool has stopped, and if it has several pools but none of this name.
    pub async fn pool(&self) -> Result<PoolSnapshot, CallError> {
        let message = proto::GetPoolRequest { pool: self.pool.clone() };
        let request = self.request(message);
        let response = self.service().get_pool(request).await.map_err(call_error)?;
        Ok(response.into_inner().pool.unwrap_or_default())
    }

    /// Returns a stream of the state of the pool and then its changes, until the server ends or the stream is dropped. A
    /// watcher that reads too slowly gets the whole state again.
    ///
    /// # Errors
    ///
    /// As [`Admin::pool`].
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<Event, CallError>> + use<>, CallError> {
        let request = self.connection.request(proto::WatchPoolRequest { pool: self.pool.clone() }, None);
        let events = self.service().watch_pool(request).await.map_err(call_error)?.into_inner();
        Ok(events.filter_map(|message| async { message.map(|message| message.event).map_err(call_error).transpose() }))
    }

    /// Sets the number of slots. Returns the previous number.
    ///
    /// # Errors
    ///
    /// As [`Admin::pool`], and if there are more slots than the server allows.
    pub async fn resize(&self, slots: NonZeroU32) -> Result<u32, CallError> {
        let message = proto::ResizePoolRequest { num_slots: slots.get(), pool: self.pool.clone() };
        let request = self.request(message);
        let response = self.service().resize_pool(request).await.map_err(call_error)?;
        Ok(response.into_inner().previous_num_slots)
    }

    /// Replaces every worker, of every pool unless one is [named](Admin::of_pool), one slot at a time and without a failed
    /// call. Returns the number of workers when all new ones are ready.
    ///
    /// # Errors
    ///
    /// As [`Admin::pool`]; if the server ends before that; and if that takes longer than `timeout`. Then the restart goes
    /// on, and the error tells how many workers are left and why the last new one did not start.
    pub async fn restart_workers(&self, timeout: Option<std::time::Duration>) -> Result<u32, CallError> {
        let request = self.connection.request(proto::RestartWorkersRequest { pool: self.pool.clone() }, timeout);
        let response = self.service().restart_workers(request).await.map_err(call_error)?;
        Ok(response.into_inner().num_restarted)
    }

    /// Returns the current stacks of a worker's threads, as its language prints them, that of the running item first.
    ///
    /// # Errors
    ///
    /// As [`Admin::pool`], and if there is no such worker, or it cannot tell or does not answer ([`CallError::Other`] with
    /// the reason).
    pub async fn dump_worker(&self, worker_id: u64) -> Result<String, CallError> {
        let message = proto::DumpWorkerRequest { worker_id, pool: self.pool.clone() };
        let request = self.request(message);
        Ok(self.service().dump_worker(request).await.map_err(call_error)?.into_inner().stacks)
    }

    /// Cancels a job, of whatever pool: its call fails with [`CallError::Cancelled`].
    ///
    /// # Errors
    ///
    /// If the server cannot be reached, and if there is no such job, or not any more ([`CallError::Other`] with the reason).
    pub async fn cancel_job(&self, job: u64) -> Result<(), CallError> {
        let request = self.request(proto::CancelJobRequest { job });
        self.service().cancel_job(request).await.map_err(call_error)?;
        Ok(())
    }

    /// Drains the server: it refuses new calls, finishes those in progress, and ends.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached.
    pub async fn drain(&self) -> Result<(), CallError> {
        let request = self.request(proto::DrainPoolRequest {});
        self.service().drain_pool(request).await.map_err(call_error)?;
        Ok(())
    }

    fn request<M>(&self, message: M) -> tonic::Request<M> {
        self.connection.request(message, self.connection.settings().default_timeout)
    }

    fn service(&self) -> PoolAdminServiceClient<Transport> {
        PoolAdminServiceClient::new(self.connection.transport())
    }
}
