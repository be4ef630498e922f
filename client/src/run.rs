//! What awaiting a call does.

use std::future::IntoFuture;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use procpool_items::{Encoded, ItemKind, ItemSlab};
use procpool_proto::v1 as proto;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::call::{Apply, Call, CallParts, CollectMap, IMap, ItemSource, Map, StreamSettings};
use crate::connection::deadline_after;
use crate::error::{CallError, ItemError};
use crate::item_sender::{Credit, ItemInput, ItemSender, SendFailure, SharedItems};
use crate::payload::{Decoder, Payload, parse_results};
use crate::status::{call_error, deadline_exceeded, item_error};
use crate::stream::{ResultStream, SenderHandle, of_imap};
use crate::transport::{StopBody, Transport};

/// A future that owns what it needs.
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl CallParts {
    fn content_type(&self) -> String {
        self.content_type.clone().unwrap_or_else(|| self.format.content_type().to_owned())
    }

    /// Takes the argument that all items share.
    pub(crate) fn take_common(&mut self) -> Result<Option<Encoded>, CallError> {
        std::mem::replace(&mut self.common, Ok(None))
    }

    fn check_length(&self, message: &impl Message) -> Result<(), CallError> {
        let (length, limit) = (message.encoded_len(), self.connection.settings().max_message_bytes);
        if length > limit {
            let message = format!("the call has {length} bytes, over the limit of {limit}; send the items as a stream");
            return Err(CallError::MessageTooLarge { message });
        }
        Ok(())
    }

    /// Makes a unary call, retries it if it is refused, and returns the answer, at the latest at the deadline.
    async fn answer<M, T, F>(
        &self,
        message: M,
        call: impl Fn(PoolServiceClient<Transport>, tonic::Request<M>) -> F,
    ) -> Result<T, CallError>
    where
        M: Message + Clone,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.check_length(&message)?;
        let (connection, deadline) = (&self.connection, deadline_after(self.timeout));
        let response = connection
            .attempts(deadline)
            .run(|attempt| call(connection.pool_service(), connection.attempt(attempt, message.clone())));
        let response = match deadline {
            None => response.await,
            Some(deadline) => tokio::time::timeout_at(deadline, response).await.map_err(|_| deadline_exceeded())?,
        };
        Ok(response.map_err(call_error)?.into_inner())
    }

    pub(crate) async fn map(&self, star: bool, items: Encoded, common: Option<Encoded>) -> Result<Results, CallError> {
        macro_rules! answer {
            ($Request:ident, $method:ident) => {{
                let message = proto::$Request {
                    function: self.function.clone(),
                    content_type: self.content_type(),
                    options: Some(self.options.clone()),
                    items: Some(items.into()),
                    common: common.map(Into::into),
                };
                let call = |mut service: PoolServiceClient<_>, request| async move { service.$method(request).await };
                let response = self.answer(message, call).await?;
                Ok(Results { list: response.results.map(Encoded::from), errors: response.errors })
            }};
        }
        if star { answer!(StarMapRequest, star_map) } else { answer!(MapRequest, map) }
    }
}

/// The answer of a Map or StarMap, not yet decoded.
pub(crate) struct Results {
    pub(crate) list: Option<Encoded>,
    pub(crate) errors: Vec<proto::ItemError>,
}

impl Results {
    /// Decodes the results and puts each error in the place of its item.
    fn decode<R>(
        self,
        kind: ItemKind,
        count: usize,
        decoder: Decoder<R>,
    ) -> Result<Vec<Result<R, ItemError>>, CallError> {
        let list = self.list.unwrap_or(Encoded { kind, bytes: Bytes::new() });
        if list.kind != kind {
            return Err(wrong_kind());
        }
        let results: ItemSlab = parse_results(list)?;
        if results.len() != count {
            let message = format!("{} results came for {count} items", results.len());
            return Err(CallError::Protocol { message });
        }
        let mut errors = self.errors.into_iter().map(item_error).peekable();
        let mut outcomes = Vec::with_capacity(count);
        for position in 0..count {
            let index = position as u64;
            outcomes.push(match errors.next_if(|error| error.index == index) {
                Some(error) => Err(error),
                None => {
                    Ok(decoder(results.item_to_keep(position)).map_err(|source| CallError::Decode { index, source })?)
                }
            });
        }
        match errors.next() {
            None => Ok(outcomes),
            Some(error) => Err(CallError::Protocol { message: format!("an error out of place: {error}") }),
        }
    }
}

fn wrong_kind() -> CallError {
    CallError::Protocol { message: "the results are of another kind than the items".to_owned() }
}

impl<R: 'static> IntoFuture for Call<Apply<R>> {
    type Output = Result<R, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        use proto::apply_response::Result as Answer;
        Box::pin(async move {
            let Self { parts, verb } = self;
            let arguments = verb.arguments?.list;
            let kind = arguments.kind;
            let message = proto::ApplyRequest {
                function: parts.function.clone(),
                content_type: parts.content_type(),
                kwargs: verb.kwargs?,
                options: Some(parts.options.clone()),
                args: Some(arguments.into()),
            };
            let call = |mut service: PoolServiceClient<_>, request| async move { service.apply(request).await };
            let response = parts.answer(message, call).await?;
            match (kind, response.result) {
                (ItemKind::Values, Some(Answer::Value(result))) | (ItemKind::Blobs, Some(Answer::Blob(result))) => {
                    (verb.decoder)(result).map_err(|source| CallError::Decode { index: 0, source })
                }
                _ => Err(wrong_kind()),
            }
        })
    }
}

impl<R: 'static> IntoFuture for Call<Map<R>> {
    type Output = Result<Vec<R>, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let results = self.fail_fast().into_future();
        Box::pin(async move {
            let results = results.await?.into_iter().collect::<Result<_, _>>();
            results.map_err(|error| CallError::ItemFailed(Box::new(error)))
        })
    }
}

impl<R: 'static> IntoFuture for Call<CollectMap<R>> {
    type Output = Result<Vec<Result<R, ItemError>>, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { mut parts, verb: CollectMap(verb) } = self;
            let Payload { list, count } = verb.items?;
            let common = parts.take_common()?;
            let kind = list.kind;
            parts.map(verb.star, list, common).await?.decode(kind, count, verb.decoder)
        })
    }
}

impl<R: 'static> IntoFuture for Call<IMap<R>> {
    type Output = Result<ResultStream<R>, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { parts, verb: IMap { items, settings, decoder } } = self;
            match items {
                ItemSource::List(items) if settings.window == 0 => parts.imap(items?.list, settings, decoder).await,
                // IMap's window counts what the connection buffers as taken; IMapStream's is exact.
                ItemSource::List(items) => {
                    parts.imap_stream(ItemInput::Records(items?.into_records()?), settings, decoder).await
                }
                ItemSource::Stream(items) => parts.imap_stream(items, settings, decoder).await,
            }
        })
    }
}

impl CallParts {
    /// Makes the call with all items in one request.
    async fn imap<R>(
        mut self,
        items: Encoded,
        settings: StreamSettings,
        decoder: Decoder<R>,
    ) -> Result<ResultStream<R>, CallError> {
        let common = self.take_common()?;
        let message = proto::IMapRequest {
            function: self.function.clone(),
            content_type: self.content_type(),
            options: Some(self.options.clone()),
            order: settings.order.into(),
            window: 0,
            star: settings.star,
            items: Some(items.into()),
            common: common.map(Into::into),
        };
        self.check_length(&message)?;
        let (connection, deadline) = (self.connection, deadline_after(self.timeout));
        // The headers of the answer come with its first message; from then on the call is not retried.
        let response = connection.attempts(deadline).run(move |attempt| {
            let (mut service, request) = (connection.pool_service(), connection.attempt(attempt, message.clone()));
            async move { service.i_map(request).await.map(tonic::Response::into_inner) }
        });
        let messages = response.try_flatten_stream().map_ok(of_imap).boxed();
        ResultStream::start(messages, decoder, deadline, None).await
    }

    /// Makes the call with items that are sent as the server allows them.
    async fn imap_stream<R>(
        mut self,
        items: ItemInput,
        settings: StreamSettings,
        decoder: Decoder<R>,
    ) -> Result<ResultStream<R>, CallError> {
        let (credit, credit_receiver) = watch::channel(Credit::default());
        let stop = CancellationToken::new();
        let failure = SendFailure::default();
        let common = self.take_common()?;
        let config = proto::IMapStreamConfig {
            function: self.function.clone(),
            content_type: self.content_type(),
            options: Some(self.options.clone()),
            order: settings.order.into(),
            window: settings.window,
            star: settings.star,
            common: common.map(Into::into),
            reports_taken: true,
        };
        self.check_length(&config)?;
        let (connection, deadline) = (self.connection, deadline_after(self.timeout));
        let sender = ItemSender {
            config,
            kind: self.format.kind(),
            items: SharedItems::new(items),
            max_message_bytes: connection.settings().max_message_bytes,
            credit: credit_receiver,
            failure: failure.clone(),
        };
        let stop_all = stop.clone();
        // No item is taken before the server allows some, which it does in the first message of the answer.
        let response = connection.attempts(deadline).run(move |attempt| {
            let stop = stop_all.child_token();
            let mut request = connection.attempt(attempt, sender.requests(attempt.number, stop.clone()));
            request.extensions_mut().insert(StopBody(stop.clone()));
            let mut service = connection.pool_service();
            async move {
                let response = service.i_map_stream(request).await.map(tonic::Response::into_inner);
                if response.is_err() {
                    stop.cancel();
                }
                response
            }
        });
        let messages = response.try_flatten_stream().boxed();
        let sending = SenderHandle { credit, failure, _stop: stop.drop_guard() };
        ResultStream::start(messages, decoder, deadline, Some(sending)).await
    }
}
