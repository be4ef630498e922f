//! What is measured and traced of a call: from the arrival of its headers to the end of its answer, whatever ends it.

use std::collections::BTreeSet;
use std::sync::Arc;

use opentelemetry::KeyValue;
use procpool_proto::Reason;
use procpool_proto::v1::pool_service_server::SERVICE_NAME;
use prost::Message as _;
use tokio::time::Instant;
use tonic::Code;

use super::instruments::Instruments;
use super::spans::CallSpan;

/// A call in progress. Dropping it without an end says that it was cancelled.
#[derive(Debug)]
pub(crate) struct CallTelemetry {
    instruments: Arc<Instruments>,
    method: Arc<str>,
    started_at: Instant,
    span: Option<CallSpan>,
    is_ended: bool,
}

impl CallTelemetry {
    pub(super) fn new(instruments: Arc<Instruments>, method: Arc<str>, span: Option<CallSpan>) -> Self {
        Self { instruments, method, started_at: Instant::now(), span, is_ended: false }
    }

    /// Records the end of the call. `refusal` is the reason why it was refused before anything of it had started, if it
    /// was.
    pub(crate) fn end(&mut self, code: Code, refusal: Option<Reason>) {
        if std::mem::replace(&mut self.is_ended, true) {
            return;
        }
        // Calls to the other services are no demand for slots.
        let is_for_slots = self.method.split_once('/').is_some_and(|(service, _)| service == SERVICE_NAME);
        if let Some(reason) = refusal.filter(|_| is_for_slots) {
            self.instruments.refused.add(1, &[KeyValue::new("reason", reason.as_str())]);
        }
        let labels =
            [KeyValue::new("method", Arc::clone(&self.method)), KeyValue::new("code", procpool_proto::code_name(code))];
        self.instruments.calls.add(1, &labels);
        self.instruments.call_duration.record(self.started_at.elapsed().as_secs_f64(), &labels);
        if let Some(span) = &self.span {
            span.end(code);
        }
    }
}

impl Drop for CallTelemetry {
    fn drop(&mut self) {
        self.end(Code::Cancelled, None);
    }
}

/// Returns the methods of our services, as `service/method`.
pub(super) fn served_methods() -> BTreeSet<Arc<str>> {
    let files = prost_types::FileDescriptorSet::decode(procpool_proto::FILE_DESCRIPTOR_SET);
    let files = files.expect("the descriptors were made by the build").file;
    let mut methods = BTreeSet::new();
    for file in &files {
        for service in &file.service {
            let names =
                service.method.iter().map(|method| format!("{}.{}/{}", file.package(), service.name(), method.name()));
            methods.extend(names.map(Arc::from));
        }
    }
    methods
}

#[cfg(test)]
mod tests {
    use super::served_methods;

    #[test]
    fn every_method_of_the_service_is_observed() {
        let methods = served_methods();
        for method in ["Apply", "Map", "StarMap", "IMap", "IMapStream", "ListFunctions"] {
            let method = format!("procpool.v1.PoolService/{method}");
            assert!(methods.contains(method.as_str()), "{method}");
        }
    }
}
