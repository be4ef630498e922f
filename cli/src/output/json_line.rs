//! The lines of `--output json`: one object an item, for programs, and for `--retry-failed`.

use procpool_client::{ItemError, ItemErrorKind};
use serde::Serialize;

use super::json_text::JsonText;

/// The status of an item that has a result.
pub(crate) const OK: &str = "ok";
pub(super) const FAILED: &str = "failed";

// Not `json!`, which would sort the fields by name.
#[derive(Serialize)]
struct JsonLine<'a> {
    index: u64,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a JsonText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorFields<'a>>,
}

/// An error as the API tells it, flat.
#[derive(Default, Serialize)]
struct ErrorFields<'a> {
    /// The gRPC code.
    code: &'a str,
    reason: &'a str,
    message: &'a str,
    /// The type of what the function raised.
    #[serde(skip_serializing_if = "str::is_empty")]
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceback: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<i32>,
    /// How much memory the worker was allowed, if it was killed for more.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
    /// What the worker had used.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_rss_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    /// The process that died.
    #[serde(skip_serializing_if = "is_unknown")]
    pid: u32,
    /// Which execution of the item it was, from 1.
    #[serde(skip_serializing_if = "is_unknown")]
    attempt: u32,
    /// The end of what the worker wrote before it died.
    #[serde(skip_serializing_if = "Option::is_none")]
    stderr: Option<&'a str>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_unknown(number: &u32) -> bool {
    *number == 0
}

/// Returns the line of an item.
pub(super) fn of(index: u64, result: &Result<JsonText, ItemError>) -> String {
    let line = match result {
        Ok(value) => JsonLine { index, status: OK, result: Some(value), error: None },
        Err(error) => JsonLine { index, status: FAILED, result: None, error: Some(fields_of(error)) },
    };
    serde_json::to_string(&line).expect("strings, numbers and values are JSON")
}

fn fields_of(error: &ItemError) -> ErrorFields<'_> {
    let (code, reason) = match &error.kind {
        ItemErrorKind::Raised { .. } => ("UNKNOWN", "FUNCTION_RAISED"),
        ItemErrorKind::ResultNotEncodable => ("INTERNAL", "RESULT_NOT_ENCODABLE"),
        ItemErrorKind::ResultTooLarge => ("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"),
        ItemErrorKind::InvalidItem => ("INVALID_ARGUMENT", "INVALID_ITEM"),
        ItemErrorKind::WorkerCrashed { .. } => ("ABORTED", "WORKER_CRASHED"),
        ItemErrorKind::WorkerOomKilled { .. } => ("ABORTED", "WORKER_OOM_KILLED"),
        ItemErrorKind::CrashLimit { .. } => ("FAILED_PRECONDITION", "CRASH_LIMIT"),
        ItemErrorKind::ItemTimeout { .. } => ("DEADLINE_EXCEEDED", "ITEM_TIMEOUT"),
        ItemErrorKind::WorkerProtocol => ("INTERNAL", "WORKER_PROTOCOL"),
        ItemErrorKind::Other { code, reason } => (*code, reason.as_str()),
        _ => ("UNKNOWN", ""),
    };
    let mut fields = ErrorFields {
        code,
        reason,
        message: &error.message,
        traceback: error.traceback(),
        stderr: error.stderr_tail(),
        ..ErrorFields::default()
    };
    match &error.kind {
        ItemErrorKind::Raised { type_name, .. } => fields.r#type = type_name,
        ItemErrorKind::WorkerCrashed { signal, exit_code, pid, attempt, usage, .. } => {
            (fields.signal, fields.exit_code) = (*signal, *exit_code);
            (fields.pid, fields.attempt) = (*pid, *attempt);
            fields.peak_rss_bytes = usage.peak_rss_bytes;
            fields.cpu_seconds = usage.cpu_time.map(|time| time.as_secs_f64());
        }
        ItemErrorKind::WorkerOomKilled { peak_rss_bytes, limit_bytes, pid, attempt, .. } => {
            (fields.peak_rss_bytes, fields.limit_bytes) = (*peak_rss_bytes, *limit_bytes);
            (fields.pid, fields.attempt) = (*pid, *attempt);
        }
        ItemErrorKind::CrashLimit { attempts: attempt, .. } | ItemErrorKind::ItemTimeout { attempt, .. } => {
            fields.attempt = *attempt;
        }
        _ => {}
    }
    fields
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use procpool_client::WorkerUsage;
    use serde_json::{Value, json};

    use super::*;

    fn failed(kind: ItemErrorKind) -> String {
        of(4, &Err(ItemError { index: 4, kind, message: "words".to_owned() }))
    }

    #[test]
    fn a_result() {
        assert_eq!(of(3, &Ok(json!([null, "x"]).into())), r#"{"index":3,"status":"ok","result":[null,"x"]}"#);
        assert_eq!(of(3, &Ok(Value::Null.into())), r#"{"index":3,"status":"ok","result":null}"#);
    }

    #[test]
    fn a_failed_item_tells_all_that_is_known() {
        let raised = ItemErrorKind::Raised {
            type_name: "ValueError".to_owned(),
            message: "words".to_owned(),
            traceback: "line 1\nline 2".to_owned(),
            data: b"not for people".to_vec().into(),
        };
        insta::assert_snapshot!(failed(raised), @r#"{"index":4,"status":"failed","error":{"code":"UNKNOWN","reason":"FUNCTION_RAISED","message":"words","type":"ValueError","traceback":"line 1\nline 2"}}"#);
        let crashed = ItemErrorKind::WorkerCrashed {
            signal: Some(9),
            exit_code: None,
            pid: 42,
            attempt: 2,
            usage: WorkerUsage { peak_rss_bytes: None, cpu_time: Some(Duration::from_millis(1500)) },
            stderr_tail: "last words".to_owned(),
        };
        insta::assert_snapshot!(failed(crashed), @r#"{"index":4,"status":"failed","error":{"code":"ABORTED","reason":"WORKER_CRASHED","message":"words","signal":9,"cpu_seconds":1.5,"pid":42,"attempt":2,"stderr":"last words"}}"#);
        let too_large = ItemErrorKind::WorkerOomKilled {
            peak_rss_bytes: Some(310),
            limit_bytes: Some(200),
            pid: 43,
            attempt: 1,
            stderr_tail: String::new(),
        };
        insta::assert_snapshot!(failed(too_large), @r#"{"index":4,"status":"failed","error":{"code":"ABORTED","reason":"WORKER_OOM_KILLED","message":"words","limit_bytes":200,"peak_rss_bytes":310,"pid":43,"attempt":1}}"#);
        insta::assert_snapshot!(failed(ItemErrorKind::ItemTimeout { attempt: 1, stack: String::new() }), @r#"{"index":4,"status":"failed","error":{"code":"DEADLINE_EXCEEDED","reason":"ITEM_TIMEOUT","message":"words","attempt":1}}"#);
        let other = ItemErrorKind::Other { code: "INTERNAL", reason: String::new() };
        insta::assert_snapshot!(failed(other), @r#"{"index":4,"status":"failed","error":{"code":"INTERNAL","reason":"","message":"words"}}"#);
    }
}
