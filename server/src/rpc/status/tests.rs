use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_pool::JobNumber;
use procpool_proto::google::rpc::{BadRequest, DebugInfo, ErrorInfo, RequestInfo, ResourceInfo, RetryInfo};
use prost::Message as _;

use super::super::error_context::Method;
use super::*;

const LIMIT_OF_OTHERS: usize = 8 << 10;

fn context() -> ErrorContext {
    ErrorContext {
        method: Method::Map,
        function: "power".to_owned(),
        request_id: "request-7".to_owned(),
        job: JobNumber::default(),
        common_field: None,
        kind: ItemKind::Values,
    }
}

/// Finds a detail in a status as a client does.
fn detail<M: prost::Message + Default>(status: &Status, name: &str) -> Option<M> {
    let rpc_status = procpool_proto::google::rpc::Status::decode(status.details()).unwrap();
    assert_eq!(rpc_status.code, status.code() as i32);
    assert_eq!(rpc_status.message, status.message());
    find(&rpc_status, name)
}

fn find<M: prost::Message + Default>(status: &procpool_proto::google::rpc::Status, name: &str) -> Option<M> {
    let package = if name == "ErrorData" { "procpool.v1" } else { "google.rpc" };
    let type_url = format!("type.googleapis.com/{package}.{name}");
    let any = status.details.iter().find(|any| any.type_url == type_url)?;
    Some(M::decode(any.value.as_slice()).unwrap())
}

fn numbered_lines(count: usize) -> String {
    let lines: Vec<String> = (0..count).map(|line| format!("  line {line}")).collect();
    lines.join("\n")
}

fn pushback(status: &Status) -> i64 {
    status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap()
}

fn item(failure: ItemFailure) -> CallError {
    CallError::ItemFailed(Box::new(ItemError { index: 17, failure }))
}

fn raised() -> ItemFailure {
    ItemFailure::Raised {
        kind: "ValueError".to_owned(),
        message: "no".to_owned(),
        traceback: "Traceback:\n  line 1\nValueError: no".to_owned(),
        data: Bytes::from_static(b"\x80\x05N."),
    }
}

fn raised_with(traceback: String, data: Bytes) -> ItemFailure {
    ItemFailure::Raised { kind: "E".to_owned(), message: "no".to_owned(), traceback, data }
}

/// What happened, and the code, the reason, the metadata and the pushback that it must come with.
type Row = (CallError, Code, &'static str, &'static [(&'static str, &'static str)], i64);

fn table() -> Vec<Row> {
    let second = Duration::from_secs(1);
    let mut rows: Vec<Row> = vec![
        (
            CallError::QueueFull { what: "items", limit: 10, retry_after: second },
            Code::ResourceExhausted,
            "QUEUE_FULL",
            &[("resource", "items"), ("limit", "10")],
            1000,
        ),
        (
            CallError::LargerThanQueue { what: "items", num: 11, limit: 10 },
            Code::ResourceExhausted,
            "QUEUE_FULL",
            &[("resource", "items"), ("limit", "10")],
            -1,
        ),
        (
            CallError::ResultsTooLarge { bytes: 11, limit: 10 },
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            &[("bytes", "11"), ("limit_bytes", "10")],
            -1,
        ),
        (CallError::ResultsFull { limit: 10 }, Code::ResourceExhausted, "RESULTS_FULL", &[("limit_bytes", "10")], -1),
        (
            CallError::DeadlineUnreachable { expected: 3 * second, remaining: 2 * second, retry_after: second },
            Code::ResourceExhausted,
            "DEADLINE_UNREACHABLE",
            &[("expected_ms", "3000"), ("remaining_ms", "2000")],
            1000,
        ),
        (CallError::Draining { started: false }, Code::Unavailable, "DRAINING", &[("started", "false")], 1000),
        (CallError::Draining { started: true }, Code::Unavailable, "DRAINING", &[("started", "true")], -1),
        (
            CallError::Degraded { reason: "no such file".to_owned(), started: false, retry_after: 3 * second },
            Code::Unavailable,
            "POOL_DEGRADED",
            &[("started", "false")],
            3000,
        ),
        (
            CallError::Degraded { reason: "no such file".to_owned(), started: true, retry_after: 3 * second },
            Code::Unavailable,
            "POOL_DEGRADED",
            &[("started", "true")],
            -1,
        ),
        (
            CallError::FunctionNotFound { name: "powr".to_owned(), nearest: vec!["power".to_owned()], started: false },
            Code::NotFound,
            "FUNCTION_NOT_FOUND",
            &[("nearest", "power")],
            -1,
        ),
        (
            CallError::DeadlineExceeded { phase: DeadlinePhase::Queued },
            Code::DeadlineExceeded,
            "DEADLINE",
            &[("phase", "queued")],
            -1,
        ),
        (
            CallError::DeadlineExceeded { phase: DeadlinePhase::Running },
            Code::DeadlineExceeded,
            "DEADLINE",
            &[("phase", "running")],
            -1,
        ),
        (CallError::MixedKinds, Code::InvalidArgument, "INVALID_ARGUMENT", &[], -1),
        (CallError::Cancelled, Code::Cancelled, "CANCELLED", &[], -1),
        (CallError::CancelledByOperator { job: 7 }, Code::Cancelled, "CANCELLED_BY_OPERATOR", &[], -1),
        (CallError::PoolGone, Code::Internal, "INTERNAL", &[], -1),
    ];
    rows.extend(failures());
    rows.extend(deaths());
    rows
}

/// The rows of items that failed in a worker that lives.
fn failures() -> Vec<Row> {
    let second = Duration::from_secs(1);
    vec![
        (item(raised()), Code::Unknown, "FUNCTION_RAISED", &[("type", "ValueError"), ("index", "17")], -1),
        (
            item(ItemFailure::ResultNotEncodable { message: "NaN".to_owned() }),
            Code::Internal,
            "RESULT_NOT_ENCODABLE",
            &[("index", "17")],
            -1,
        ),
        (
            item(ItemFailure::InvalidItem { part: CallPart::Item, message: "not a list".to_owned() }),
            Code::InvalidArgument,
            "INVALID_ITEM",
            &[("index", "17")],
            -1,
        ),
        (
            item(ItemFailure::ItemTimeout { limit: second, attempt: 2, stack: String::new() }),
            Code::DeadlineExceeded,
            "ITEM_TIMEOUT",
            &[("limit_ms", "1000"), ("attempt", "2")],
            -1,
        ),
        (
            item(ItemFailure::WorkerProtocol { detail: "half a frame".to_owned() }),
            Code::Internal,
            "WORKER_PROTOCOL",
            &[("index", "17")],
            -1,
        ),
    ]
}

/// The rows of workers that died.
fn deaths() -> Vec<Row> {
    let stderr_tail = "Segmentation fault".to_owned();
    let usage = ExitUsage { peak_rss_bytes: Some(5000), cpu_time: Some(Duration::from_millis(1500)) };
    vec![
        (
            item(ItemFailure::WorkerCrashed {
                exit: WorkerExit::Signal(11),
                pid: 42,
                attempt: 1,
                usage,
                stderr_tail: stderr_tail.clone(),
            }),
            Code::Aborted,
            "WORKER_CRASHED",
            &[
                ("index", "17"),
                ("signal", "11"),
                ("pid", "42"),
                ("attempt", "1"),
                ("peak_rss_bytes", "5000"),
                ("cpu_seconds", "1.500"),
            ],
            -1,
        ),
        (
            item(ItemFailure::WorkerCrashed {
                exit: WorkerExit::MemoryLimit { rss_bytes: 3 << 20, limit_bytes: 2 << 20 },
                pid: 42,
                attempt: 1,
                usage,
                stderr_tail: stderr_tail.clone(),
            }),
            Code::Aborted,
            "WORKER_OOM_KILLED",
            &[
                ("signal", "9"),
                ("rss_bytes", "3145728"),
                ("limit_bytes", "2097152"),
                ("attempt", "1"),
                ("peak_rss_bytes", "5000"),
            ],
            -1,
        ),
        (
            item(ItemFailure::WorkerCrashed {
                exit: WorkerExit::KernelOom,
                pid: 42,
                attempt: 1,
                usage: ExitUsage::default(),
                stderr_tail: stderr_tail.clone(),
            }),
            Code::Aborted,
            "WORKER_OOM_KILLED",
            &[("signal", "9"), ("pid", "42")],
            -1,
        ),
        (
            CallError::CrashLimit {
                crashes: 3,
                exit: WorkerExit::MemoryLimit { rss_bytes: 3 << 20, limit_bytes: 2 << 20 },
                usage,
                stderr_tail: stderr_tail.clone(),
            },
            Code::FailedPrecondition,
            "CRASH_LIMIT",
            &[("attempts", "3"), ("signal", "9"), ("limit_bytes", "2097152")],
            -1,
        ),
        (
            item(ItemFailure::CrashLimit { attempts: 3, exit: WorkerExit::Code(0), usage, stderr_tail }),
            Code::FailedPrecondition,
            "CRASH_LIMIT",
            &[("attempts", "3"), ("exit_code", "0")],
            -1,
        ),
    ]
}

#[test]
fn every_error_has_the_code_reason_and_details_of_the_table() {
    for (error, code, reason, metadata, retry_pushback) in table() {
        let status = call_failed(&error, &context());
        assert_eq!(status.code(), code, "{error}");
        let info: ErrorInfo = detail(&status, "ErrorInfo").unwrap();
        assert_eq!((info.domain.as_str(), info.reason.as_str()), ("procpool", reason), "{error}");
        for (key, value) in metadata {
            assert_eq!(info.metadata.get(*key).map(String::as_str), Some(*value), "{error}: {key}");
        }
        assert_eq!(info.metadata["function"], "power", "{error}");
        assert_eq!(detail::<RequestInfo>(&status, "RequestInfo").unwrap().request_id, "request-7");
        assert_eq!(pushback(&status), retry_pushback, "{error}");
        // The two say the same.
        assert_eq!(detail::<RetryInfo>(&status, "RetryInfo").is_some(), retry_pushback >= 0, "{error}");
    }
}

#[test]
fn every_reason_is_in_the_tables_that_clients_read() {
    let proto = include_str!("../../../../proto/procpool/v1/pool.proto");
    let admin_proto = include_str!("../../../../proto/procpool/v1/pool_admin.proto");
    let guide = include_str!("../../../../docs/clients.md");
    for reason in Reason::ALL.iter().map(|reason| reason.as_str()) {
        assert_eq!(Reason::parse(reason).map(Reason::as_str), Some(reason));
        let stands_in =
            |text: &str| text.split(|char: char| !char.is_ascii_uppercase() && char != '_').any(|word| word == reason);
        assert!(stands_in(proto) || stands_in(admin_proto), "{reason}");
        assert!(!stands_in(proto) || guide.contains(&format!("`{reason}`")), "{reason}");
    }
}

#[test]
fn a_traceback_and_the_output_come_as_debug_info() {
    let status = call_failed(&item(raised()), &context());
    let debug: DebugInfo = detail(&status, "DebugInfo").unwrap();
    assert_eq!(debug.stack_entries, ["Traceback:", "  line 1", "ValueError: no"]);
    let crash = table().into_iter().find(|row| row.2 == "WORKER_CRASHED").unwrap().0;
    let debug: DebugInfo = detail(&call_failed(&crash, &context()), "DebugInfo").unwrap();
    assert_eq!(debug.detail, "Segmentation fault");
}

#[test]
fn data_comes_whole_or_not_at_all() {
    let status = call_failed(&item(raised()), &context());
    assert_eq!(detail::<v1::ErrorData>(&status, "ErrorData").unwrap().data, &b"\x80\x05N."[..]);
    let without = item(raised_with("Traceback".to_owned(), Bytes::new()));
    assert!(detail::<v1::ErrorData>(&call_failed(&without, &context()), "ErrorData").is_none());

    // In a header it comes before the traceback, if it fits.
    for (length, is_there) in [(3000, true), (4096, false)] {
        let status = call_failed(&item(raised_with(numbered_lines(5000), vec![7; length].into())), &context());
        let data: Option<v1::ErrorData> = detail(&status, "ErrorData");
        assert_eq!(data.map_or(0, |data| data.data.len()), if is_there { length } else { 0 });
        assert_eq!(detail::<DebugInfo>(&status, "DebugInfo").unwrap().stack_entries.last().unwrap(), "  line 4999");
    }

    // The errors of a message share a budget.
    let error = ItemError { index: 17, failure: raised_with(numbered_lines(100), vec![7; 64 << 10].into()) };
    let mut budget = 100_000;
    let mut next = || {
        let status = item_failed(&error, &context(), &mut budget).status.unwrap();
        let data: Option<v1::ErrorData> = find(&status, "ErrorData");
        (data.map_or(0, |data| data.data.len()), find::<DebugInfo>(&status, "DebugInfo").unwrap().stack_entries.len())
    };
    assert_eq!((next(), next()), ((64 << 10, 100), (0, 100)));
}

#[test]
fn an_unknown_function_is_a_resource() {
    let error =
        CallError::FunctionNotFound { name: "powr".to_owned(), nearest: vec!["power".to_owned()], started: false };
    let status = call_failed(&error, &context());
    let resource: ResourceInfo = detail(&status, "ResourceInfo").unwrap();
    assert_eq!((resource.resource_type.as_str(), resource.resource_name.as_str()), ("function", "powr"));
    assert!(status.message().contains("did you mean power?"), "{}", status.message());
}

#[test]
fn an_unknown_function_by_value_says_how_to_allow_them() {
    let nearest = vec!["map".to_owned()];
    let error = CallError::FunctionNotFound { name: "procpool:map".to_owned(), nearest, started: false };
    let status = call_failed(&error, &context());
    assert!(status.message().contains("start the server with --allow-pickle"), "{}", status.message());
}

#[test]
fn an_invalid_item_is_named_by_its_path() {
    let error = item(ItemFailure::InvalidItem { part: CallPart::Item, message: "not a list".to_owned() });
    let field_of = |context: &ErrorContext| {
        let request: BadRequest = detail(&call_failed(&error, context), "BadRequest").unwrap();
        request.field_violations[0].field.clone()
    };
    assert_eq!(field_of(&context()), "values[17]");
    assert_eq!(field_of(&ErrorContext { kind: ItemKind::Blobs, ..context() }), "blobs[17]");
    assert_eq!(field_of(&ErrorContext { method: Method::Apply, ..context() }), "values");
}

#[test]
fn what_is_not_the_items_fault_is_named_by_its_own_field() {
    let field_of = |part: CallPart, context: &ErrorContext| {
        let error = item(ItemFailure::InvalidItem { part, message: "no".to_owned() });
        let request: BadRequest = detail(&call_failed(&error, context), "BadRequest").unwrap();
        request.field_violations[0].field.clone()
    };
    let context = ErrorContext { common_field: Some("config.common_blob".to_owned()), ..context() };
    assert_eq!(field_of(CallPart::Common, &context), "config.common_blob");
    assert_eq!(field_of(CallPart::Kwargs, &ErrorContext { method: Method::Apply, ..context }), "kwargs");
}

#[test]
fn the_errors_of_the_server_itself_are_in_the_table_too() {
    let rows = [
        (request_too_large(11, 10), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", false),
        (response_too_large(11, 10, &context()), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", false),
        (result_too_large_for_call(3, 11, 10, &context()), Code::ResourceExhausted, "MESSAGE_TOO_LARGE", false),
        (request_bytes_exhausted(10), Code::ResourceExhausted, "QUEUE_FULL", true),
        (deadline_exceeded("receiving"), Code::DeadlineExceeded, "DEADLINE", false),
        (shutting_down(), Code::Unavailable, "DRAINING", true),
        (
            invalid_argument(vec![violation("function", "is required")], ""),
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            false,
        ),
        (
            invalid_item("values[3]".to_owned(), "no list".to_owned(), 3, ""),
            Code::InvalidArgument,
            "INVALID_ITEM",
            false,
        ),
        (no_such_method(), Code::Unimplemented, "UNIMPLEMENTED", false),
        (no_such_job(7), Code::NotFound, "JOB_NOT_FOUND", false),
        (with_details(&Status::not_found("service not registered")), Code::NotFound, "NOT_FOUND", false),
        (with_details(&Status::internal("failed to decode")), Code::Internal, "INTERNAL", false),
    ];
    for (status, code, reason, is_retryable) in rows {
        assert_eq!(status.code(), code, "{reason}");
        assert_eq!(detail::<ErrorInfo>(&status, "ErrorInfo").unwrap().reason, reason);
        assert_eq!(detail::<RetryInfo>(&status, "RetryInfo").is_some(), is_retryable, "{reason}");
        assert_eq!(pushback(&status) >= 0, is_retryable, "{reason}");
    }
}

#[test]
fn however_much_there_is_to_say_it_fits_into_a_header() {
    let long = "äöü \u{1F600} \"{}\" ".repeat(10_000);
    let traceback = numbered_lines(5000);
    let errors = [
        item(ItemFailure::Raised {
            kind: long.clone(),
            message: long.clone(),
            traceback: traceback.clone(),
            data: vec![7; 64 << 10].into(),
        }),
        item(ItemFailure::Raised {
            kind: String::new(),
            message: "no".to_owned(),
            traceback,
            data: vec![7; 3 << 10].into(),
        }),
        item(ItemFailure::CrashLimit {
            attempts: 3,
            exit: WorkerExit::Protocol(long.clone()),
            usage: ExitUsage { peak_rss_bytes: Some(u64::MAX), cpu_time: Some(Duration::MAX) },
            stderr_tail: long.clone(),
        }),
        item(ItemFailure::InvalidItem { part: CallPart::Item, message: long.clone() }),
        CallError::FunctionNotFound { name: long.clone(), nearest: vec![long.clone(); 3], started: true },
        CallError::Degraded { reason: long.clone(), started: false, retry_after: Duration::MAX },
    ];
    let context = ErrorContext { function: "f".repeat(256), request_id: "r".repeat(128), ..context() };
    let mut statuses: Vec<Status> = errors.iter().map(|error| call_failed(error, &context)).collect();
    statuses.push(invalid_argument(vec![violation(long.clone(), long); 100], &context.request_id));
    for status in statuses {
        let mut headers = http::HeaderMap::new();
        status.add_header(&mut headers).unwrap();
        // How HTTP/2 counts: each name and value, and 32 for each header.
        let size: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(size < LIMIT_OF_OTHERS - 256, "{size} for {:.80}", status.message());
        assert!(detail::<ErrorInfo>(&status, "ErrorInfo").is_some());
    }
}

#[test]
fn the_end_of_a_long_traceback_is_kept() {
    let traceback = numbered_lines(5000);
    let error = item(raised_with(traceback, Bytes::new()));
    let debug: DebugInfo = detail(&call_failed(&error, &context()), "DebugInfo").unwrap();
    assert_eq!(debug.stack_entries.last().unwrap(), "  line 4999");
    assert!(debug.stack_entries[0].contains("lines cut"), "{}", debug.stack_entries[0]);
}

#[test]
fn the_begin_of_long_stacks_is_kept() {
    let stack = numbered_lines(5000);
    let error = item(ItemFailure::ItemTimeout { limit: Duration::from_secs(1), attempt: 1, stack });
    let debug: DebugInfo = detail(&call_failed(&error, &context()), "DebugInfo").unwrap();
    assert_eq!(debug.stack_entries[0], "  line 0");
    assert!(debug.stack_entries.last().unwrap().contains("lines cut"), "{:?}", debug.stack_entries.last());
}

#[test]
fn the_error_of_an_item_has_room_for_its_traceback_as_long_as_the_message_has() {
    let traceback = numbered_lines(2000);
    let error = ItemError { index: 17, failure: raised_with(traceback, Bytes::new()) };
    let mut budget = 40_000;
    let lines_of = |budget: &mut usize| {
        let status = item_failed(&error, &context(), budget).status.unwrap();
        assert_eq!(find::<ErrorInfo>(&status, "ErrorInfo").unwrap().reason, "FUNCTION_RAISED");
        find::<DebugInfo>(&status, "DebugInfo").map_or(0, |debug| debug.stack_entries.len())
    };
    assert_eq!(lines_of(&mut budget), 2000);
    let second = lines_of(&mut budget);
    assert!(second > 0 && second < 2000, "{second}");
    let third = lines_of(&mut budget);
    assert!(third < second, "{third}");
    while budget > 400 {
        lines_of(&mut budget);
    }
    assert_eq!(lines_of(&mut budget), 0);
}
