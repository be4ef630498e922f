//! Calls before they are made: a verb and its options. `run.rs` makes them.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::{Encoded, ItemKind};
use procpool_proto::v1 as proto;
use serde::Serialize;

use crate::connection::Connection;
use crate::error::CallError;
use crate::item_sender::ItemInput;
use crate::payload::{Decoder, Format, Payload, encode_common, encode_kwargs};

/// A call that is not yet made: add options, then await it.
///
/// `V` says what it is and what it returns: [`Apply`], [`Map`], [`CollectMap`] or [`IMap`].
#[must_use = "a call does nothing until it is awaited"]
#[derive(Debug)]
pub struct Call<V> {
    pub(crate) parts: CallParts,
    pub(crate) verb: V,
}

/// The parts of a call that do not depend on its verb.
#[derive(Debug)]
pub(crate) struct CallParts {
    pub(crate) connection: Connection,
    pub(crate) function: String,
    pub(crate) format: Format,
    /// `None`: that of the format.
    pub(crate) content_type: Option<String>,
    pub(crate) options: proto::CallOptions,
    pub(crate) timeout: Option<Duration>,
    /// The argument that all items share; never set for [`Apply`].
    pub(crate) common: Result<Option<Encoded>, CallError>,
}

/// Runs a function once. Awaiting it returns what the function returned.
pub struct Apply<R> {
    pub(crate) arguments: Result<Payload, CallError>,
    pub(crate) kwargs: Result<Bytes, CallError>,
    pub(crate) decoder: Decoder<R>,
}

/// Runs a function over a list. Awaiting it returns a `Vec<R>`, or the first item that failed as an error.
pub struct Map<R> {
    pub(crate) items: Result<Payload, CallError>,
    pub(crate) decoder: Decoder<R>,
    pub(crate) star: bool,
}

/// Runs a function over a list. Awaiting it returns a `Vec<Result<R, ItemError>>`.
#[derive(Debug)]
pub struct CollectMap<R>(pub(crate) Map<R>);

/// Runs a function over a list or a stream. Awaiting it starts the call and returns a
/// [`ResultStream`](crate::ResultStream).
pub struct IMap<R> {
    pub(crate) items: ItemSource,
    pub(crate) settings: StreamSettings,
    pub(crate) decoder: Decoder<R>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StreamSettings {
    pub(crate) order: proto::ResultOrder,
    /// 0: the server's choice.
    pub(crate) window: u32,
    pub(crate) star: bool,
}

/// Where the items of an [`IMap`] come from.
pub(crate) enum ItemSource {
    List(Result<Payload, CallError>),
    Stream(ItemInput),
}

// The items may be long, or endless.
macro_rules! impl_short_debug {
    ($($verb:ident),*) => {$(
        impl<R> fmt::Debug for $verb<R> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_struct(stringify!($verb)).finish_non_exhaustive()
            }
        }
    )*};
}
impl_short_debug!(Apply, Map, IMap);

impl<R> Apply<R> {
    pub(crate) fn new(arguments: Result<Payload, CallError>, decoder: Decoder<R>) -> Self {
        Self { arguments, kwargs: Ok(Bytes::new()), decoder }
    }
}

impl<R> Map<R> {
    pub(crate) fn new(items: Result<Payload, CallError>, decoder: Decoder<R>) -> Self {
        Self { items, decoder, star: false }
    }
}

impl<R> IMap<R> {
    pub(crate) fn new(items: ItemSource, decoder: Decoder<R>) -> Self {
        Self { items, settings: StreamSettings::default(), decoder }
    }
}

impl<V> Call<V> {
    pub(crate) fn new(connection: Connection, function: String, format: Format, verb: V) -> Self {
        let timeout = connection.settings().default_timeout;
        let (content_type, options, common) = (None, proto::CallOptions::default(), Ok(None));
        Self { parts: CallParts { connection, function, format, content_type, options, timeout, common }, verb }
    }

    /// Sets the longest time for the call as a whole, streams included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.parts.timeout = Some(timeout);
        self
    }

    /// Sets the number of items that a worker gets at a time. Default: chosen from the function's measured run time.
    pub fn chunk_size(mut self, items: u32) -> Self {
        self.parts.options.chunk_size = items;
        self
    }

    /// Sets the longest time that one item may run, from its start. Default: the server's.
    pub fn item_timeout(mut self, timeout: Duration) -> Self {
        // A time that the protocol cannot express, about 300 billion years, is no limit.
        self.parts.options.item_timeout = prost_types::Duration::try_from(timeout).ok();
        self
    }

    /// Sets how often an item may be executed in all when its worker dies or its time runs out. Default: once, or up
    /// to 3 times for an idempotent function.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.parts.options.max_attempts = attempts;
        self
    }

    /// Sets the share of the pool beside other calls, -8 to 8: each step up doubles it.
    pub fn priority(mut self, priority: i32) -> Self {
        self.parts.options.priority = priority;
        self
    }

    /// Sets a name for the call in the server's logs and error details.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.parts.options.request_id = request_id.into();
        self
    }

    /// Sets the media type of bytes: with `application/json`, in any spelling, the worker decodes each blob. Only for the
    /// `_bytes` verbs.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.parts.content_type = Some(content_type.into());
        self
    }

    fn on_error(mut self, on_error: proto::OnError) -> Self {
        self.parts.options.on_error = on_error.into();
        self
    }
}

impl<R> Call<Apply<R>> {
    /// Adds keyword arguments: a map or a struct. Only for functions in a language that has them.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        self.verb.kwargs = encode_kwargs(&kwargs);
        self
    }
}

impl<R> Call<Map<R>> {
    /// Has the call fail with the first item that fails, as it does by default.
    pub(crate) fn fail_fast(self) -> Call<CollectMap<R>> {
        let Self { parts, verb } = self.on_error(proto::OnError::FailFast);
        Call { parts, verb: CollectMap(verb) }
    }

    /// Has the call return the errors of items beside the results of the others, instead of failing with the first.
    pub fn collect_errors(self) -> Call<CollectMap<R>> {
        let Self { parts, verb } = self.on_error(proto::OnError::Collect);
        Call { parts, verb: CollectMap(verb) }
    }
}

impl<R> Call<IMap<R>> {
    /// Has the results come as they finish instead of in the order of the items.
    pub fn unordered(mut self) -> Self {
        self.verb.settings.order = proto::ResultOrder::Unordered;
        self
    }

    /// Sets how many items the pool may run ahead of what is taken from the stream of results. Default: enough to keep
    /// every worker busy, at most 1024.
    ///
    /// It is exact: nothing begins that is further ahead. For that, items are sent as results are taken, so a small
    /// window over a long way is slow. [`Client::imap`](crate::Client::imap) without a window sends all items at once,
    /// and what the connection holds comes on top of the default; it is faster where items are small.
    pub fn window(mut self, items: u32) -> Self {
        self.verb.settings.window = items;
        self
    }

    /// Takes each item as the arguments of one call, as [`Client::starmap`](crate::Client::starmap) does.
    pub fn star(mut self) -> Self {
        self.verb.settings.star = true;
        self
    }

    /// Has the stream end with the first item that fails.
    pub fn fail_fast(self) -> Self {
        self.on_error(proto::OnError::FailFast)
    }
}

macro_rules! impl_common {
    ($($verb:ident),*) => {$(
        impl<R> Call<$verb<R>> {
            /// Sets an argument that all items share: the function is called as `f(common, item)`. It is sent to each
            /// worker once, and decoded there once.
            pub fn common(mut self, common: impl Serialize) -> Self {
                self.parts.common = encode_common(self.parts.format, &common).map(Some);
                self
            }

            /// As [`Call::common`], with bytes as they are. The worker decodes them if the content type of the call is
            /// `application/json`.
            pub fn common_bytes(mut self, common: impl Into<Bytes>) -> Self {
                self.parts.common = Ok(Some(Encoded { kind: ItemKind::Blobs, bytes: common.into() }));
                self
            }
        }
    )*};
}
impl_common!(Map, IMap);
