//! A connection to a server, shared by clones: its channel, its settings, and what every request over it carries.

use std::sync::Arc;
use std::time::Duration;

use procpool_proto::v1::pool_service_client::PoolServiceClient;
use tokio::time::Instant;
use tonic::Extensions;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

use crate::connect::ClientBuilder;
use crate::retry::{Attempt, Attempts, Throttle};
use crate::transport::Transport;

/// gRFC A6: how many attempts came before this one.
const PREVIOUS_ATTEMPTS: &str = "grpc-previous-rpc-attempts";

#[derive(Debug, Clone)]
pub(crate) struct Connection {
    transport: Transport,
    settings: Arc<ClientBuilder>,
    throttle: Arc<Throttle>,
    /// The headers that every request has.
    headers: MetadataMap,
}

impl Connection {
    pub(crate) fn new(channel: Channel, settings: ClientBuilder) -> Self {
        let mut headers = MetadataMap::new();
        set(&mut headers, CALLER_POOL, &caller_pool());
        let (settings, throttle) = (Arc::new(settings), Arc::new(Throttle::new()));
        Self { transport: Transport(channel), settings, throttle, headers }
    }

    /// Returns the same connection for calls that are a part of a trace.
    pub(crate) fn with_trace_context(&self, traceparent: &str, tracestate: &str) -> Self {
        let mut headers = self.headers.clone();
        set(&mut headers, "traceparent", traceparent);
        set(&mut headers, "tracestate", tracestate);
        Self { headers, ..self.clone() }
    }

    pub(crate) fn settings(&self) -> &ClientBuilder {
        &self.settings
    }

    pub(crate) fn transport(&self) -> Transport {
        self.transport.clone()
    }

    pub(crate) fn pool_service(&self) -> PoolServiceClient<Transport> {
        PoolServiceClient::new(self.transport())
            .max_decoding_message_size(self.settings.max_message_bytes)
            .max_encoding_message_size(self.settings.max_message_bytes)
    }

    /// Returns the attempts of a call.
    pub(crate) fn attempts(&self, deadline: Option<Instant>) -> Attempts {
        let ClientBuilder { retry, retry_notice, .. } = &*self.settings;
        Attempts::new(retry.clone(), retry_notice.clone(), Arc::clone(&self.throttle), deadline)
    }

    /// Returns the request of one attempt at a call.
    pub(crate) fn attempt<M>(&self, attempt: Attempt, message: M) -> tonic::Request<M> {
        let mut request = self.request(message, attempt.timeout);
        if attempt.number > 1 {
            request.metadata_mut().insert(PREVIOUS_ATTEMPTS, (attempt.number - 1).into());
        }
        request
    }

    /// Returns a request; without a timeout it may take for ever.
    pub(crate) fn request<M>(&self, message: M, timeout: Option<Duration>) -> tonic::Request<M> {
        let mut request = tonic::Request::from_parts(self.headers.clone(), Extensions::default(), message);
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        request
    }
}

/// Returns when a time is over. `None`: never, also if it is too long for the clock.
pub(crate) fn deadline_after(timeout: Option<Duration>) -> Option<Instant> {
    Instant::now().checked_add(timeout?)
}

/// The header by which a server knows a call that an item of its own makes.
const CALLER_POOL: &str = "procpool-caller-pool";

/// Returns the pool that this process is a worker of; empty if it is none.
#[expect(clippy::disallowed_methods, reason = "what tells a worker's clients who they are; read once for a connection")]
fn caller_pool() -> String {
    std::env::var("PROCPOOL_POOL").unwrap_or_default()
}

/// Sets a header, or removes it if there is no value, or one that no header can have.
fn set(headers: &mut MetadataMap, name: &'static str, value: &str) {
    match value.parse().ok().filter(|_| !value.is_empty()) {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}
