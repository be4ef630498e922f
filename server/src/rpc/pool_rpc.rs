//! What the methods of `PoolService` share.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use procpool_pool::Call;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::call_log::{CallLog, CallLogEntry};
use super::error_context::{ErrorContext, Method};
use super::request_metadata::RequestMetadata;
use super::status;
use crate::pools::Pools;

/// The service, over the pools.
#[derive(Debug)]
pub(crate) struct PoolRpc {
    /// The pools that run the calls.
    pub(crate) pools: Pools,
    /// The largest message, either way.
    pub(crate) max_message_bytes: u32,
    /// Has a token for each call in progress, and the tasks of those that have any.
    pub(crate) calls: TaskTracker,
    /// The log of calls.
    pub(crate) call_log: Arc<CallLog>,
}

/// The messages of a response.
pub(super) type Messages<T> = BoxStream<'static, Result<T, Status>>;

impl PoolRpc {
    /// Starts the log entry of a call that has come in. The server does not end while the entry lives.
    pub(super) fn log_entry(&self, method: Method, metadata: &RequestMetadata) -> CallLogEntry {
        CallLogEntry::new(Arc::clone(&self.call_log), self.calls.token(), method, metadata)
    }

    /// Limits the results of a call to what one message can hold.
    pub(super) fn with_answer_limit(&self, mut call: Call) -> Call {
        call.max_answer_bytes = Some(self.max_message_bytes.into());
        call
    }

    /// Refuses a response that is over the limit, before the library does so with another code.
    pub(super) fn check_response_size(&self, bytes: usize, context: &ErrorContext) -> Result<(), Status> {
        if bytes <= self.max_message_bytes as usize {
            return Ok(());
        }
        Err(status::response_too_large(bytes as u64, u64::from(self.max_message_bytes), context))
    }
}
