//! Requests → what the pool takes, or an error that names every wrong field.
//!
//! Of an item only the first byte is read: its content is opaque to the server.

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{Encoded, ItemKind, ItemSlab, SlabProblem};
use procpool_pool::{Call, CallLabel, CallOptions, CallStyle, CommonArgument, OnError, ResultOrder, StreamOptions};
use procpool_proto::google::rpc::bad_request::FieldViolation;
use procpool_proto::v1;
use tonic::Status;

use super::call_log::CallLogEntry;
use super::error_context::{ErrorContext, Method, common_field, list_field};
use super::pool_rpc::PoolRpc;
use super::request_metadata::{MAX_REQUEST_ID_BYTES, RequestMetadata};
use super::{media_type, status};

const MAX_CHUNK_SIZE: u32 = 1_000_000;
const MAX_ATTEMPTS: u32 = 10;
const MAX_WINDOW: u32 = 1_000_000;
const MAX_FUNCTION_BYTES: usize = 256;
const MAX_CONTENT_TYPE_BYTES: usize = 256;
const PRIORITIES: std::ops::RangeInclusive<i32> = -8..=8;

/// Up to this length, values are copied out of the buffer of their request, which has several KiB however short they are.
const MAX_COPIED_BYTES: usize = 16 << 10;

/// Copies the items or the common argument of a request out of its buffer, so that neither keeps much more in memory than
/// itself: they are dropped at different times. The longer of the two may keep the buffer.
pub(super) fn separate(items: &mut Option<Encoded>, common: &mut Option<Encoded>) {
    let length = |encoded: &Option<Encoded>| encoded.as_ref().map_or(0, |encoded| encoded.bytes.len());
    let (items_len, common_len) = (length(items), length(common));
    for (encoded, other_len) in [(items, common_len), (common, items_len)] {
        if let Some(Encoded { bytes, .. }) = encoded
            && (bytes.len() <= MAX_COPIED_BYTES || bytes.len() < other_len)
        {
            *bytes = Bytes::copy_from_slice(bytes);
        }
    }
}

/// What to run, as the request says it.
#[derive(Debug)]
pub(super) struct UncheckedCall {
    pub(super) method: Method,
    pub(super) style: CallStyle,
    pub(super) function: String,
    pub(super) content_type: String,
    pub(super) common: Option<Encoded>,
    pub(super) options: Option<v1::CallOptions>,
    /// Order and window, for streams.
    pub(super) stream: Option<(i32, u32)>,
}

impl UncheckedCall {
    /// Returns a call that is no stream.
    pub(super) fn new(
        method: Method,
        style: CallStyle,
        function: String,
        content_type: String,
        options: Option<v1::CallOptions>,
        common: Option<Encoded>,
    ) -> Self {
        Self { method, style, function, content_type, common, options, stream: None }
    }
}

/// A call that was checked.
#[derive(Debug)]
pub(super) struct CheckedCall {
    pub(super) call: Call,
    pub(super) stream: StreamOptions,
    pub(super) context: ErrorContext,
}

/// Starts the log entry of a call that came in one message, and checks all of it.
///
/// # Errors
///
/// With every field that is wrong, or the first item.
pub(super) fn check_whole(
    rpc: &PoolRpc,
    mut unchecked: UncheckedCall,
    mut items: Option<Encoded>,
    metadata: RequestMetadata,
) -> Result<(CheckedCall, ItemSlab, CallLogEntry), Status> {
    separate(&mut items, &mut unchecked.common);
    let (style, kind) = (unchecked.style, items.as_ref().map(|items| items.kind));
    let mut entry = rpc.log_entry(unchecked.method, &metadata);
    let checked = check_call(rpc, unchecked, kind, metadata, &mut entry)?;
    let items = check_items(items, style, 0, &checked.context).map_err(|error| entry.fail(error))?;
    Ok((checked, items, entry))
}

/// Checks everything but the items, and names the call in its entry. `kind` is the kind of the items, as far as it is
/// known.
///
/// # Errors
///
/// With every field that is wrong.
pub(super) fn check_call(
    rpc: &PoolRpc,
    unchecked: UncheckedCall,
    kind: Option<ItemKind>,
    metadata: RequestMetadata,
    entry: &mut CallLogEntry,
) -> Result<CheckedCall, Status> {
    // In an IMapStream, these fields are in the config.
    let prefix = if unchecked.method == Method::IMapStream { "config." } else { "" };
    let mut checker = Checker { prefix, violations: Vec::new() };
    let sent_options = unchecked.options.unwrap_or_default();
    let options = checker.options(&sent_options);
    let request_id = match sent_options.request_id {
        id if id.is_empty() => metadata.request_id,
        id => id,
    };
    let stream = unchecked.stream.map(|(order, window)| checker.stream_options(order, window)).unwrap_or_default();
    checker.function(&unchecked.function);
    let content_type = checker.content_type(&unchecked.content_type, kind, unchecked.style);
    let common = unchecked.common.map(|common| checker.common(common, &content_type));
    // Names that are too long are not repeated in the log.
    entry.set_names(
        if unchecked.function.len() <= MAX_FUNCTION_BYTES { &unchecked.function } else { "" },
        if request_id.len() <= MAX_REQUEST_ID_BYTES { &request_id } else { "" },
    );
    if let Some(span) = &metadata.span {
        span.describe(&entry.function, &entry.request_id);
    }
    let context = ErrorContext {
        method: unchecked.method,
        function: unchecked.function.clone(),
        request_id: request_id.clone(),
        job: entry.job.clone(),
        kind: kind.unwrap_or(ItemKind::Values),
        common_field: common.as_ref().map(|common| format!("{prefix}{}", common_field(common.kind))),
    };
    if !checker.violations.is_empty() {
        let invalid = status::invalid_argument(checker.violations, &entry.request_id);
        return Err(entry.fail(invalid));
    }
    // The caller would hold a slot while it waits for one.
    if let Some(pool) = rpc.pools.own_pool(&unchecked.function, &metadata.caller_pool) {
        return Err(entry.fail(status::nested_call(&pool.name, &context)));
    }
    let call = Call {
        function: unchecked.function,
        content_type,
        style: unchecked.style,
        common,
        options,
        max_answer_bytes: None,
        deadline: metadata.deadline,
        trace: metadata.trace,
        label: CallLabel { method: unchecked.method.name(), request_id },
        job: entry.job.clone(),
    };
    Ok(CheckedCall { call, stream, context })
}

/// Returns the problem of a canonical content type with items of this kind, if there is one.
pub(super) fn content_type_problem(kind: ItemKind, style: CallStyle, content_type: &str) -> Option<&'static str> {
    match (kind, style) {
        (ItemKind::Values, _) if !content_type.is_empty() => Some("is not allowed with values"),
        (ItemKind::Blobs, CallStyle::Star) if content_type != media_type::JSON => {
            Some("must be application/json where each blob is a list of arguments")
        }
        _ => None,
    }
}

/// Finds the items in a list. `first_index` is the index of the first of them in the call.
///
/// # Errors
///
/// With the first item that has the wrong form.
pub(super) fn check_items(
    items: Option<Encoded>,
    style: CallStyle,
    first_index: u64,
    context: &ErrorContext,
) -> Result<ItemSlab, Status> {
    let Some(Encoded { kind, bytes }) = items else { return Ok(ItemSlab::empty(context.kind)) };
    let invalid = |position: usize, problem: String| {
        let field = format!("{}[{position}]", list_field(kind));
        status::invalid_item(field, problem, first_index + position as u64, &context.request_id)
    };
    let slab = ItemSlab::parse(kind, bytes).map_err(|error| match error.problem {
        SlabProblem::TooLong => status::invalid_argument(
            vec![status::violation(list_field(kind), "the list is too long")],
            &context.request_id,
        ),
        problem => invalid(error.index, problem.to_string()),
    })?;
    if kind == ItemKind::Values
        && style == CallStyle::Star
        && let Some(position) = slab.first_non_list()
    {
        return Err(invalid(position, "must be a list: the arguments of one call".to_owned()));
    }
    Ok(slab)
}

/// Collects what is wrong with a request.
struct Checker {
    /// Where the checked message is in the request.
    prefix: &'static str,
    violations: Vec<FieldViolation>,
}

impl Checker {
    fn reject(&mut self, field: &str, description: impl Into<String>) {
        self.violations.push(status::violation(format!("{}{field}", self.prefix), description));
    }

    fn at_most(&mut self, field: &str, value: u32, max: u32) -> Option<NonZeroU32> {
        if value > max {
            self.reject(field, format!("{value} is over the limit of {max}"));
        }
        NonZeroU32::new(value)
    }

    /// Checks a text against its limits. Returns whether it is valid.
    fn text(&mut self, field: &str, value: &str, max_bytes: usize) -> bool {
        let problem = if value.len() > max_bytes {
            format!("has {} bytes, over the limit of {max_bytes}", value.len())
        } else if value.chars().any(char::is_control) {
            "must not have control characters".to_owned()
        } else {
            return true;
        };
        self.reject(field, problem);
        false
    }

    /// Returns the canonical form of the content type; an empty one if it is wrong.
    fn content_type(&mut self, sent: &str, kind: Option<ItemKind>, style: CallStyle) -> String {
        const FIELD: &str = "content_type";
        if !self.text(FIELD, sent, MAX_CONTENT_TYPE_BYTES) {
            return String::new();
        }
        let content_type = media_type::canonical(sent).unwrap_or_else(|problem| {
            self.reject(FIELD, problem);
            String::new()
        });
        // A malformed content type is reported once.
        if (sent.is_empty() || !content_type.is_empty())
            && let Some(problem) = kind.and_then(|kind| content_type_problem(kind, style, &content_type))
        {
            self.reject(FIELD, problem);
        }
        content_type
    }

    fn function(&mut self, function: &str) {
        if function.is_empty() {
            self.reject("function", "is required: the name of a function; ListFunctions tells which there are");
        }
        self.text("function", function, MAX_FUNCTION_BYTES);
    }

    fn common(&mut self, Encoded { kind, bytes }: Encoded, content_type: &str) -> CommonArgument {
        if kind == ItemKind::Values && bytes.is_empty() {
            self.reject(common_field(kind), SlabProblem::EmptyValue.to_string());
        }
        let content_type = if kind == ItemKind::Blobs { content_type.to_owned() } else { String::new() };
        CommonArgument { kind, content_type, bytes }
    }

    fn options(&mut self, sent: &v1::CallOptions) -> CallOptions {
        self.text("options.request_id", &sent.request_id, MAX_REQUEST_ID_BYTES);
        if !PRIORITIES.contains(&sent.priority) {
            self.reject("options.priority", format!("{} is not within -8 to 8", sent.priority));
        }
        CallOptions {
            chunk_size: self.at_most("options.chunk_size", sent.chunk_size, MAX_CHUNK_SIZE),
            item_timeout: sent.item_timeout.as_ref().and_then(|timeout| self.timeout("options.item_timeout", timeout)),
            max_attempts: self.at_most("options.max_attempts", sent.max_attempts, MAX_ATTEMPTS),
            on_error: match v1::OnError::try_from(sent.on_error) {
                Ok(v1::OnError::Unspecified) => None,
                Ok(v1::OnError::FailFast) => Some(OnError::FailFast),
                Ok(v1::OnError::Collect) => Some(OnError::Collect),
                Err(_) => self.unknown_value("options.on_error", sent.on_error),
            },
            priority: sent.priority,
        }
    }

    fn stream_options(&mut self, order: i32, window: u32) -> StreamOptions {
        let order = match v1::ResultOrder::try_from(order) {
            Ok(v1::ResultOrder::Unspecified | v1::ResultOrder::Ordered) => Some(ResultOrder::Ordered),
            Ok(v1::ResultOrder::Unordered) => Some(ResultOrder::Unordered),
            Err(_) => self.unknown_value("order", order),
        };
        StreamOptions { order: order.unwrap_or_default(), window: self.at_most("window", window, MAX_WINDOW) }
    }

    fn unknown_value<T>(&mut self, field: &str, value: i32) -> Option<T> {
        self.reject(field, format!("{value} is not a value of this enum"));
        None
    }

    fn timeout(&mut self, field: &str, sent: &prost_types::Duration) -> Option<Duration> {
        let seconds = u64::try_from(sent.seconds).ok();
        let nanos = u32::try_from(sent.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
        let timeout = seconds.zip(nanos).map(|(seconds, nanos)| Duration::new(seconds, nanos));
        match timeout {
            Some(timeout) if !timeout.is_zero() => Some(timeout),
            _ => {
                self.reject(field, "must be longer than 0, with nanos from 0 to 999,999,999");
                None
            }
        }
    }
}
