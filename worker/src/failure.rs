//! What goes wrong with one item, and how it is told: errors that a function returns, and panics.

use std::any::{Any, type_name};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::RefCell;
use std::error::Error;
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use procpool_ipc::proto::{CallPart, FailureKind, ItemFailure};

/// The longest message or traceback that is sent, in bytes.
const MAX_TEXT_BYTES: usize = 64 << 10;
/// The longest name of a type that is sent, in bytes.
const MAX_TYPE_BYTES: usize = 256;
const CUT_MARK: &str = " … (cut)";

thread_local! {
    /// Where the last panic of this thread was, for whoever catches it.
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Why one item has no result: what a function that sees the raw item ([`Function::dynamic`](crate::Function::dynamic))
/// says.
// In a box, since it is rare and every result has room for it.
#[derive(Debug)]
pub struct Failure(Box<Details>);

#[derive(Debug)]
struct Details {
    kind: FailureKind,
    type_name: String,
    message: String,
    traceback: String,
    part: CallPart,
}

impl Failure {
    fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self::with_place(kind, String::new(), message.into(), String::new())
    }

    fn with_place(kind: FailureKind, type_name: String, message: String, traceback: String) -> Self {
        Self(Box::new(Details { kind, type_name, message, traceback, part: CallPart::Unspecified }))
    }

    fn of_part(mut self, part: CallPart) -> Self {
        self.0.part = part;
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
    pub(crate) fn invalid_kwargs(message: impl Into<String>) -> Self {
        Self::invalid_item(message).of_part(CallPart::Kwargs)
    }

    /// The result cannot be sent.
    pub fn not_encodable(message: impl Into<String>) -> Self {
        Self::new(FailureKind::NotEncodable, message)
    }

    /// The function failed, by an error that has no Rust type: with a type, a message, and where it was.
    pub fn raised_as(type_name: impl Into<String>, message: impl Into<String>, traceback: impl Into<String>) -> Self {
        Self::with_place(FailureKind::Raised, type_name.into(), message.into(), traceback.into())
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
            // A string, and an error in a box, say nothing by their type.
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

    /// Returns what happened, for people.
    pub(crate) fn into_message(self) -> String {
        self.0.message
    }

    /// Returns what is sent: at most `max_bytes` of texts.
    pub(crate) fn into_proto(self, offset: u32, max_bytes: usize) -> ItemFailure {
        let max_text = MAX_TEXT_BYTES.min(max_bytes / 2);
        ItemFailure {
            offset,
            kind: self.0.kind.into(),
            r#type: cut(self.0.type_name, MAX_TYPE_BYTES),
            message: cut(self.0.message, max_text),
            traceback: cut(self.0.traceback, max_text),
            part: self.0.part.into(),
        }
    }
}

/// Shortens a text to at most this many bytes, and says so.
fn cut(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        let kept = max_bytes.saturating_sub(CUT_MARK.len());
        let boundary = (0..=kept).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
        text.truncate(boundary);
        text.push_str(CUT_MARK);
    }
    text
}

/// Has every panic remembered with its place. The message still goes to stderr as before.
pub(crate) fn remember_panics() {
    static DONE: Once = Once::new();
    DONE.call_once(set_hook);
}

fn set_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let mut place = info.location().map(|location| format!("at {location}\n")).unwrap_or_default();
        // As everywhere in Rust, only with RUST_BACKTRACE: finding the names takes milliseconds.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            let _ = write!(place, "{backtrace}");
        }
        // A panic while the thread's locals are being destroyed is caught by nobody.
        let _ = LAST_PANIC.try_with(|last| last.replace(Some(place)));
        previous(info);
    }));
}

/// Runs something, and makes a failure of a panic.
pub(crate) fn catch_panic<T>(run: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // What the function left half done is seen by the function alone: it runs again, and a panic is its own doing.
    panic::catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
        let failure = Failure::panicked(payload.as_ref());
        // Dropping the payload runs code of the user's, which may panic once more.
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
