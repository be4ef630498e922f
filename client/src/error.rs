//! What can go wrong with a call as a whole, and with one item of it.

use std::fmt;
use std::time::Duration;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why one item has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemError {
    /// The index of the item in the caller's list, from 0.
    pub index: u64,
    /// The cause, with what is known of it.
    pub kind: ItemErrorKind,
    /// The message of the server, for people.
    pub message: String,
}

impl ItemError {
    /// Returns the remote traceback of a function that raised, or the stacks of one that ran too long, if there are any.
    pub fn traceback(&self) -> Option<&str> {
        match &self.kind {
            ItemErrorKind::Raised { traceback: text, .. } | ItemErrorKind::ItemTimeout { stack: text, .. }
                if !text.is_empty() =>
            {
                Some(text)
            }
            _ => None,
        }
    }

    /// Returns the end of what a worker that died wrote to stderr, if it wrote anything.
    pub fn stderr_tail(&self) -> Option<&str> {
        match &self.kind {
            ItemErrorKind::WorkerCrashed { stderr_tail, .. }
            | ItemErrorKind::WorkerOomKilled { stderr_tail, .. }
            | ItemErrorKind::CrashLimit { stderr_tail, .. }
                if !stderr_tail.is_empty() =>
            {
                Some(stderr_tail)
            }
            _ => None,
        }
    }
}

impl fmt::Display for ItemError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "item {}: {}", self.index, self.message)
    }
}

impl std::error::Error for ItemError {}

/// Why an item failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ItemErrorKind {
    /// The function raised, or returned an error.
    Raised {
        /// The type of the error in its language, such as `ValueError`; may be empty.
        type_name: String,
        /// The message of the error, without the type.
        message: String,
        /// The traceback as the language prints it; may be empty.
        traceback: String,
        /// The error in the form of its language, such as a pickled exception; empty if the worker sent none, or it was too
        /// long. Decode it only if you trust the worker.
        data: Box<[u8]>,
    },
    /// The result cannot be encoded.
    ResultNotEncodable,
    /// The result does not fit into a message.
    ResultTooLarge,
    /// The function cannot be called with this item.
    InvalidItem,
    /// The worker died while it ran the item.
    WorkerCrashed {
        /// The signal that killed it, if one did.
        signal: Option<i32>,
        /// The code it exited with, if it did.
        exit_code: Option<i32>,
        /// Its process id on the server's machine; 0 if the server did not say.
        pid: u32,
        /// Which execution of the item it was, from 1; 0 if the server did not say.
        attempt: u32,
        /// The memory and processor time that the worker had used.
        usage: WorkerUsage,
        /// The end of what it wrote to stderr; may be empty.
        stderr_tail: String,
    },
    /// The worker was killed for its memory while it ran the item.
    WorkerOomKilled {
        /// The most memory that it is known to have held, in bytes.
        peak_rss_bytes: Option<u64>,
        /// How much it was allowed, in bytes; `None` if the kernel killed it.
        limit_bytes: Option<u64>,
        /// Its process id on the server's machine; 0 if the server did not say.
        pid: u32,
        /// Which execution of the item it was, from 1; 0 if the server did not say.
        attempt: u32,
        /// The end of what it wrote to stderr; may be empty.
        stderr_tail: String,
    },
    /// The item killed as many workers as one item may.
    CrashLimit {
        /// Number of workers that it killed; 0 if the server did not say.
        attempts: u32,
        /// The end of what the last one wrote to stderr; may be empty.
        stderr_tail: String,
    },
    /// The item ran longer than its limit.
    ItemTimeout {
        /// Which execution of the item it was, from 1; 0 if the server did not say.
        attempt: u32,
        /// The stacks of the worker's threads at that moment, as its language prints them, that of the item first; may
        /// be empty.
        stack: String,
    },
    /// The worker broke the protocol and was killed.
    WorkerProtocol,
    /// A cause that this version of the client does not know.
    Other {
        /// The gRPC code, such as `INTERNAL`.
        code: &'static str,
        /// The reason; may be empty.
        reason: String,
    },
}

/// What a worker process had used when it was gone. `None` where the server does not know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WorkerUsage {
    /// The most memory that it, or one of the processes that it started, has had, in bytes.
    pub peak_rss_bytes: Option<u64>,
    /// The processor time of these processes.
    pub cpu_time: Option<Duration>,
}

/// A field of a request that the server does not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field, such as `values[17]`.
    pub field: String,
    /// What is wrong with the field.
    pub description: String,
}

/// Why a call as a whole has no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// Too much is queued on the server. Nothing has started; try again later.
    #[error("{message}")]
    QueueFull {
        /// The message of the server, for people.
        message: String,
        /// The delay to retry after.
        retry_after: Option<Duration>,
    },
    /// The server is shutting down, has no worker, or cannot be reached.
    #[error("{message}")]
    Unavailable {
        /// `DRAINING` or `POOL_DEGRADED`; empty if the server could not be reached.
        reason: String,
        /// The message of the server or of the connection.
        message: String,
        /// The delay to retry after. `None`: some items may have been executed already.
        retry_after: Option<Duration>,
    },
    /// The connection broke during the call. Some items may have been executed.
    #[error("the connection to the server broke: {message}")]
    ConnectionLost {
        /// The message of the connection's error.
        message: String,
        /// The error of the transport, with its causes.
        source: BoxError,
    },
    /// No worker registered this function.
    #[error("{message}")]
    FunctionNotFound {
        /// The message of the server, for people.
        message: String,
        /// The nearest names that are registered, best first; may be empty.
        nearest: Vec<String>,
    },
    /// The server does not accept a field of the request.
    #[error("{}", invalid_argument(.message, .violations))]
    InvalidArgument {
        /// The message of the server, for people.
        message: String,
        /// The fields, and what is wrong with each.
        violations: Vec<FieldViolation>,
    },
    /// An item cannot be encoded. It was not sent, nor was what comes after it.
    #[error("item {index} cannot be sent: {source}")]
    Encode {
        /// The index of the item in the caller's list, from 0.
        index: u64,
        /// The error of the encoder or decoder.
        source: BoxError,
    },
    /// The argument that all items share cannot be encoded. Nothing was sent.
    #[error("the common argument cannot be sent: {source}")]
    EncodeCommon {
        /// The error of the encoder or decoder.
        source: BoxError,
    },
    /// A result is not of the type that the caller asked for.
    #[error("the result of item {index} is not of the expected type: {source}")]
    Decode {
        /// The index of the item in the caller's list, from 0.
        index: u64,
        /// The error of the encoder or decoder.
        source: BoxError,
    },
    /// An item failed, and the call was to fail with the first failure.
    #[error("{0}")]
    ItemFailed(#[source] Box<ItemError>),
    /// The deadline of the call passed.
    #[error("{message}")]
    DeadlineExceeded {
        /// The message of the server, for people.
        message: String,
        /// Where the call was: `queued` or `running`; empty if it is not known.
        phase: String,
    },
    /// The call was cancelled, by an operator, by the server or between client and server.
    #[error("the call was cancelled: {message}")]
    Cancelled {
        /// `CANCELLED_BY_OPERATOR` or `CANCELLED`; empty if it was not the server.
        reason: String,
        /// The message of whoever cancelled it.
        message: String,
    },
    /// A message is over a limit.
    #[error("{message}")]
    MessageTooLarge {
        /// The message, its size and its limit, and what to do.
        message: String,
    },
    /// The server's answer breaks the protocol.
    #[error("the server broke the protocol: {message}")]
    Protocol {
        /// What is wrong with the answer.
        message: String,
    },
    /// An error of any other kind.
    #[error("{code}: {message}")]
    Other {
        /// The gRPC code, such as `INTERNAL`.
        code: &'static str,
        /// The reason; may be empty.
        reason: String,
        /// The message of the server, for people.
        message: String,
    },
}

/// Returns the message, with the name of the field if it lacks it.
fn invalid_argument(message: &str, violations: &[FieldViolation]) -> String {
    match violations.first() {
        Some(violation) if !message.contains(&violation.field) => format!("{}: {message}", violation.field),
        _ => message.to_owned(),
    }
}

impl CallError {
    /// Returns whether nothing of the call has started, so that the same call may be made again without running anything
    /// twice.
    pub fn is_safe_to_retry(&self) -> bool {
        matches!(self, Self::QueueFull { retry_after: Some(_), .. } | Self::Unavailable { retry_after: Some(_), .. })
    }
}

/// Returns what the innermost cause of an error says; tonic's outermost one says `transport error`.
pub(crate) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
