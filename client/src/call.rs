//! Calls that are not yet made: a verb and its options. `run.rs` says what awaiting them does.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_proto::v1 as proto;
use serde::Serialize;

use crate::client::Client;
use crate::error::CallError;
use crate::feeder::ItemRecords;
use crate::payload::{Decoder, Format, Payload, encode_common, encode_kwargs};
use crate::wire::EncodedCommon;

/// A call that is not yet made: add options, then await it.
///
/// `V` says what it is and what it returns: [`Apply`], [`Map`], [`CollectMap`], [`IMap`] or [`IMapStream`].
#[must_use = "a call does nothing until it is awaited"]
#[derive(Debug)]
pub struct Call<V> {
    pub(crate) outline: Outline,
    pub(crate) verb: V,
}

/// What all verbs have.
#[derive(Debug)]
pub(crate) struct Outline {
    pub(crate) client: Client,
    pub(crate) function: String,
    /// `None`: that of the encoding.
    pub(crate) content_type: Option<String>,
    pub(crate) options: proto::CallOptions,
    pub(crate) timeout: Option<Duration>,
    /// The argument before each item; never in [`Apply`].
    pub(crate) common: Result<Option<EncodedCommon>, CallError>,
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

/// Runs a function over a list. Awaiting it starts the call and returns a [`ResultStream`](crate::ResultStream).
pub struct IMap<R> {
    pub(crate) items: Result<Payload, CallError>,
    pub(crate) decoder: Decoder<R>,
    pub(crate) stream: StreamSettings,
}

/// Runs a function over a stream. Awaiting it starts the call and returns a [`ResultStream`](crate::ResultStream).
pub struct IMapStream<R> {
    pub(crate) format: Format,
    pub(crate) items: ItemRecords,
    pub(crate) decoder: Decoder<R>,
    pub(crate) stream: StreamSettings,
}

/// What the streaming verbs have.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StreamSettings {
    pub(crate) order: proto::ResultOrder,
    pub(crate) window: u32,
    pub(crate) star: bool,
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
impl_short_debug!(Apply, Map, IMap, IMapStream);

impl<R> Apply<R> {
    pub(crate) fn new(arguments: Result<Payload, CallError>, decoder: Decoder<R>) -> Self {
        Self { arguments, kwargs: Ok(Bytes::new()), decoder }
    }
}

impl<R> Map<R> {
    fn format(&self) -> Option<Format> {
        self.items.as_ref().ok().map(|items| items.format)
    }

    pub(crate) fn new(items: Result<Payload, CallError>, decoder: Decoder<R>, star: bool) -> Self {
        Self { items, decoder, star }
    }
}

impl<R> IMap<R> {
    fn format(&self) -> Option<Format> {
        self.items.as_ref().ok().map(|items| items.format)
    }

    pub(crate) fn new(items: Result<Payload, CallError>, decoder: Decoder<R>) -> Self {
        Self { items, decoder, stream: StreamSettings::default() }
    }
}

impl<R> IMapStream<R> {
    #[expect(clippy::unnecessary_wraps, reason = "other verbs have it with their items, if these could be encoded")]
    fn format(&self) -> Option<Format> {
        Some(self.format)
    }

    pub(crate) fn new(format: Format, items: ItemRecords, decoder: Decoder<R>) -> Self {
        Self { format, items, decoder, stream: StreamSettings::default() }
    }
}

impl<V> Call<V> {
    pub(crate) fn new(client: Client, function: String, verb: V) -> Self {
        let timeout = client.settings().default_timeout;
        let options = proto::CallOptions::default();
        Self { outline: Outline { client, function, content_type: None, options, timeout, common: Ok(None) }, verb }
    }

    /// Sets the longest time for the call as a whole, streams included.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.outline.timeout = Some(timeout);
        self
    }

    /// Sets the number of items that a worker gets at a time. Default: chosen from the function's measured run time.
    pub fn chunk_size(mut self, items: u32) -> Self {
        self.outline.options.chunk_size = items;
        self
    }

    /// Sets the longest time that one item may run, from its start. Default: the server's.
    pub fn item_timeout(mut self, timeout: Duration) -> Self {
        // What is too long for the protocol, about 300 billion years, is no limit.
        self.outline.options.item_timeout = prost_types::Duration::try_from(timeout).ok();
        self
    }

    /// Sets how often an item may be executed in all when its worker dies or its time runs out. Default: once, or up
    /// to 3 times for an idempotent function.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.outline.options.max_attempts = attempts;
        self
    }

    /// Sets the share of the pool beside other calls, -8 to 8: each step up doubles it.
    pub fn priority(mut self, priority: i32) -> Self {
        self.outline.options.priority = priority;
        self
    }

    /// Sets a name for the call in the server's logs and error details.
    pub fn request_id(mut self, request_id: impl Into<String>) -> Self {
        self.outline.options.request_id = request_id.into();
        self
    }

    /// Sets the media type of bytes: with `application/json`, in any spelling, the worker decodes each blob. Only for the
    /// `_bytes` verbs.
    pub fn content_type(mut self, content_type: impl Into<String>) -> Self {
        self.outline.content_type = Some(content_type.into());
        self
    }

    fn on_error(mut self, on_error: proto::OnError) -> Self {
        self.outline.options.on_error = on_error.into();
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
    /// Has the call return the errors of items beside the results of the others, instead of failing with the first.
    pub fn collect_errors(self) -> Call<CollectMap<R>> {
        let Self { outline, verb } = self.on_error(proto::OnError::Collect);
        Call { outline, verb: CollectMap(verb) }
    }
}

macro_rules! impl_stream_options {
    ($($verb:ident),*) => {$(
        impl<R> Call<$verb<R>> {
            /// Has the results come as they finish instead of in the order of the items.
            pub fn unordered(mut self) -> Self {
                self.verb.stream.order = proto::ResultOrder::Unordered;
                self
            }

            /// Sets how many items the pool may run ahead of what is taken from the stream of results. Default: enough to
            /// keep every worker busy, at most 1024.
            ///
            /// It is exact: nothing begins that is further ahead. For that, items are sent as results are taken, so a small
            /// window over a long way is slow. [`Client::imap`] without a window sends all items at once, and what the
            /// connection holds comes on top of the default; it is faster where items are small.
            pub fn window(mut self, items: u32) -> Self {
                self.verb.stream.window = items;
                self
            }

            /// Takes each item as the arguments of one call, as [`Client::starmap`] does.
            pub fn star(mut self) -> Self {
                self.verb.stream.star = true;
                self
            }

            /// Has the stream end with the first item that fails.
            pub fn fail_fast(self) -> Self {
                self.on_error(proto::OnError::FailFast)
            }
        }
    )*};
}
impl_stream_options!(IMap, IMapStream);

macro_rules! impl_common {
    ($($verb:ident),*) => {$(
        impl<R> Call<$verb<R>> {
            /// Sets an argument that all items share: the function is called as `f(common, item)`. It is sent to each
            /// worker once, and decoded there once.
            pub fn common(mut self, common: impl Serialize) -> Self {
                // Without items there is no call, and the error that says so.
                if let Some(format) = self.verb.format() {
                    self.outline.common = encode_common(format, &common).map(Some);
                }
                self
            }

            /// As [`Call::common`], with bytes as they are. The worker decodes them if the content type of the call is
            /// `application/json`.
            pub fn common_bytes(mut self, common: impl Into<Bytes>) -> Self {
                self.outline.common = Ok(Some(EncodedCommon { kind: ItemKind::Blobs, bytes: common.into() }));
                self
            }
        }
    )*};
}
impl_common!(Map, IMap, IMapStream);
