//! The log lines of calls: one for each call that ended, but no more than a bound in a second.
//!
//! The server's own error messages are logged in full. The text of an exception or of an invalid item is the user's data:
//! its line has the reason, the type and the index, and a line of level debug has the text.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procpool_pool::JobNumber;
use procpool_proto::Reason;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

use super::error_context::Method;
use super::request_metadata::{RequestMetadata, trace_id};
use super::status;
use crate::peer::Peer;

/// The most lines of calls that failed or were cancelled, in a second.
const MAX_LINES_PER_SECOND: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Counts the lines of the current second. Shared by all calls.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    second: Mutex<Second>,
    /// Notified with the first line that is dropped.
    has_dropped: Notify,
}

#[derive(Debug, Default)]
struct Second {
    began: Option<Instant>,
    num_lines: u32,
    num_dropped: u64,
}

impl CallLog {
    /// Counts a line. Returns whether it is within the limit.
    fn admit(&self, now: Instant) -> bool {
        let mut second = self.second();
        if second.began.is_none_or(|began| now >= began + SECOND) {
            (second.began, second.num_lines) = (Some(now), 0);
        }
        if second.num_lines < MAX_LINES_PER_SECOND {
            second.num_lines += 1;
            return true;
        }
        second.num_dropped += 1;
        if second.num_dropped == 1 {
            self.has_dropped.notify_one();
        }
        false
    }

    /// Logs how many lines were dropped, a second after the first of them, until `ended` is cancelled.
    pub(crate) async fn report_dropped(self: Arc<Self>, ended: CancellationToken) {
        while ended.run_until_cancelled(self.has_dropped.notified()).await.is_some() {
            let is_ended = ended.run_until_cancelled(tokio::time::sleep(SECOND)).await.is_none();
            let num_dropped = std::mem::take(&mut self.second().num_dropped);
            tracing::warn!(
                num_dropped,
                max_lines_per_second = MAX_LINES_PER_SECOND,
                "calls that failed or were cancelled have no line in the log"
            );
            if is_ended {
                return;
            }
        }
    }

    fn second(&self) -> std::sync::MutexGuard<'_, Second> {
        // A count stays a count, whatever panicked beside it.
        self.second.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log entry of a call in progress. The server does not end while one exists; dropping it writes the line.
#[derive(Debug)]
pub(crate) struct CallLogEntry {
    log: Arc<CallLog>,
    method: Method,
    pub(super) function: String,
    /// The caller's name for the call.
    pub(super) request_id: String,
    /// The number of its job, as soon as there is one.
    pub(super) job: JobNumber,
    peer: Option<Peer>,
    /// In hex digits; empty: the call has no trace.
    trace_id: String,
    items: u64,
    started_at: Instant,
    outcome: Outcome,
    _token: TaskTrackerToken,
}

#[derive(Debug)]
enum Outcome {
    /// The handler was dropped: the client went away, or the stream was given up.
    Dropped,
    Succeeded,
    Failed(Status),
}

impl CallLogEntry {
    /// Starts the record of a call that has come in.
    pub(super) fn new(log: Arc<CallLog>, token: TaskTrackerToken, method: Method, metadata: &RequestMetadata) -> Self {
        Self {
            log,
            method,
            function: String::new(),
            request_id: metadata.request_id.clone(),
            job: JobNumber::default(),
            peer: metadata.peer,
            trace_id: trace_id(&metadata.trace).to_owned(),
            items: 0,
            started_at: Instant::now(),
            outcome: Outcome::Dropped,
            _token: token,
        }
    }

    /// Sets the function, and the caller's name for the call.
    pub(crate) fn set_names(&mut self, function: &str, request_id: &str) {
        function.clone_into(&mut self.function);
        request_id.clone_into(&mut self.request_id);
    }

    /// Sets the number of items, or of results that a stream delivered.
    pub(crate) fn set_items(&mut self, items: u64) {
        self.items = items;
    }

    /// Records success.
    pub(crate) fn succeed(&mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// Records a failure, and returns the error.
    pub(crate) fn fail(&mut self, status: Status) -> Status {
        self.outcome = Outcome::Failed(status.clone());
        status
    }
}

impl Drop for CallLogEntry {
    fn drop(&mut self) {
        let Self { log, method, function, request_id, job, peer, trace_id, items, started_at, outcome, .. } = self;
        let (rpc, job, elapsed) = (method.name(), job.get(), started_at.elapsed());
        let peer = peer.map(tracing::field::display);
        if let Outcome::Succeeded = outcome {
            tracing::debug!(
                rpc,
                job,
                function,
                items,
                ?elapsed,
                outcome = "ok",
                peer,
                trace_id,
                request_id,
                "call finished"
            );
            return;
        }
        if !log.admit(Instant::now()) {
            return;
        }
        let Outcome::Failed(status) = outcome else {
            let outcome = "cancelled";
            tracing::info!(rpc, job, function, items, ?elapsed, outcome, peer, trace_id, request_id, "call cancelled");
            return;
        };
        let (outcome, info) = (status.code(), status::error_info(status).unwrap_or_default());
        let reason = info.reason.as_str();
        let error = if status::has_text_of_users(Reason::parse(reason)) {
            tracing::debug!(target: "procpool::user_text", job, function, request_id, error = status.message(), "call failed");
            let metadata = |key| info.metadata.get(key).map_or("", String::as_str);
            format!("{} (item {})", metadata("type"), metadata("index")).trim_start().to_owned()
        } else {
            status.message().to_owned()
        };
        tracing::info!(
            rpc,
            job,
            function,
            items,
            ?elapsed,
            ?outcome,
            reason,
            error,
            peer,
            trace_id,
            request_id,
            "call failed"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio_util::task::TaskTracker;
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_are_bounded_in_a_second_and_counted() {
        let log = Arc::new(CallLog::default());
        let admitted = |calls: u32| (0..calls).filter(|_| log.admit(Instant::now())).count();
        assert_eq!(admitted(1000), MAX_LINES_PER_SECOND as usize);
        assert_eq!(log.second().num_dropped, 900);
        tokio::time::advance(SECOND).await;
        assert_eq!(admitted(10), 10, "the next second has lines of its own");
        assert_eq!(log.second().num_dropped, 900, "until it is reported");
    }

    /// Collects the names of the fields of log lines.
    #[derive(Clone, Default)]
    struct Fields(Arc<Mutex<BTreeSet<&'static str>>>);

    impl<S: tracing::Subscriber> Layer<S> for Fields {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            if event.metadata().target() == module_path!().trim_end_matches("::tests") {
                let names = event.metadata().fields().iter().map(|field| field.name());
                self.0.lock().unwrap().extend(names.filter(|name| *name != "message"));
            }
        }
    }

    #[test]
    fn every_field_is_in_docs_telemetry() {
        let fields = Fields::default();
        let subscriber = tracing_subscriber::registry().with(fields.clone());
        tracing::subscriber::with_default(subscriber, || {
            let (metadata, ()) = RequestMetadata::split(tonic::Request::new(()));
            let calls = TaskTracker::new();
            let entry = || CallLogEntry::new(Arc::default(), calls.token(), Method::Map, &metadata);
            entry().succeed();
            entry().fail(Status::internal(""));
            drop(entry());
        });
        let docs = include_str!("../../../docs/telemetry.md");
        let (_, section) = docs.split_once("## Log lines of calls").unwrap();
        let rows =
            section.split("## ").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        assert_eq!(rows.collect::<BTreeSet<_>>(), *fields.0.lock().unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_out_is_reported_a_second_later_though_nothing_more_comes() {
        let (log, ended) = (Arc::new(CallLog::default()), CancellationToken::new());
        let report = Arc::clone(&log).report_dropped(ended.clone());
        let calls = async {
            for _ in 0..=MAX_LINES_PER_SECOND {
                log.admit(Instant::now());
            }
            tokio::time::sleep(2 * SECOND).await;
            assert_eq!(log.second().num_dropped, 0);
            ended.cancel();
        };
        tokio::join!(report, calls);
    }
}
