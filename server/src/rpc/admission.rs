//! The layer that bounds the calls in progress, and keeps the operators' service for operators.

use std::sync::Arc;

use http::Request;
use procpool_proto::v1::pool_admin_service_server::SERVICE_NAME as ADMIN_SERVICE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::server::NamedService as _;
use tower::{ServiceExt as _, service_fn};

use super::routes::service_of;
use super::{health, status};
use crate::config::ServerConfig;
use crate::listener::{HttpService, RequestStream, hold_until_end};
use crate::operators::Operators;
use crate::peer::Peer;

/// The most calls of operators at a time. They have permits of their own, so that operators can act when all others are
/// taken.
const MAX_ADMIN_CALLS: u32 = 256;

/// Gives each call a permit until its response has ended, or refuses it at once.
pub(super) fn layer<S: HttpService<RequestStream>>(
    inner: S,
    bounds: Arc<CallBounds>,
) -> impl HttpService<RequestStream> {
    service_fn(move |request: Request<RequestStream>| {
        let (inner, admitted) = (inner.clone(), bounds.admit(&request));
        async move {
            let permit = match admitted {
                Ok(permit) => permit,
                Err(refused) => return Ok(refused.into_http()),
            };
            let mut response = inner.oneshot(request).await?;
            hold_until_end(response.extensions_mut(), permit);
            Ok(response)
        }
    })
}

/// How many calls there may be at a time, over all connections. Health checks have permits of their own, and
/// health watches, which have no end, others again: probes are answered when all else is taken.
#[derive(Debug)]
pub(super) struct CallBounds {
    calls: CallBound,
    admin_calls: CallBound,
    health_checks: CallBound,
    health_watches: CallBound,
    operators: Operators,
}

impl CallBounds {
    pub(super) fn new(config: &ServerConfig) -> Self {
        Self {
            calls: CallBound::new(config.max_calls),
            admin_calls: CallBound::new(MAX_ADMIN_CALLS),
            health_checks: CallBound::new(config.max_calls),
            health_watches: CallBound::new(config.max_connections),
            operators: config.operators,
        }
    }

    fn admit<B>(&self, request: &Request<B>) -> Result<OwnedSemaphorePermit, Status> {
        let path = request.uri().path();
        let bound = match service_of(path) {
            health::Service::NAME if path.ends_with("/Check") => &self.health_checks,
            health::Service::NAME => &self.health_watches,
            ADMIN_SERVICE => {
                let peer = request.extensions().get::<Peer>().copied();
                if !peer.is_some_and(|peer| self.operators.include(peer)) {
                    return Err(status::not_an_operator(peer, self.operators));
                }
                &self.admin_calls
            }
            _ => &self.calls,
        };
        Arc::clone(&bound.permits).try_acquire_owned().map_err(|_| status::too_many_calls(bound.limit))
    }
}

#[derive(Debug)]
struct CallBound {
    limit: u32,
    permits: Arc<Semaphore>,
}

impl CallBound {
    fn new(limit: u32) -> Self {
        Self { limit, permits: Arc::new(Semaphore::new(limit as usize)) }
    }
}
