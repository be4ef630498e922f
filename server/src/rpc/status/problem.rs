//! The form of an error: code, message and `google.rpc` details, within the size that a header may have.
//!
//! What the errors are is the business of the parent module.

use std::time::Duration;

use bytes::Bytes;
use procpool_proto::google::rpc::{BadRequest, DebugInfo, ErrorInfo, RequestInfo, ResourceInfo, RetryInfo, Status};
use procpool_proto::{Reason, v1};
use prost::Message as _;
use prost_types::Any;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::text::{keep_end, keep_first_lines, keep_last_lines, keep_start, keep_start_percent_encoded};

const DOMAIN: &str = "procpool";
/// gRFC A6: after how many milliseconds a client library may try again; a negative number: never.
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// The most bytes of details in the header of a failed call, before base64. With the message and the other headers the
/// whole list stays under the 8 KiB that gRPC implementations accept by default.
const MAX_HEADER_DETAILS_BYTES: usize = 4096;
/// The most bytes of a message in a header, percent-encoded.
const MAX_HEADER_MESSAGE_BYTES: usize = 1536;
/// The most bytes of a message and of a traceback in the error of one item.
const MAX_ITEM_MESSAGE_BYTES: usize = 8 << 10;
const MAX_ITEM_TRACEBACK_BYTES: usize = 64 << 10;
/// The most bytes of data in the error of one item. What workers send fits.
const MAX_ITEM_DATA_BYTES: usize = (64 << 10) + 2 * DETAIL_OVERHEAD_BYTES;
const MAX_METADATA_VALUE_BYTES: usize = 256;
/// Less than this helps nobody.
const MIN_DEBUG_BYTES: usize = 256;
/// What the tags and lengths of a detail, and of one stack entry, may add.
const DETAIL_OVERHEAD_BYTES: usize = 64;

/// Whether the same call may simply be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retry {
    /// Something may have started, or the same would happen again.
    Never,
    /// Nothing has started; after this time it may be worth trying.
    After(Duration),
}

/// One error, before it takes the form of a header or of a message.
#[derive(Debug, Clone)]
pub(super) struct Problem<'a> {
    code: Code,
    reason: Reason,
    message: String,
    metadata: Vec<(&'static str, String)>,
    retry: Retry,
    bad_request: Option<BadRequest>,
    resource: Option<ResourceInfo>,
    traceback: &'a str,
    stack: &'a str,
    output_tail: &'a str,
    data: Bytes,
}

impl<'a> Problem<'a> {
    pub(super) fn new(code: Code, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: Vec::new(),
            retry: Retry::Never,
            bad_request: None,
            resource: None,
            traceback: "",
            stack: "",
            output_tail: "",
            data: Bytes::new(),
        }
    }

    /// Adds metadata to the `ErrorInfo`, unless it is empty.
    pub(super) fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        let value = value.to_string();
        if !value.is_empty() {
            self.metadata.push((key, value));
        }
        self
    }

    pub(super) fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    pub(super) fn bad_request(self, bad_request: BadRequest) -> Self {
        Self { bad_request: Some(bad_request), ..self }
    }

    pub(super) fn resource(self, resource: ResourceInfo) -> Self {
        Self { resource: Some(resource), ..self }
    }

    /// Adds where it happened, as the language prints it.
    pub(super) fn traceback(self, traceback: &'a str) -> Self {
        Self { traceback, ..self }
    }

    /// Adds the stacks of a worker's threads, the most important first.
    pub(super) fn stack(self, stack: &'a str) -> Self {
        Self { stack, ..self }
    }

    /// Adds the error in the form of its language.
    pub(super) fn data(self, data: &Bytes) -> Self {
        Self { data: data.clone(), ..self }
    }

    /// Adds the end of what the worker wrote to stderr.
    pub(super) fn output_tail(self, output_tail: &'a str) -> Self {
        Self { output_tail, ..self }
    }

    /// Returns the error of a whole call. Its details travel in a header, and are cut to fit one.
    pub(super) fn into_status(self, request_id: &str) -> tonic::Status {
        let message = keep_start_percent_encoded(&self.message, MAX_HEADER_MESSAGE_BYTES);
        let mut details = Details::new(MAX_HEADER_DETAILS_BYTES.saturating_sub(message.len() + DETAIL_OVERHEAD_BYTES));
        self.push_details(&mut details);
        if !request_id.is_empty() {
            let request_info = RequestInfo { request_id: request_id.to_owned(), ..RequestInfo::default() };
            details.push("RequestInfo", &request_info);
        }
        // Before the traceback, of which a part is of use, too.
        details.push_data(&self);
        details.push_debug_info(&self);

        let status = Status { code: self.code as i32, message: message.to_owned(), details: details.list };
        let mut metadata = MetadataMap::new();
        // gRFC A6: a negative number forbids the client library to retry by itself.
        let pushback = match self.retry {
            Retry::Never => -1,
            Retry::After(delay) => i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
        };
        metadata.insert(PUSHBACK, MetadataValue::from(pushback));
        tonic::Status::with_details_and_metadata(self.code, message, status.encode_to_vec().into(), metadata)
    }

    /// Returns the error of one item, to stand beside the results. `debug_budget` is what all errors of one message may
    /// still spend on data, tracebacks and output.
    pub(super) fn into_item_status(self, debug_budget: &mut usize) -> Status {
        let mut details = Details::new(usize::MAX);
        self.push_details(&mut details);
        details.spend(debug_budget, MAX_ITEM_DATA_BYTES, |details| details.push_data(&self));
        details.spend(debug_budget, MAX_ITEM_TRACEBACK_BYTES, |details| details.push_debug_info(&self));
        let message = keep_start(&self.message, MAX_ITEM_MESSAGE_BYTES).to_owned();
        Status { code: self.code as i32, message, details: details.list }
    }

    /// Adds everything but the debugging information, the most important first.
    fn push_details(&self, details: &mut Details) {
        let metadata = self.metadata.iter();
        details.push(
            "ErrorInfo",
            &ErrorInfo {
                reason: self.reason.as_str().to_owned(),
                domain: DOMAIN.to_owned(),
                metadata: metadata
                    .map(|(key, value)| ((*key).to_owned(), keep_start(value, MAX_METADATA_VALUE_BYTES).to_owned()))
                    .collect(),
            },
        );
        if let Retry::After(delay) = self.retry {
            let retry_delay = prost_types::Duration::try_from(delay).ok();
            details.push("RetryInfo", &RetryInfo { retry_delay });
        }
        if let Some(bad_request) = &self.bad_request {
            details.push("BadRequest", bad_request);
        }
        if let Some(resource) = &self.resource {
            details.push("ResourceInfo", resource);
        }
    }
}

/// Details that together stay within a number of bytes.
struct Details {
    list: Vec<Any>,
    remaining: usize,
}

impl Details {
    fn new(max_bytes: usize) -> Self {
        Self { list: Vec::new(), remaining: max_bytes }
    }

    /// Lets `push` add at most this many bytes, and takes what it adds from the budget.
    fn spend(&mut self, budget: &mut usize, max_bytes: usize, push: impl FnOnce(&mut Self)) {
        let before = max_bytes.min(*budget);
        self.remaining = before;
        push(self);
        *budget -= before - self.remaining;
    }

    /// Adds a detail of `google.rpc` if it fits.
    fn push<M: prost::Message>(&mut self, name: &str, detail: &M) {
        self.push_any(format!("type.googleapis.com/google.rpc.{name}"), detail);
    }

    fn push_any<M: prost::Message>(&mut self, type_url: String, detail: &M) {
        let size = detail.encoded_len() + DETAIL_OVERHEAD_BYTES;
        if size <= self.remaining {
            self.remaining -= size;
            self.list.push(Any { type_url, value: detail.encode_to_vec() });
        }
    }

    /// Adds the error in the form of its language, if there is one and it fits.
    fn push_data(&mut self, problem: &Problem<'_>) {
        if !problem.data.is_empty() {
            let data = v1::ErrorData { data: problem.data.clone() };
            self.push_any("type.googleapis.com/procpool.v1.ErrorData".to_owned(), &data);
        }
    }

    /// Adds as much as fits of what helps to find the cause: of a traceback the last lines, of stacks the first.
    fn push_debug_info(&mut self, problem: &Problem<'_>) {
        let room = self.remaining.saturating_sub(2 * DETAIL_OVERHEAD_BYTES);
        if room < MIN_DEBUG_BYTES {
            return;
        }
        let stack_entries = match problem.stack {
            "" => keep_last_lines(problem.traceback, room),
            stack => keep_first_lines(stack, room),
        };
        let spent: usize = stack_entries.iter().map(|line| line.len() + super::text::LINE_OVERHEAD_BYTES).sum();
        let detail = keep_end(problem.output_tail, room.saturating_sub(spent)).to_owned();
        if !stack_entries.is_empty() || !detail.is_empty() {
            self.push("DebugInfo", &DebugInfo { stack_entries, detail });
        }
    }
}
