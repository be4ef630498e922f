//! What awaiting a call does.

use std::future::IntoFuture;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryFutureExt as _, TryStreamExt as _};
use procpool_items::{ItemKind, ItemSlab};
use procpool_proto::v1 as proto;
use prost::Message;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::call::{Apply, Call, CollectMap, IMap, IMapStream, Map, Outline};
use crate::error::{CallError, ItemError};
use crate::feeder::{Feeder, Progress, SendFailure};
use crate::guard::StopBody;
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

    /// Makes a request, unless it is too large to send.
    fn request<M: Message>(&self, message: M) -> Result<tonic::Request<M>, CallError> {
        self.check_length(&message)?;
        Ok(self.client.request(message, self.timeout))
    }

    fn check_length(&self, message: &impl Message) -> Result<(), CallError> {
        let (length, limit) = (message.encoded_len(), self.client.settings().max_message_bytes);
        if length > limit {
            let message = format!("the call has {length} bytes, over the limit of {limit}; send the items as a stream");
            return Err(CallError::MessageTooLarge { message });
        }
        Ok(())
    }

    /// Awaits the answer, at most until the deadline.
    async fn answer<T>(
        &self,
        response: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
    ) -> Result<T, CallError> {
        let response = match self.deadline() {
            None => response.await,
            Some(deadline) => tokio::time::timeout_at(deadline, response).await.map_err(|_| deadline_exceeded())?,
        };
        Ok(response.map_err(call_error)?.into_inner())
    }

    async fn map(&self, items: Payload, common: Option<EncodedCommon>) -> Result<Results, CallError> {
        let request = self.request(proto::MapRequest {
            function: self.function.clone(),
            content_type: self.content_type(items.format),
            options: Some(self.options.clone()),
            items: Some(items.into_list().into()),
            common: common.map(Into::into),
        })?;
        let response = self.answer(self.client.grpc().map(request)).await?;
        Ok(Results { list: response.results.map(EncodedList::from), errors: response.errors })
    }

    async fn starmap(&self, items: Payload, common: Option<EncodedCommon>) -> Result<Results, CallError> {
        let request = self.request(proto::StarMapRequest {
            function: self.function.clone(),
            content_type: self.content_type(items.format),
            options: Some(self.options.clone()),
            items: Some(items.into_list().into()),
            common: common.map(Into::into),
        })?;
        let response = self.answer(self.client.grpc().star_map(request)).await?;
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
                None => Ok(decoder(results.item(position)).map_err(|source| CallError::Decode { index, source })?),
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
            let request = outline.request(proto::ApplyRequest {
                function: outline.function.clone(),
                content_type: outline.content_type(arguments.format),
                kwargs: verb.kwargs?,
                options: Some(outline.options.clone()),
                args: Some(arguments.into_list().into()),
            })?;
            let response = outline.answer(outline.client.grpc().apply(request)).await?;
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
            let common = outline.take_common()?;
            let request = outline.request(proto::IMapRequest {
                function: outline.function.clone(),
                content_type: outline.content_type(items.format),
                options: Some(outline.options.clone()),
                order: verb.stream.order.into(),
                window: verb.stream.window,
                star: verb.stream.star,
                items: Some(items.into_list().into()),
                common: common.map(Into::into),
            })?;
            let mut grpc = outline.client.grpc();
            let response = async move { grpc.i_map(request).await.map(tonic::Response::into_inner) };
            let messages = response.try_flatten_stream().map_ok(RunMessage::from).boxed();
            ResultStream::start(messages, verb.decoder, outline.deadline(), None).await
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
            };
            outline.check_length(&config)?;
            let feeder = Feeder {
                config,
                kind: verb.format.kind(),
                items: verb.items,
                max_message_bytes: outline.client.settings().max_message_bytes,
                progress: progress_receiver,
                failure: failure.clone(),
                stop: stop.clone(),
            };
            let mut request = outline.client.request(feeder.requests(), outline.timeout);
            request.extensions_mut().insert(StopBody(stop.clone()));
            let mut grpc = outline.client.grpc();
            let response = async move { grpc.i_map_stream(request).await.map(tonic::Response::into_inner) };
            let messages = response.try_flatten_stream().map_ok(RunMessage::from).boxed();
            let sending = SendingSide { progress, failure, _stop: stop.drop_guard() };
            ResultStream::start(messages, verb.decoder, outline.deadline(), Some(sending)).await
        })
    }
}
