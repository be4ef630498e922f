//! The table of errors: what happened → code, reason and details.
//!
//! The only place where a `tonic::Status` or a `google.rpc.Status` is built. The comment on `PoolService` in
//! `pool.proto` is the normative form of the table. A code of `UNAVAILABLE` or `RESOURCE_EXHAUSTED` comes with a
//! `RetryInfo` only where nothing has started; everything else tells the client library not to retry by itself.
//!
//! The details of a failed call travel in a header. They are cut so that the whole list of headers stays under 8 KiB,
//! the default limit of other implementations; the end of a traceback is kept. Errors of items in a message may have
//! 64 KiB each.

mod problem;
mod text;

#[cfg(test)]
mod tests;

use std::time::Duration;

use procpool_pool::{
    CallError, CallPart, DeadlinePhase, DumpFailure, ExitUsage, ItemError, ItemFailure, RESERVED_PREFIX, Restart,
    RestartProgress, WorkerExit,
};
use procpool_proto::google::rpc::bad_request::FieldViolation;
use procpool_proto::google::rpc::{BadRequest, ErrorInfo, ResourceInfo};
use procpool_proto::{Reason, v1};
use prost::Message as _;
use tonic::{Code, Status};

use self::problem::{Problem, Retry};
use super::error_context::ErrorContext;
use crate::operators::Operators;
use crate::peer::Peer;

/// When a call that was refused for lack of room may be worth trying again.
const BUDGET_RETRY_DELAY: Duration = Duration::from_millis(500);
/// When another server, or this one after its restart, may take the call.
const DRAINING_RETRY_DELAY: Duration = Duration::from_secs(1);
/// SIGKILL.
const KILL: i32 = 9;
/// The most fields that one error names.
const MAX_VIOLATIONS: usize = 10;
/// The most bytes that the errors of one message may spend on data, tracebacks and output.
const MAX_DEBUG_BYTES_PER_MESSAGE: usize = 1 << 20;

/// Returns how many bytes the errors of one message may spend on data, tracebacks and output.
pub(crate) fn debug_budget(max_message_bytes: u32) -> usize {
    MAX_DEBUG_BYTES_PER_MESSAGE.min(max_message_bytes as usize / 4)
}

/// Returns why a call as a whole has no answer.
pub(crate) fn call_failed(error: &CallError, context: &ErrorContext) -> Status {
    call_problem(error, context).into_status(&context.request_id)
}

/// Returns why the pool does not take more items of a stream. `is_first`: it was given none before, so that nothing of
/// the call has started.
pub(crate) fn items_refused(error: &CallError, is_first: bool, context: &ErrorContext) -> Status {
    let problem = call_problem(error, context);
    let problem = if is_first { problem } else { problem.retry(Retry::Never) };
    problem.into_status(&context.request_id)
}

fn call_problem<'a>(error: &'a CallError, context: &ErrorContext) -> Problem<'a> {
    let problem = match error {
        CallError::QueueFull { what, limit, retry_after } => {
            queue_full(error.to_string(), what, *limit).retry(Retry::After(*retry_after))
        }
        CallError::LargerThanQueue { what, limit, .. } => queue_full(error.to_string(), what, *limit),
        CallError::ResultsTooLarge { bytes, limit } => response_problem(*bytes, *limit),
        CallError::ResultsFull { limit } => {
            Problem::new(Code::ResourceExhausted, Reason::ResultsFull, error.to_string()).with("limit_bytes", limit)
        }
        CallError::Draining { started } => Problem::new(Code::Unavailable, Reason::Draining, error.to_string())
            .with("started", started)
            .retry(retry_unless_started(*started, DRAINING_RETRY_DELAY)),
        CallError::Degraded { started, retry_after, .. } => {
            Problem::new(Code::Unavailable, Reason::PoolDegraded, error.to_string())
                .with("started", started)
                .retry(retry_unless_started(*started, *retry_after))
        }
        CallError::FunctionNotFound { name, nearest, started } => {
            function_not_found(error, name, nearest).with("started", if *started { "true" } else { "" })
        }
        CallError::ItemFailed(item) => item_problem(item, context),
        CallError::CrashLimit { crashes, exit, usage, stderr_tail } => {
            with_exit(Problem::new(Code::FailedPrecondition, Reason::CrashLimit, error.to_string()), exit, *usage)
                .with("attempts", crashes)
                .output_tail(stderr_tail)
        }
        CallError::DeadlineExceeded { phase } => {
            let phase = match phase {
                DeadlinePhase::Queued => "queued",
                DeadlinePhase::Running => "running",
            };
            deadline_problem(phase)
        }
        CallError::DeadlineUnreachable { expected, remaining, retry_after } => {
            Problem::new(Code::ResourceExhausted, Reason::DeadlineUnreachable, error.to_string())
                .with("expected_ms", expected.as_millis())
                .with("remaining_ms", remaining.as_millis())
                .retry(Retry::After(*retry_after))
        }
        CallError::CommonNotTaken | CallError::CommonTooLong { .. } => {
            let field = context.common_field.as_deref().unwrap_or("common");
            invalid(Reason::InvalidArgument, vec![violation(field, error.to_string())])
        }
        CallError::MixedKinds => invalid(Reason::InvalidArgument, vec![violation("items", error.to_string())]),
        CallError::Cancelled => Problem::new(Code::Cancelled, Reason::Cancelled, error.to_string()),
        CallError::CancelledByOperator { .. } => {
            Problem::new(Code::Cancelled, Reason::CancelledByOperator, error.to_string())
        }
        CallError::JobEnded | CallError::PoolGone => Problem::new(Code::Internal, Reason::Internal, error.to_string()),
    };
    of_call(problem, context)
}

/// Adds what the call is known by.
fn of_call<'a>(problem: Problem<'a>, context: &ErrorContext) -> Problem<'a> {
    problem.with("function", &context.function).with("job", &context.job)
}

fn queue_full(message: String, resource: &str, limit: u64) -> Problem<'static> {
    Problem::new(Code::ResourceExhausted, Reason::QueueFull, message).with("resource", resource).with("limit", limit)
}

fn retry_unless_started(started: bool, delay: Duration) -> Retry {
    if started { Retry::Never } else { Retry::After(delay) }
}

fn function_not_found(error: &CallError, name: &str, nearest: &[String]) -> Problem<'static> {
    let advice = if name.starts_with(RESERVED_PREFIX) {
        "it runs functions that clients send as pickles: start the server with --allow-pickle (allow_pickle), and with workers \
         whose SDK supports it, if the server and all its clients trust each other"
            .to_owned()
    } else if nearest.is_empty() {
        "ListFunctions tells which there are".to_owned()
    } else {
        format!("did you mean {}?", nearest.join(", "))
    };
    let resource = ResourceInfo {
        resource_type: "function".to_owned(),
        resource_name: name.to_owned(),
        description: advice.clone(),
        ..ResourceInfo::default()
    };
    Problem::new(Code::NotFound, Reason::FunctionNotFound, format!("{error}; {advice}"))
        .with("nearest", nearest.join(", "))
        .resource(resource)
}

/// Returns the error of one item, to stand beside the results. [`debug_budget`] is where the
/// budget of each message starts.
pub(crate) fn item_failed(error: &ItemError, context: &ErrorContext, remaining_budget: &mut usize) -> v1::ItemError {
    let status = of_call(item_problem(error, context), context).into_item_status(remaining_budget);
    v1::ItemError { index: error.index, status: Some(status) }
}

fn item_problem<'a>(error: &'a ItemError, context: &ErrorContext) -> Problem<'a> {
    let ItemError { index, failure } = error;
    let problem = |code, reason| Problem::new(code, reason, failure.to_string()).with("index", index);
    match failure {
        ItemFailure::Raised { kind, traceback, data, .. } => {
            problem(Code::Unknown, Reason::FunctionRaised).with("type", kind).traceback(traceback).data(data)
        }
        ItemFailure::ResultNotEncodable { .. } => problem(Code::Internal, Reason::ResultNotEncodable),
        ItemFailure::InvalidItem { part, message } => {
            let field = match part {
                CallPart::Item => context.item_field(*index),
                CallPart::Common => context.common_field.clone().unwrap_or_else(|| "common".to_owned()),
                CallPart::Kwargs => "kwargs".to_owned(),
            };
            problem(Code::InvalidArgument, Reason::InvalidItem)
                .bad_request(BadRequest { field_violations: vec![violation(field, message.clone())] })
        }
        ItemFailure::WorkerCrashed { exit, pid, attempt, usage, stderr_tail } => {
            let reason = if exit.is_out_of_memory() { Reason::WorkerOomKilled } else { Reason::WorkerCrashed };
            with_exit(problem(Code::Aborted, reason), exit, *usage)
                .with("pid", pid)
                .with("attempt", attempt)
                .output_tail(stderr_tail)
        }
        ItemFailure::CrashLimit { attempts, exit, usage, stderr_tail } => {
            with_exit(problem(Code::FailedPrecondition, Reason::CrashLimit), exit, *usage)
                .with("attempts", attempts)
                .output_tail(stderr_tail)
        }
        ItemFailure::ItemTimeout { limit, attempt, stack } => problem(Code::DeadlineExceeded, Reason::ItemTimeout)
            .with("limit_ms", limit.as_millis())
            .with("attempt", attempt)
            .stack(stack),
        ItemFailure::WorkerProtocol { .. } => problem(Code::Internal, Reason::WorkerProtocol),
    }
}

fn with_exit<'a>(problem: Problem<'a>, exit: &WorkerExit, usage: ExitUsage) -> Problem<'a> {
    let problem = match exit {
        WorkerExit::Code(code) => problem.with("exit_code", code),
        WorkerExit::Signal(signal) => problem.with("signal", signal),
        WorkerExit::MemoryLimit { rss_bytes, limit_bytes } => {
            problem.with("signal", KILL).with("rss_bytes", rss_bytes).with("limit_bytes", limit_bytes)
        }
        WorkerExit::KernelOom => problem.with("signal", KILL),
        WorkerExit::GivenUp { .. } => problem.with("signal", KILL).with("exit", exit),
        WorkerExit::Protocol(_) | WorkerExit::StartTimeout | WorkerExit::SpawnFailed { .. } => {
            problem.with("exit", exit)
        }
    };
    let cpu_seconds = usage.cpu_time.map(|time| format!("{:.3}", time.as_secs_f64()));
    problem
        .with("peak_rss_bytes", usage.peak_rss_bytes.map(|bytes| bytes.to_string()).unwrap_or_default())
        .with("cpu_seconds", cpu_seconds.unwrap_or_default())
}

/// One wrong field of a request.
pub(crate) fn violation(field: impl Into<String>, description: impl Into<String>) -> FieldViolation {
    FieldViolation { field: field.into(), description: description.into(), ..FieldViolation::default() }
}

/// Returns that fields of the request are wrong. There must be at least one.
pub(crate) fn invalid_argument(violations: Vec<FieldViolation>, request_id: &str) -> Status {
    invalid(Reason::InvalidArgument, violations).into_status(request_id)
}

/// Returns that an item has the wrong form.
pub(crate) fn invalid_item(field: String, description: String, index: u64, request_id: &str) -> Status {
    invalid(Reason::InvalidItem, vec![violation(field, description)]).with("index", index).into_status(request_id)
}

fn invalid(reason: Reason, mut violations: Vec<FieldViolation>) -> Problem<'static> {
    let message = match violations.as_slice() {
        [only] => format!("{}: {}", only.field, only.description),
        [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.description, rest.len()),
        [] => "the request is not valid".to_owned(),
    };
    violations.truncate(MAX_VIOLATIONS);
    Problem::new(Code::InvalidArgument, reason, message).bad_request(BadRequest { field_violations: violations })
}

/// Returns that a request message is over the limit.
pub(crate) fn request_too_large(bytes: u64, limit: u64) -> Status {
    let message = format!(
        "a message of {bytes} bytes is over the server's limit of {limit} bytes; send less at a time, or use IMapStream"
    );
    too_large(message, bytes, limit).into_status("")
}

/// Returns that a response message would be over the limit.
pub(crate) fn response_too_large(bytes: u64, limit: u64, context: &ErrorContext) -> Status {
    of_call(response_problem(bytes, limit), context).into_status(&context.request_id)
}

/// There may be more results than these.
fn response_problem(bytes: u64, limit: u64) -> Problem<'static> {
    let message = format!(
        "the results take {bytes} bytes or more, over the server's limit of {limit} bytes for a message; use IMap, or \
         send fewer items at a time"
    );
    too_large(message, bytes, limit)
}

/// Returns that one result is too large for any message, to stand at its place.
pub(crate) fn result_too_large(index: u64, bytes: u64, limit: u64) -> v1::ItemError {
    let status = result_problem(index, bytes, limit).into_item_status(&mut 0);
    v1::ItemError { index, status: Some(status) }
}

/// Returns that one result is too large for any message, to end the call.
pub(crate) fn result_too_large_for_call(index: u64, bytes: u64, limit: u64, context: &ErrorContext) -> Status {
    of_call(result_problem(index, bytes, limit), context).into_status(&context.request_id)
}

fn result_problem(index: u64, bytes: u64, limit: u64) -> Problem<'static> {
    let message = format!("the result takes {bytes} bytes, over the server's limit of {limit} bytes for a message");
    too_large(message, bytes, limit).with("index", index)
}

fn too_large(message: String, bytes: u64, limit: u64) -> Problem<'static> {
    Problem::new(Code::ResourceExhausted, Reason::MessageTooLarge, message)
        .with("bytes", bytes)
        .with("limit_bytes", limit)
}

/// Returns that too many bytes of requests are being received at this moment.
pub(crate) fn request_bytes_exhausted(limit: u64) -> Status {
    let message =
        format!("the requests being received would pass the server's limit of {limit} bytes; try again later");
    queue_full(message, "request bytes in flight", limit).retry(Retry::After(BUDGET_RETRY_DELAY)).into_status("")
}

/// Returns that there are as many calls in progress as there may be.
pub(crate) fn too_many_calls(limit: u32) -> Status {
    let message =
        format!("there are {limit} calls in progress, as many as the server takes at a time; try again later");
    queue_full(message, "calls", limit.into()).retry(Retry::After(BUDGET_RETRY_DELAY)).into_status("")
}

/// Returns that an item calls a function of the very pool that it runs in.
pub(crate) fn nested_call(pool: &str, context: &ErrorContext) -> Status {
    let message = format!(
        "the caller is itself an item of the pool {pool:?}: it would hold a slot while it waits for one, and when all do so none \
         becomes free; call the function directly, or put one of the two into another pool"
    );
    let problem = Problem::new(Code::FailedPrecondition, Reason::NestedCall, message).with("pool", pool);
    of_call(problem, context).into_status(&context.request_id)
}

/// Returns that the operators' service is not for this caller.
pub(crate) fn not_an_operator(peer: Option<Peer>, operators: Operators) -> Status {
    let peer = peer.map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
    let message = format!("only operators may call this, and the caller ({peer}) is none: {}", operators.description());
    Problem::new(Code::PermissionDenied, Reason::NotAnOperator, message).with("peer", peer).into_status("")
}

/// Returns that the deadline passed outside of the pool.
pub(crate) fn deadline_exceeded(phase: &'static str) -> Status {
    deadline_problem(phase).into_status("")
}

fn deadline_problem(phase: &'static str) -> Problem<'static> {
    Problem::new(Code::DeadlineExceeded, Reason::Deadline, format!("the deadline passed while the call was {phase}"))
        .with("phase", phase)
}

/// Returns that the client went away before its request was complete. Nobody receives it; its use is that the end of
/// the request is not mistaken for a proper one.
pub(crate) fn request_cut_short(error: &dyn std::error::Error) -> Status {
    Problem::new(Code::Aborted, Reason::RequestCutShort, format!("the request was cut short: {error}")).into_status("")
}

/// Returns that nothing more of a request has come for this long.
pub(crate) fn request_stalled(timeout: Duration) -> Status {
    let message = format!("nothing more of the request has come for {timeout:?}, and it is not complete");
    Problem::new(Code::Aborted, Reason::RequestCutShort, message).into_status("")
}

/// Returns that the server is shutting down, for what is not a call of the pool.
pub(crate) fn shutting_down() -> Status {
    Problem::new(Code::Unavailable, Reason::Draining, "the server is shutting down")
        .retry(Retry::After(DRAINING_RETRY_DELAY))
        .into_status("")
}

/// Returns that the server is shutting down before the workers were replaced. Some may have been.
pub(crate) fn restart_cut_short() -> Status {
    Problem::new(Code::Unavailable, Reason::Draining, "the server is shutting down, and not all workers were replaced")
        .with("started", true)
        .into_status("")
}

/// Returns that the deadline passed before the workers of these pools were replaced, and what is in the way.
pub(crate) fn restart_unfinished<'a>(pools: impl Iterator<Item = (&'a str, &'a Restart)>) -> Status {
    let pools: Vec<String> = pools
        .filter(|(_, restart)| !restart.is_over())
        .map(|(pool, restart)| {
            let RestartProgress { num_left, start_failure, .. } = restart.progress();
            let failure = if start_failure.is_empty() { start_failure } else { format!(" ({start_failure})") };
            format!("{num_left} of {} old workers are left in pool {pool:?}{failure}", restart.num_workers())
        })
        .collect();
    let message = format!("the deadline passed before all workers were replaced, and it goes on: {}", pools.join("; "));
    Problem::new(Code::DeadlineExceeded, Reason::Deadline, message).with("phase", "restarting").into_status("")
}

/// Returns why a worker's stacks cannot be told.
pub(crate) fn dump_failed(failure: DumpFailure, worker_id: u64) -> Status {
    let problem = |code, reason| Problem::new(code, reason, failure.to_string()).with("worker_id", worker_id);
    let problem = match failure {
        DumpFailure::PoolStopped => return shutting_down(),
        DumpFailure::NoSuchWorker => problem(Code::NotFound, Reason::WorkerNotFound),
        DumpFailure::NotSupported => problem(Code::FailedPrecondition, Reason::DumpNotSupported),
        DumpFailure::NoAnswer => problem(Code::FailedPrecondition, Reason::DumpNotAnswered),
        DumpFailure::Busy => problem(Code::ResourceExhausted, Reason::DumpBusy).retry(Retry::After(BUDGET_RETRY_DELAY)),
    };
    problem.into_status("")
}

/// Returns that there is no job of this number, and where to find those that there are.
pub(crate) fn no_such_job(job: u64) -> Status {
    let message = format!("there is no job {job}: it has ended, or never began; GetPool tells which there are");
    Problem::new(Code::NotFound, Reason::JobNotFound, message).with("job", job).into_status("")
}

/// Returns that something is wrong in this program.
pub(crate) fn internal(message: &str, context: &ErrorContext) -> Status {
    of_call(Problem::new(Code::Internal, Reason::Internal, message), context).into_status(&context.request_id)
}

/// Returns the reason of an error that says "not now": nothing of the call was run, and it may be tried again.
pub(crate) fn refusal_reason(status: &Status) -> Option<Reason> {
    let pushback = status.metadata().get(problem::PUSHBACK)?.to_str().ok()?;
    pushback.parse::<u64>().ok()?;
    Reason::parse(&error_info(status)?.reason)
}

/// Returns the reason of an error, and what belongs to it; `None` for an error that is not ours.
pub(crate) fn error_info(status: &Status) -> Option<ErrorInfo> {
    let details = procpool_proto::google::rpc::Status::decode(status.details()).ok()?.details;
    let info = details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"))?;
    ErrorInfo::decode(info.value.as_slice()).ok()
}

/// Tells whether the message of an error for this reason may have what users computed in it.
pub(crate) fn has_text_of_users(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::FunctionRaised | Reason::InvalidItem | Reason::ResultNotEncodable))
}

/// Returns that there is no such service.
pub(crate) fn no_such_method() -> Status {
    with_details(&Status::unimplemented(""))
}

/// Returns that a call came to the admin port, and where calls are taken.
pub(crate) fn not_for_admin_port(listen: &str) -> Status {
    let message = format!(
        "this is the admin port, which has /metrics, /healthz, /readyz and grpc.health.v1.Health; make calls to {listen}"
    );
    Problem::new(Code::Unimplemented, Reason::Unimplemented, message).into_status("")
}

/// Gives an error of the gRPC libraries themselves (an unknown method, a request that is not protobuf, the health of
/// what there is not) the details that every error of ours has.
pub(crate) fn with_details(status: &Status) -> Status {
    if !status.details().is_empty() {
        return status.clone();
    }
    let reason = match status.code() {
        Code::Unimplemented => Reason::Unimplemented,
        Code::InvalidArgument => Reason::InvalidArgument,
        Code::NotFound => Reason::NotFound,
        Code::Cancelled => Reason::Cancelled,
        _ => Reason::Internal,
    };
    let message = match (status.code(), status.message()) {
        (Code::Unimplemented, "") => "there is no such method; ask reflection which there are",
        (_, message) => message,
    };
    Problem::new(status.code(), reason, message).into_status("")
}
