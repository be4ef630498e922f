//! From gRPC statuses to the errors of this crate. The one file that looks into a status.

use std::collections::HashMap;
use std::time::Duration;

use procpool_proto::google::rpc;
use procpool_proto::{Reason, code_name, v1 as proto};
use prost::Message as _;
use tonic::{Code, Status};

use crate::error::{CallError, FieldViolation, ItemError, ItemErrorKind, WorkerUsage, innermost};

const DOMAIN: &str = "procpool";
/// gRFC A6: after how many milliseconds to try again; a negative number: never.
const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The delay that is suggested before calling a server again that could not be reached.
const UNREACHABLE_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The details of a status that this crate understands. What is malformed counts as absent.
#[derive(Debug, Default)]
struct Details {
    reason: String,
    metadata: HashMap<String, String>,
    retry_after: Option<Duration>,
    stack_entries: Vec<String>,
    debug_detail: String,
    data: Box<[u8]>,
    violations: Vec<FieldViolation>,
}

impl Details {
    fn decode(details: &[prost_types::Any]) -> Self {
        let mut decoded = Self::default();
        for detail in details {
            let name = detail.type_url.rsplit('/').next().unwrap_or_default();
            decoded.decode_one(name, detail.value.as_slice());
        }
        decoded
    }

    fn decode_one(&mut self, name: &str, value: &[u8]) {
        match name {
            "google.rpc.ErrorInfo" => {
                if let Ok(info) = rpc::ErrorInfo::decode(value)
                    && info.domain == DOMAIN
                {
                    self.reason = info.reason;
                    self.metadata = info.metadata;
                }
            }
            "google.rpc.RetryInfo" => {
                if let Ok(info) = rpc::RetryInfo::decode(value) {
                    self.retry_after = info.retry_delay.and_then(|delay| Duration::try_from(delay).ok());
                }
            }
            "google.rpc.DebugInfo" => {
                if let Ok(info) = rpc::DebugInfo::decode(value) {
                    self.stack_entries = info.stack_entries;
                    self.debug_detail = info.detail;
                }
            }
            "procpool.v1.ErrorData" => {
                self.data = proto::ErrorData::decode(value).map(|detail| detail.data[..].into()).unwrap_or_default();
            }
            "google.rpc.BadRequest" => {
                if let Ok(bad_request) = rpc::BadRequest::decode(value) {
                    let violations = bad_request.field_violations.into_iter();
                    self.violations = violations
                        .map(|violation| FieldViolation { field: violation.field, description: violation.description })
                        .collect();
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, key: &str) -> String {
        self.metadata.remove(key).unwrap_or_default()
    }

    fn usage(&self) -> WorkerUsage {
        let cpu_time = self.number("cpu_seconds").and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        WorkerUsage { peak_rss_bytes: self.number("peak_rss_bytes"), cpu_time }
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.metadata.get(key)?.parse().ok()
    }
}

/// Whether a call was refused and may be retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not refused: the call failed, or may have started.
    None,
    /// Refused, and not to be retried.
    Final,
    /// Refused before anything started.
    Retry {
        /// The delay that the server asks for.
        after: Option<Duration>,
    },
}

/// Returns whether the call of this status was refused.
pub(crate) fn refusal(status: &Status) -> Refusal {
    if !matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) {
        return Refusal::None;
    }
    if let Some(pushback) = status.metadata().get(PUSHBACK) {
        // A negative number, or text that is not a number, forbids a retry.
        let millis = pushback.to_str().ok().and_then(|text| text.parse().ok());
        return millis.map_or(Refusal::Final, |millis| Refusal::Retry { after: Some(Duration::from_millis(millis)) });
    }
    let decoded = rpc::Status::decode(status.details()).unwrap_or_default();
    let details = Details::decode(&decoded.details);
    match (details.reason.as_str(), details.retry_after) {
        ("", _) if was_never_sent(status) => Refusal::Retry { after: None },
        // From a proxy: the call may have reached the server.
        ("", _) => Refusal::None,
        (_, None) => Refusal::Final,
        (_, after) => Refusal::Retry { after },
    }
}

/// Returns whether a call failed before the server could see it: there was no connection, or the server says that it has
/// not looked at the stream.
fn was_never_sent(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let is_refused_stream =
            error.downcast_ref::<h2::Error>().is_some_and(|error| error.reason() == Some(h2::Reason::REFUSED_STREAM));
        if error.is::<tonic::ConnectError>() || is_refused_stream {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Converts the error of one item.
pub(crate) fn item_error(error: proto::ItemError) -> ItemError {
    let status = error.status.unwrap_or_default();
    let details = Details::decode(&status.details);
    item_error_from(error.index, Code::from_i32(status.code), status.message, details)
}

fn item_error_from(index: u64, code: Code, message: String, mut details: Details) -> ItemError {
    let attempt = details.number("attempt").unwrap_or(0);
    let pid = details.number("pid").unwrap_or(0);
    let stderr_tail = std::mem::take(&mut details.debug_detail);
    let kind = match Reason::parse(&details.reason) {
        Some(Reason::FunctionRaised) => {
            let type_name = details.take("type");
            let own_words = message.strip_prefix(&type_name).and_then(|rest| rest.strip_prefix(": "));
            let traceback = details.stack_entries.join("\n");
            let (message, data) = (own_words.unwrap_or(&message).to_owned(), Vec::from(details.data).into());
            ItemErrorKind::Raised { message, type_name, traceback, data }
        }
        Some(Reason::ResultNotEncodable) => ItemErrorKind::ResultNotEncodable,
        Some(Reason::MessageTooLarge) => ItemErrorKind::ResultTooLarge,
        Some(Reason::InvalidItem) => ItemErrorKind::InvalidItem,
        Some(Reason::WorkerCrashed) => ItemErrorKind::WorkerCrashed {
            signal: details.number("signal"),
            exit_code: details.number("exit_code"),
            pid,
            attempt,
            usage: details.usage(),
            stderr_tail,
        },
        Some(Reason::WorkerOomKilled) => ItemErrorKind::WorkerOomKilled {
            peak_rss_bytes: details.number("rss_bytes").max(details.number("peak_rss_bytes")),
            limit_bytes: details.number("limit_bytes"),
            pid,
            attempt,
            stderr_tail,
        },
        Some(Reason::CrashLimit) => {
            ItemErrorKind::CrashLimit { attempts: details.number("attempts").unwrap_or(attempt), stderr_tail }
        }
        Some(Reason::ItemTimeout) => ItemErrorKind::ItemTimeout { attempt, stack: details.stack_entries.join("\n") },
        Some(Reason::WorkerProtocol) => ItemErrorKind::WorkerProtocol,
        _ => ItemErrorKind::Other { code: code_name(code), reason: details.reason },
    };
    ItemError { index, kind, message }
}

/// Converts the status of a call.
pub(crate) fn call_error(status: Status) -> CallError {
    let code = status.code();
    let message = status.message().to_owned();
    // tonic's own helper for this panics on malformed details.
    let decoded = rpc::Status::decode(status.details()).unwrap_or_default();
    let mut details = Details::decode(&decoded.details);
    match Reason::parse(&details.reason) {
        Some(Reason::QueueFull | Reason::DeadlineUnreachable | Reason::DumpBusy) => {
            return CallError::QueueFull { message, retry_after: details.retry_after };
        }
        // With an index, it is the result of that item.
        Some(Reason::MessageTooLarge) if !details.metadata.contains_key("index") => {
            return CallError::MessageTooLarge { message };
        }
        Some(Reason::Draining | Reason::PoolDegraded) => {
            return CallError::Unavailable { reason: details.reason, message, retry_after: details.retry_after };
        }
        Some(Reason::FunctionNotFound) => {
            let nearest = details.take("nearest");
            let names = nearest.split(',').map(str::trim).filter(|name| !name.is_empty());
            return CallError::FunctionNotFound { message, nearest: names.map(str::to_owned).collect() };
        }
        Some(Reason::InvalidArgument) => return CallError::InvalidArgument { message, violations: details.violations },
        // From the server, which names the field, nothing has started; from a worker, the call is under way.
        Some(Reason::InvalidItem) if !details.violations.is_empty() => {
            return CallError::InvalidArgument { message, violations: details.violations };
        }
        Some(Reason::Deadline) => return CallError::DeadlineExceeded { message, phase: details.take("phase") },
        Some(Reason::Cancelled | Reason::CancelledByOperator) => {
            return CallError::Cancelled { reason: details.reason, message };
        }
        _ => {
            if let Some(index) = details.number("index") {
                let error = item_error_from(index, code, message, details);
                return CallError::ItemFailed(Box::new(error));
            }
        }
    }
    call_error_without_reason(status, message, details)
}

/// Converts a status that procpool did not make, by its code: the transport's, a proxy's, tonic's.
fn call_error_without_reason(status: Status, message: String, details: Details) -> CallError {
    let source = std::error::Error::source(&status);
    match status.code() {
        Code::Unavailable => {
            let message = source.map_or(message, |cause| format!("cannot reach the server: {}", innermost(cause)));
            let retry_after = if was_never_sent(&status) { Some(UNREACHABLE_RETRY_DELAY) } else { details.retry_after };
            CallError::Unavailable { reason: details.reason, message, retry_after }
        }
        Code::InvalidArgument => CallError::InvalidArgument { message, violations: details.violations },
        Code::DeadlineExceeded => CallError::DeadlineExceeded { message, phase: String::new() },
        // tonic's own timer says CANCELLED.
        Code::Cancelled if message == "Timeout expired" => deadline_exceeded(),
        Code::Cancelled => CallError::Cancelled { reason: details.reason, message },
        // tonic's word for a message over the limit.
        Code::OutOfRange if message.contains("message length too large") => CallError::MessageTooLarge { message },
        // What the server says has no cause on this side.
        code => match source.map(innermost) {
            Some(message) => CallError::ConnectionLost { message, source: Box::new(status) },
            None => CallError::Other { code: code_name(code), reason: details.reason, message },
        },
    }
}

/// Returns the error of a call whose deadline passed on this side first.
pub(crate) fn deadline_exceeded() -> CallError {
    CallError::DeadlineExceeded { message: "the deadline passed".to_owned(), phase: String::new() }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use procpool_proto::google::rpc::{BadRequest, DebugInfo, ErrorInfo, RetryInfo};
    use prost_types::Any;

    use super::*;

    fn any(name: &str, detail: &impl prost::Message) -> Any {
        Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: detail.encode_to_vec() }
    }

    fn info(reason: &str, metadata: &[(&str, &str)]) -> Any {
        let metadata = metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        any(
            "ErrorInfo",
            &ErrorInfo { reason: reason.to_owned(), domain: DOMAIN.to_owned(), metadata: metadata.collect() },
        )
    }

    fn status(code: Code, message: &str, details: Vec<Any>) -> Status {
        let details = rpc::Status { code: code as i32, message: message.to_owned(), details };
        Status::with_details(code, message, details.encode_to_vec().into())
    }

    #[test]
    fn a_raised_exception_keeps_its_type_and_traceback() {
        let debug =
            DebugInfo { stack_entries: vec!["Traceback".to_owned(), "  line 1".to_owned()], ..Default::default() };
        let data = Any {
            type_url: "type.googleapis.com/procpool.v1.ErrorData".to_owned(),
            value: proto::ErrorData { data: Bytes::from_static(b"\x80\x05N.") }.encode_to_vec(),
        };
        let details =
            vec![info("FUNCTION_RAISED", &[("type", "ValueError"), ("index", "3")]), data, any("DebugInfo", &debug)];
        let error = call_error(status(Code::Unknown, "ValueError: bad", details));
        let CallError::ItemFailed(error) = error else { panic!("{error:?}") };
        assert_eq!(error.index, 3);
        assert_eq!(error.traceback(), Some("Traceback\n  line 1"));
        assert_eq!(error.to_string(), "item 3: ValueError: bad");
        let ItemErrorKind::Raised { type_name, message, data, .. } = &error.kind else { panic!("{error:?}") };
        assert_eq!((type_name.as_str(), message.as_str()), ("ValueError", "bad"));
        assert_eq!(&data[..], b"\x80\x05N.");
    }

    #[test]
    fn a_crash_keeps_what_is_known_of_it() {
        let debug = DebugInfo { detail: "last words".to_owned(), ..Default::default() };
        let status = rpc::Status {
            code: Code::Aborted as i32,
            message: "worker died".to_owned(),
            details: vec![
                info("WORKER_CRASHED", &[("signal", "9"), ("pid", "42"), ("attempt", "2"), ("cpu_seconds", "1.250")]),
                any("DebugInfo", &debug),
            ],
        };
        let error = item_error(proto::ItemError { index: 7, status: Some(status) });
        let expected = ItemErrorKind::WorkerCrashed {
            signal: Some(9),
            exit_code: None,
            pid: 42,
            attempt: 2,
            usage: WorkerUsage { peak_rss_bytes: None, cpu_time: Some(Duration::from_millis(1250)) },
            stderr_tail: "last words".to_owned(),
        };
        assert_eq!((error.index, error.kind), (7, expected));

        let metadata = [("signal", "9"), ("rss_bytes", "300"), ("limit_bytes", "200"), ("peak_rss_bytes", "310")];
        let details = vec![info("WORKER_OOM_KILLED", &metadata)];
        let status = rpc::Status { code: Code::Aborted as i32, message: "too much".to_owned(), details };
        let expected = ItemErrorKind::WorkerOomKilled {
            peak_rss_bytes: Some(310),
            limit_bytes: Some(200),
            pid: 0,
            attempt: 0,
            stderr_tail: String::new(),
        };
        assert_eq!(item_error(proto::ItemError { index: 7, status: Some(status) }).kind, expected);
    }

    #[test]
    fn each_reason_of_a_call_has_its_variant() {
        let retry = RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 2, nanos: 0 }) };
        let violation = rpc::bad_request::FieldViolation { field: "values[1]".to_owned(), ..Default::default() };
        let bad = BadRequest { field_violations: vec![violation] };
        let retry = || any("RetryInfo", &retry);
        let cases = [
            (Code::ResourceExhausted, vec![info("QUEUE_FULL", &[]), retry()], "QueueFull"),
            (Code::ResourceExhausted, vec![info("DEADLINE_UNREACHABLE", &[]), retry()], "QueueFull"),
            (Code::ResourceExhausted, vec![info("MESSAGE_TOO_LARGE", &[])], "MessageTooLarge"),
            (Code::ResourceExhausted, vec![info("MESSAGE_TOO_LARGE", &[("index", "1")])], "ItemFailed"),
            (Code::Unavailable, vec![info("DRAINING", &[]), retry()], "Unavailable"),
            (Code::Unavailable, vec![], "Unavailable"),
            (Code::NotFound, vec![info("FUNCTION_NOT_FOUND", &[("nearest", "a, b")])], "FunctionNotFound"),
            (
                Code::InvalidArgument,
                vec![info("INVALID_ITEM", &[("index", "1")]), any("BadRequest", &bad)],
                "InvalidArgument",
            ),
            (Code::InvalidArgument, vec![], "InvalidArgument"),
            (Code::DeadlineExceeded, vec![info("DEADLINE", &[("phase", "queued")])], "DeadlineExceeded"),
            (Code::DeadlineExceeded, vec![info("ITEM_TIMEOUT", &[("index", "1")])], "ItemFailed"),
            (Code::Aborted, vec![info("STREAM_STALLED", &[])], "Other"),
            (Code::Internal, vec![info("INTERNAL", &[])], "Other"),
            (Code::Cancelled, vec![info("CANCELLED", &[])], "Cancelled"),
            (Code::Cancelled, vec![info("CANCELLED_BY_OPERATOR", &[])], "Cancelled"),
            (Code::Cancelled, vec![], "Cancelled"),
        ];
        for (code, details, expected) in cases {
            let error = format!("{:?}", call_error(status(code, "words", details)));
            assert!(error.starts_with(expected), "{code:?} became {error}, not {expected}");
        }
        assert!(matches!(call_error(Status::cancelled("Timeout expired")), CallError::DeadlineExceeded { .. }));
    }

    #[test]
    fn only_a_call_that_has_not_started_is_safe_to_retry() {
        let retry = RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 2, nanos: 0 }) };
        let refused = vec![info("DRAINING", &[]), any("RetryInfo", &retry)];
        assert!(call_error(status(Code::Unavailable, "words", refused)).is_safe_to_retry());
        assert!(!call_error(status(Code::Unavailable, "words", vec![info("DRAINING", &[])])).is_safe_to_retry());
    }

    #[test]
    fn only_a_refusal_is_tried_again_and_the_server_says_when() {
        let with_pushback = |mut status: Status, pushback: &str| {
            status.metadata_mut().insert(PUSHBACK, pushback.parse().unwrap());
            status
        };
        let retry = RetryInfo { retry_delay: Some(prost_types::Duration { seconds: 2, nanos: 0 }) };
        let refused = |code| status(code, "words", vec![info("QUEUE_FULL", &[]), any("RetryInfo", &retry)]);
        let in_millis = |millis| Refusal::Retry { after: Some(Duration::from_millis(millis)) };
        for code in [Code::Unavailable, Code::ResourceExhausted] {
            assert_eq!(refusal(&refused(code)), in_millis(2000));
            assert_eq!(refusal(&with_pushback(refused(code), "70")), in_millis(70));
            assert_eq!(refusal(&with_pushback(refused(code), "-1")), Refusal::Final);
            assert_eq!(refusal(&with_pushback(refused(code), "soon")), Refusal::Final);
            assert_eq!(refusal(&status(code, "words", vec![info("DRAINING", &[])])), Refusal::Final);
            // A proxy's words.
            assert_eq!(refusal(&Status::new(code, "no healthy upstream")), Refusal::None);
        }
        assert_eq!(refusal(&refused(Code::Aborted)), Refusal::None);
    }

    #[test]
    fn malformed_details_count_as_absent() {
        let garbage = Status::with_details(Code::Unknown, "words", Bytes::from_static(b"\xff\xff\xff"));
        assert!(matches!(call_error(garbage), CallError::Other { code: "UNKNOWN", .. }));
        let broken = Any { type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(), value: vec![0xff] };
        let error = call_error(status(Code::NotFound, "words", vec![broken]));
        assert!(matches!(error, CallError::Other { code: "NOT_FOUND", .. }), "{error:?}");
        let error = item_error(proto::ItemError { index: 1, status: None });
        assert!(matches!(error.kind, ItemErrorKind::Other { code: "OK", .. }));
    }
}
