//! The failure of one item, and its form on the wire: errors that a function returns, and panics.

use std::any::{Any, type_name};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use bytes::Bytes;
use procpool_ipc::proto::{CallPart, FailureKind, ItemFailure};

/// The longest message or traceback that is sent, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// The longest data that is sent, in bytes. A server drops what is longer.
const MAX_DATA_BYTES: usize = 64 << 10;
/// The longest name of a type that is sent, in bytes.
const MAX_TYPE_BYTES: usize = 256;
const CUT_MARK: &str = " … (cut)";

thread_local! {
    /// The location of this thread's last panic, for the code that catches it.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why an item has no result, as returned by a function on raw items ([`Function::dynamic`](crate::Function::dynamic)).
// Boxed, since it is rare and every result has space for it.
#[derive(Debug)]
pub struct Failure(Box<ItemFailure>);

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::with_place(kind, String::new(), message.into(), String::new())
    }

    fn with_place(kind: FailureKind, r#type: String, message: String, traceback: String) -> Self {
        let failure = ItemFailure { kind: kind.into(), r#type, message, traceback, ..ItemFailure::default() };
        Self(Box::new(failure))
    }

    fn of_part(mut self, part: CallPart) -> Self {
        self.0.part = part.into();
        self
    }

    /// The function cannot be called with this item.
    pub fn invalid_item(message: impl Into<String>) -> Self {
        Self::new(FailureKind::InvalidItem, message)
    }

    /// The function cannot be called with this common argument.
    pub fn invalid_common(message: impl Into<String>) -> Self {
        Self::invalid_item(message).of_part(CallPart::Common)
    }

    /// The function cannot be called with these keyword arguments.
    pub fn invalid_kwargs(message: impl Into<String>) -> Self {
        Self::invalid_item(message).of_part(CallPart::Kwargs)
    }

    /// The result cannot be sent.
    pub fn not_encodable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotEncodable, message)
    }

    /// The result cannot be sent, because of an error that is not a Rust type.
    pub fn not_encodable_as(
        type_name: impl Into<String>,
        message: impl Into<String>,
        traceback: impl Into<String>,
    ) -> Self {
        Self::with_place(FailureKind::NotEncodable, type_name.into(), message.into(), traceback.into())
    }

    /// The function failed with an error that is not a Rust type.
    pub fn raised_as(type_name: impl Into<String>, message: impl Into<String>, traceback: impl Into<String>) -> Self {
        Self::with_place(FailureKind::Raised, type_name.into(), message.into(), traceback.into())
    }

    /// Adds the error in the form of its language, such as a pickled exception. It reaches the caller as it is, if the
    /// function failed with an error ([`Failure::raised_as`]) and it has at most 64 KiB; otherwise it is left out.
    #[must_use]
    pub fn with_data(mut self, data: impl Into<Bytes>) -> Self {
        if self.0.kind() == FailureKind::Raised {
            self.0.data = data.into();
        }
        self
    }

    /// There is no such function.
    pub(crate) fn unknown_function(name: &str) -> Self {
        Self::new(FailureKind::UnknownFunction, format!("this worker has no function {name:?}"))
    }

    /// The function returned an error.
    pub(crate) fn raised<E: Into<Box<dyn Error + Send + Sync>>>(error: E) -> Self {
        let error = error.into();
        let mut traceback = String::new();
        let mut source = error.source();
        while let Some(cause) = source {
            let _ = writeln!(traceback, "caused by: {cause}");
            source = cause.source();
        }
        let type_name = match type_name::<E>() {
            // The type of a string or a boxed error carries no information.
            "&str" | "alloc::string::String" | "anyhow::Error" => String::new(),
            boxed if boxed.starts_with("alloc::boxed::Box<dyn ") => String::new(),
            name => name.to_owned(),
        };
        Self::with_place(FailureKind::Raised, type_name, error.to_string(), traceback)
    }

    /// The function panicked.
    fn panicked(payload: &(dyn Any + Send)) -> Self {
        let traceback = LAST_PANIC.with(RefCell::take).unwrap_or_default();
        Self::with_place(FailureKind::Raised, "panic".to_owned(), panic_message(payload).to_owned(), traceback)
    }

    /// Returns the message.
    pub(crate) fn into_message(self) -> String {
        self.0.message
    }

    /// Returns the message for the server, with at most `max_bytes` of texts and data.
    pub(crate) fn into_proto(self, offset: u32, max_bytes: usize) -> ItemFailure {
        let max_text = MAX_TEXT_BYTES.min(max_bytes / 2);
        let mut failure = *self.0;
        failure.offset = offset;
        cut(&mut failure.r#type, MAX_TYPE_BYTES);
        cut(&mut failure.message, max_text);
        cut(&mut failure.traceback, max_text);
        // Part of it would be of no use.
        let max_data = max_bytes.saturating_sub(failure.message.len() + failure.traceback.len());
        if failure.data.len() > MAX_DATA_BYTES.min(max_data) {
            failure.data = Bytes::new();
        }
        failure
    }
}

/// Truncates a text to at most this many bytes, with a mark.
fn cut(text: &mut String, max_bytes: usize) {
    if text.len() > max_bytes {
        let kept = max_bytes.saturating_sub(CUT_MARK.len());
        let boundary = (0..=kept).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(boundary);
        text.push_str(CUT_MARK);
    }
}

/// Installs a panic hook that records the location. The message still goes to stderr.
pub(crate) fn remember_panics() {
    static DONE: Once = Once::new();
    DONE.call_once(set_hook);
}

fn set_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let mut place = info.location().map(|location| format!("at {location}\n")).unwrap_or_default();
        // Only with RUST_BACKTRACE, as usual in Rust: resolving the names takes milliseconds.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            let _ = write!(place, "{backtrace}");
        }
        // A panic while the thread's locals are being destroyed is not caught.
        let _ = LAST_PANIC.try_with(|last| last.replace(Some(place)));
        previous(info);
    }));
}

/// Runs a closure and turns a panic into a failure.
pub(crate) fn catch_panic<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Only the function itself can see a state that it left inconsistent by its panic.
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let failure = Failure::panicked(payload.as_ref());
        // Dropping the payload runs user code, which may panic again.
        std::mem::forget(payload);
        Err(failure)
    })
}

fn panic_message(payload: &(dyn Any + Send)) -> &str {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        message
    } else if let Some(message) = payload.downcast_ref::<String>() {
        message
    } else {
        "a panic without a message"
    }
}
