//! What awaiting a call does.

use std::future::IntoFuture;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use procpool_items::{ItemKind, ItemSlab};
use procpool_proto::v1 as proto;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{Apply, Call, CollectMap, IMap, IMapStream, Map, Outline};
use crate::error::{CallError, ItemError};
use crate::feeder::{Feeder, Progress, SendFailure, SharedItems};
use crate::guard::{GuardedChannel, StopBody};
use crate::payload::{Decoder, Format, Payload, parse_results};
use crate::status::{call_error, deadline_exceeded, item_error};
use crate::stream::{ResultStream, RunMessage, SendingSide};
use crate::wire::{EncodedCommon, EncodedList};

/// A future that owns what it needs.
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Outline {
    fn content_type(&self, format: Format) -> String {
        self.content_type.clone().unwrap_or_else(|| format.content_type().to_owned())
    }

    /// Takes the argument before each item out of it.
    fn take_common(&mut self) -> Result<Option<EncodedCommon>, CallError> {
        std::mem::replace(&mut self.common, Ok(None))
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }

    fn check_length(&self, message: &impl Message) -> Result<(), CallError> {
        let (length, limit) = (message.encoded_len(), self.client.settings().max_message_bytes);
        if length > limit {
            let message = format!("the call has {length} bytes, over the limit of {limit}; send the items as a stream");
            return Err(CallError::MessageTooLarge { message });
        }
        Ok(())
    }

    /// Makes a call, more than once if it is refused, and awaits the answer, at most until the deadline.
    async fn answer<M, T, F>(
        &self,
        message: M,
        call: impl Fn(PoolServiceClient<GuardedChannel>, tonic::Request<M>) -> F,
    ) -> Result<T, CallError>
    where
        M: Message + Clone,
        F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    {
        self.check_length(&message)?;
        let (client, deadline) = (&self.client, self.deadline());
        let response =
            client.attempts(deadline).run(|attempt| call(client.grpc(), attempt.request(client, message.clone())));
        let response = match deadline {
            None => response.await,
            Some(deadline) => tokio::time::timeout_at(deadline, response).await.map_err(|_| deadline_exceeded())?,
        };
        Ok(response.map_err(call_error)?.into_inner())
    }

    async fn map(&self, items: Payload, common: Option<EncodedCommon>) -> Result<Results, CallError> {
        let message = proto::MapRequest {
            function: self.function.clone(),
            content_type: self.content_type(items.format),
            options: Some(self.options.clone()),
            items: Some(items.into_list().into()),
            common: common.map(Into::into),
        };
        let call = |mut grpc: PoolServiceClient<_>, request| async move { grpc.map(request).await };
        let response = self.answer(message, call).await?;
        Ok(Results { list: response.results.map(EncodedList::from), errors: response.errors })
    }

    async fn starmap(&self, items: Payload, common: Option<EncodedCommon>) -> Result<Results, CallError> {
        let message = proto::StarMapRequest {
            function: self.function.clone(),
            content_type: self.content_type(items.format),
            options: Some(self.options.clone()),
            items: Some(items.into_list().into()),
            common: common.map(Into::into),
        };
        let call = |mut grpc: PoolServiceClient<_>, request| async move { grpc.star_map(request).await };
        let response = self.answer(message, call).await?;
        Ok(Results { list: response.results.map(EncodedList::from), errors: response.errors })
    }
}

/// The results of a Map or StarMap as they came.
struct Results {
    list: Option<EncodedList>,
    errors: Vec<proto::ItemError>,
}

impl Results {
    /// Decodes the results and puts each error at its place.
    fn decode<R>(
        self,
        kind: ItemKind,
        count: usize,
        decoder: Decoder<R>,
    ) -> Result<Vec<Result<R, ItemError>>, CallError> {
        let list = self.list.unwrap_or(EncodedList { kind, bytes: Bytes::new() });
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
            let Self { outline, verb } = self;
            let arguments = verb.arguments?;
            let kind = arguments.format.kind();
            let message = proto::ApplyRequest {
                function: outline.function.clone(),
                content_type: outline.content_type(arguments.format),
                kwargs: verb.kwargs?,
                options: Some(outline.options.clone()),
                args: Some(arguments.into_list().into()),
            };
            let call = |mut grpc: PoolServiceClient<_>, request| async move { grpc.apply(request).await };
            let response = outline.answer(message, call).await?;
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

    fn into_future(mut self) -> Self::IntoFuture {
        self.outline.options.on_error = proto::OnError::FailFast.into();
        let Self { outline, verb } = self;
        let results = Call { outline, verb: CollectMap(verb) }.into_future();
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
            let Self { mut outline, verb: CollectMap(verb) } = self;
            let items = verb.items?;
            let common = outline.take_common()?;
            let (kind, count) = (items.format.kind(), items.count);
            let results =
                if verb.star { outline.starmap(items, common).await? } else { outline.map(items, common).await? };
            results.decode(kind, count, verb.decoder)
        })
    }
}

impl<R: 'static> IntoFuture for Call<IMap<R>> {
    type Output = Result<ResultStream<R>, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { mut outline, verb } = self;
            let items = verb.items?;
            if verb.stream.window > 0 {
                // Who asks for a window wants it kept: IMap counts what the connection takes, and that may be far ahead.
                let verb = IMapStream {
                    format: items.format,
                    items: items.into_records()?,
                    decoder: verb.decoder,
                    stream: verb.stream,
                };
                return Call { outline, verb }.await;
            }
            let common = outline.take_common()?;
            let message = proto::IMapRequest {
                function: outline.function.clone(),
                content_type: outline.content_type(items.format),
                options: Some(outline.options.clone()),
                order: verb.stream.order.into(),
                window: 0,
                star: verb.stream.star,
                items: Some(items.into_list().into()),
                common: common.map(Into::into),
            };
            outline.check_length(&message)?;
            let deadline = outline.deadline();
            let client = outline.client;
            // The headers of the answer come with its first message; from then on nothing is tried again.
            let response = client.attempts(deadline).run(move |attempt| {
                let (mut grpc, request) = (client.grpc(), attempt.request(&client, message.clone()));
                async move { grpc.i_map(request).await.map(tonic::Response::into_inner) }
            });
            let messages = response.try_flatten_stream().map_ok(RunMessage::from).boxed();
            ResultStream::start(messages, verb.decoder, deadline, None).await
        })
    }
}

impl<R: 'static> IntoFuture for Call<IMapStream<R>> {
    type Output = Result<ResultStream<R>, CallError>;
    type IntoFuture = BoxFuture<Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { mut outline, verb } = self;
            let (progress, progress_receiver) = watch::channel(Progress::default());
            let stop = CancellationToken::new();
            let failure = SendFailure::default();
            let common = outline.take_common()?;
            let config = proto::IMapStreamConfig {
                function: outline.function.clone(),
                content_type: outline.content_type(verb.format),
                options: Some(outline.options.clone()),
                order: verb.stream.order.into(),
                window: verb.stream.window,
                star: verb.stream.star,
                common: common.map(Into::into),
                reports_taken: true,
            };
            outline.check_length(&config)?;
            let feeder = Feeder {
                config,
                kind: verb.format.kind(),
                items: SharedItems::new(verb.items),
                max_message_bytes: outline.client.settings().max_message_bytes,
                progress: progress_receiver,
                failure: failure.clone(),
            };
            let deadline = outline.deadline();
            let (client, stop_all) = (outline.client, stop.clone());
            // No item is taken before the server has allowed some, which it does in the first message of the answer.
            let response = client.attempts(deadline).run(move |attempt| {
                let stop = stop_all.child_token();
                let mut request = attempt.request(&client, feeder.requests(attempt.number, stop.clone()));
                request.extensions_mut().insert(StopBody(stop.clone()));
                let mut grpc = client.grpc();
                async move {
                    let response = grpc.i_map_stream(request).await.map(tonic::Response::into_inner);
                    if response.is_err() {
                        stop.cancel();
                    }
                    response
                }
            });
            let messages = response.try_flatten_stream().map_ok(RunMessage::from).boxed();
            let sending = SendingSide { progress, failure, _stop: stop.drop_guard() };
            ResultStream::start(messages, verb.decoder, deadline, Some(sending)).await
        })
    }
}
