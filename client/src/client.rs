//! The client and its verbs.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use procpool_items::SlabBuilder;
use procpool_proto::v1 as proto;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::admin::Admin;
use crate::call::{Apply, Call, IMap, ItemSource, Map};
use crate::connect::{ClientBuilder, ConnectError};
use crate::connection::{Connection, deadline_after};
use crate::error::CallError;
use crate::item_sender::ItemInput;
use crate::payload::{self, Encoding, Format, Payload};
use crate::status::call_error;

/// A connection to a pool. Cheap to clone; clones share the connection.
///
/// The verbs are those of Python's `multiprocessing.Pool`. Each returns a [`Call`] to add options to and then await.
/// Dropping the future, or the stream that it returned, cancels the call on the server: queued items never run.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Connection,
    encoding: Encoding,
}

impl Client {
    /// Connects with the default settings to `http://HOST:PORT`, `HOST:PORT` or `unix:PATH`.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub async fn connect(address: &str) -> Result<Self, ConnectError> {
        Self::builder().connect(address).await
    }

    /// Checks whether an address can be used, without connecting.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn check_address(address: &str) -> Result<(), ConnectError> {
        ClientBuilder::default().check(address)
    }

    /// Returns the default settings, to change and then [connect](ClientBuilder::connect).
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// Returns a client over the same connection that encodes items another way.
    #[must_use]
    pub fn with_encoding(&self, encoding: Encoding) -> Self {
        Self { encoding, ..self.clone() }
    }

    /// Returns a client over the same connection whose calls are a part of a trace: the server and the workers continue
    /// it. `traceparent` is what W3C defines, such as `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`;
    /// `tracestate` may be empty. A value that is not a valid header is ignored.
    #[must_use]
    pub fn with_trace_context(&self, traceparent: &str, tracestate: &str) -> Self {
        Self { connection: self.connection.with_trace_context(traceparent, tracestate), encoding: self.encoding }
    }

    /// Runs a function once; the arguments are a tuple, a list, or `()`. A tuple of one is `(x,)`.
    ///
    /// ```no_run
    /// # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
    /// let power: u64 = client.apply("power", (2, 10)).await?;
    /// # Ok(()) }
    /// ```
    pub fn apply<R: DeserializeOwned>(&self, function: impl Into<String>, arguments: impl Serialize) -> Call<Apply<R>> {
        let format = Format::from(self.encoding);
        let arguments = Payload::encode_arguments(format, &arguments);
        self.call(function, format, Apply::new(arguments, format.decoder()))
    }

    /// Runs a function over every item; the results are in the order of the items.
    ///
    /// The call fails with the first item that fails, unless [`Call::collect_errors`] is asked for.
    ///
    /// ```no_run
    /// # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
    /// let primes: Vec<bool> = client.map("is_prime", 1..=100).chunk_size(10).await?;
    /// # Ok(()) }
    /// ```
    pub fn map<R: DeserializeOwned>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl Serialize>,
    ) -> Call<Map<R>> {
        let format = Format::from(self.encoding);
        self.call(function, format, Map::new(Payload::encode(format, items), format.decoder()))
    }

    /// Like [`Client::map`], but each item is the arguments of one call: a tuple or a list.
    ///
    /// ```no_run
    /// # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
    /// let powers: Vec<u64> = client.starmap("power", [(2, 10), (3, 3)]).await?;
    /// # Ok(()) }
    /// ```
    pub fn starmap<R: DeserializeOwned>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl Serialize>,
    ) -> Call<Map<R>> {
        let mut call = self.map(function, items);
        call.verb.star = true;
        call
    }

    /// Runs a function over every item and returns a stream of the results in the order of the items, each as soon as
    /// it is there. A failed item does not end the stream.
    ///
    /// ```no_run
    /// # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
    /// let mut results = client.imap::<String>("analyze_match", 1..=10).await?;
    /// while let Some(item) = results.try_next().await? {
    ///     match item.result {
    ///         Ok(text) => println!("{}: {text}", item.index),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn imap<R: DeserializeOwned>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl Serialize>,
    ) -> Call<IMap<R>> {
        let format = Format::from(self.encoding);
        let items = ItemSource::List(Payload::encode(format, items));
        self.call(function, format, IMap::new(items, format.decoder()))
    }

    /// Like [`Client::imap`], but the results come as they finish; each has the index of its item.
    pub fn imap_unordered<R: DeserializeOwned>(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl Serialize>,
    ) -> Call<IMap<R>> {
        self.imap(function, items).unordered()
    }

    /// Like [`Client::imap`], but the items are a stream too, and may be endless.
    ///
    /// Items are taken from the stream only as the server allows them, which it does as results are taken: both ends use
    /// a bounded amount of memory. For an iterator, use [`iter`](crate::iter).
    ///
    /// ```no_run
    /// # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
    /// let mut primes = client.imap_stream::<bool>("is_prime", procpool_client::iter(1_u64..)).await?;
    /// while let Some(item) = primes.try_next().await? {
    ///     if item.index > 1_000_000 {
    ///         break; // Dropping the stream stops the server.
    ///     }
    /// }
    /// # Ok(()) }
    /// ```
    pub fn imap_stream<R: DeserializeOwned>(
        &self,
        function: impl Into<String>,
        items: impl Stream<Item = impl Serialize> + Send + 'static,
    ) -> Call<IMap<R>> {
        let format = Format::from(self.encoding);
        let mut builder = SlabBuilder::new();
        let items = items.map(move |item| format.push(&mut builder, &item).map(|()| builder.take()));
        self.call(function, format, IMap::new(ItemSource::Stream(ItemInput::Records(items.boxed())), format.decoder()))
    }

    /// Like [`Client::apply`] with bytes as they are; no item means no arguments.
    pub fn apply_bytes(
        &self,
        function: impl Into<String>,
        arguments: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Call<Apply<Bytes>> {
        self.call(function, Format::Bytes, Apply::new(Ok(Payload::from_blobs(arguments)), payload::raw))
    }

    /// Like [`Client::map`] with bytes as they are.
    pub fn map_bytes(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Call<Map<Bytes>> {
        self.call(function, Format::Bytes, Map::new(Ok(Payload::from_blobs(items)), payload::raw))
    }

    /// Like [`Client::imap`] with bytes as they are.
    pub fn imap_bytes(
        &self,
        function: impl Into<String>,
        items: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Call<IMap<Bytes>> {
        let items = ItemSource::List(Ok(Payload::from_blobs(items)));
        self.call(function, Format::Bytes, IMap::new(items, payload::raw))
    }

    /// Like [`Client::imap_stream`] with bytes as they are.
    pub fn imap_stream_bytes(
        &self,
        function: impl Into<String>,
        items: impl Stream<Item = impl AsRef<[u8]>> + Send + 'static,
    ) -> Call<IMap<Bytes>> {
        let mut builder = SlabBuilder::new();
        let items = items.map(move |item| {
            builder.push(item.as_ref());
            Ok(builder.take())
        });
        self.call(
            function,
            Format::Bytes,
            IMap::new(ItemSource::Stream(ItemInput::Records(items.boxed())), payload::raw),
        )
    }

    /// Returns the functions that the workers registered, by name.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached or does not answer.
    pub async fn functions(&self) -> Result<Vec<proto::Function>, CallError> {
        Ok(self.list_functions().await?.functions)
    }

    /// Returns what the server accepts.
    ///
    /// # Errors
    ///
    /// As [`Client::functions`].
    pub async fn limits(&self) -> Result<proto::Limits, CallError> {
        Ok(self.list_functions().await?.limits.unwrap_or_default())
    }

    /// Returns the names of the server's pools, also of those that have yet to start. Empty: the server is too old to say.
    ///
    /// # Errors
    ///
    /// As [`Client::functions`].
    pub async fn pools(&self) -> Result<Vec<String>, CallError> {
        Ok(self.list_functions().await?.pools)
    }

    async fn list_functions(&self) -> Result<proto::ListFunctionsResponse, CallError> {
        let connection = &self.connection;
        let deadline = deadline_after(connection.settings().default_timeout);
        let response = connection.attempts(deadline).run(|attempt| {
            let request = connection.attempt(attempt, proto::ListFunctionsRequest {});
            let mut service = connection.pool_service();
            async move { service.list_functions(request).await }
        });
        Ok(response.await.map_err(call_error)?.into_inner())
    }

    /// Returns whether the server takes calls, as it tells Kubernetes and load balancers.
    ///
    /// # Errors
    ///
    /// If the server cannot be reached or does not answer.
    pub async fn health(&self) -> Result<Health, CallError> {
        let timeout = self.connection.settings().default_timeout;
        let request = self.connection.request(HealthCheckRequest { service: String::new() }, timeout);
        let response = HealthClient::new(self.connection.transport()).check(request).await.map_err(call_error)?;
        Ok(match response.into_inner().status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing => Health::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Health::Unknown,
        })
    }

    /// Returns the operator's side of this client.
    pub fn admin(&self) -> Admin {
        Admin::new(self.connection.clone())
    }

    pub(crate) fn call<V>(&self, function: impl Into<String>, format: Format, verb: V) -> Call<V> {
        Call::new(self.connection.clone(), function.into(), format, verb)
    }
}

impl ClientBuilder {
    /// Connects. The connection is made again by itself when it breaks.
    ///
    /// # Errors
    ///
    /// If the address is malformed, or nobody answers there in time.
    pub async fn connect(self, address: &str) -> Result<Client, ConnectError> {
        // On the heap: the future of the transport is large.
        let channel = Box::pin(self.open(address)).await?;
        Ok(Client { connection: Connection::new(channel, self), encoding: Encoding::default() })
    }

    /// Returns a client that connects with its first call. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// If the address is malformed.
    pub fn connect_lazy(self, address: &str) -> Result<Client, ConnectError> {
        let channel = self.open_lazy(address)?;
        Ok(Client { connection: Connection::new(channel, self), encoding: Encoding::default() })
    }
}

/// Whether a server takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The server takes calls.
    Serving,
    /// No worker is ready, or the server is shutting down.
    NotServing,
    /// The server does not say.
    Unknown,
}
