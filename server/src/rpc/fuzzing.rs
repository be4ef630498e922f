//! Arbitrary requests, and a client that believes nothing: fuzzed as `request_validator`, and run on its corpus as a
//! test.
//!
//! The service is the real one, behind what tonic generates, with a real pool; so requests are decoded as they are in a
//! server, and what is accepted has to come to an end. Only HTTP/2 and the workers are played: the workers return
//! their items. Everything runs on paused time, in a runtime of its own, and so does the same every time.
//!
//! # Input
//!
//! One byte of settings, whose low three bits are the method; then, if there is one, the length and text of a
//! `grpc-timeout` header; then the body: one message, or for `IMapStream` and raw bodies pieces, each with a length of
//! two bytes in front, of which the highest bit says to pause before it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request};
use http_body::Body;
use procpool_items::{ItemKind, ItemSlab};
use procpool_pool::supervisor::{
    COMMAND_CAPACITY, ChunkResults, ChunkRun, WorkerCommand, WorkerEvent, WorkerEventKind, WorkerSpawner,
};
use procpool_pool::{CallStyle, ExitUsage, FunctionInfo, GracePeriods, PoolConfig, WorkerExit, WorkerId};
use procpool_proto::google::rpc;
use procpool_proto::v1;
use procpool_proto::v1::pool_service_server::PoolServiceServer;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tokio_util::task::TaskTracker;
use tonic::codegen::StdError;
use tonic::{Code, Status};
use tower::ServiceExt as _;

use super::body::{BodyLimits, LimitedBody};
use super::deadline::Deadline;
use super::pool_rpc::PoolRpc;
use crate::byte_budget::ByteBudget;
use crate::listener::Source;
use crate::pools::{NamedPool, Pools};

const METHODS: [&str; 8] =
    ["Apply", "Map", "StarMap", "IMap", "IMapStream", "ListFunctions", "ListFunctions", "NoSuchMethod"];
const HAS_TIMEOUT: u8 = 0x08;
const IS_RAW: u8 = 0x10;
const TAKES_NO_COMMON: u8 = 0x20;
const IS_PAUSED: u16 = 0x8000;

const FUNCTION: &str = "echo";
const MAX_MESSAGE_BYTES: u32 = 2048;
const MAX_QUEUED_ITEMS: u32 = 300;
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// What gRPC implementations accept as headers by default.
const MAX_HEADER_BYTES: usize = 8 << 10;
/// More than any call needs to end, by a clock that only runs while nothing else does.
const PATIENCE: Duration = Duration::from_secs(100_000);

/// Sends what the input says to the service.
///
/// # Panics
///
/// If the service does not answer as the comments of `pool.proto` promise.
pub fn fuzz_request(data: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("the system has room for another runtime");
    let Some(request) = Input::read(data) else { return };
    runtime.block_on(async {
        let answered = tokio::time::timeout(PATIENCE, request.send()).await;
        assert!(answered.is_ok(), "the call does not end");
    });
}

/// What the input says.
struct Input {
    method: &'static str,
    is_raw: bool,
    takes_common: bool,
    headers: HeaderMap,
    pieces: VecDeque<(bool, Bytes)>,
}

impl Input {
    fn read(data: &[u8]) -> Option<Self> {
        let (&settings, mut data) = data.split_first()?;
        let mut headers = HeaderMap::new();
        if settings & HAS_TIMEOUT != 0 {
            let (&length, rest) = data.split_first()?;
            let (timeout, rest) = rest.split_at_checked(length.into())?;
            headers.insert("grpc-timeout", HeaderValue::from_bytes(timeout).ok()?);
            data = rest;
        }
        let method = METHODS[usize::from(settings & 0x07)];
        let is_raw = settings & IS_RAW != 0;
        let mut pieces = VecDeque::new();
        if is_raw || method == "IMapStream" {
            while let Some((&[high, low], rest)) = data.split_first_chunk() {
                let prefix = u16::from_be_bytes([high, low]);
                let length = usize::from(prefix & !IS_PAUSED).min(rest.len());
                let (piece, rest) = rest.split_at(length);
                pieces.push_back((prefix & IS_PAUSED != 0, Bytes::copy_from_slice(piece)));
                data = rest;
            }
        } else {
            pieces.push_back((false, Bytes::copy_from_slice(data)));
        }
        Some(Self { method, is_raw, takes_common: settings & TAKES_NO_COMMON == 0, headers, pieces })
    }

    /// Sends it to a server of its own, and holds the answer against it.
    async fn send(self) {
        let Self { method, is_raw, takes_common, headers, pieces } = self;
        let Some(deadline) = Deadline::from_headers(&headers, Instant::now()) else { return };
        let messages: Vec<Bytes> = pieces.iter().map(|(_, piece)| piece.clone()).collect();
        let body = Pieces { rest: pieces, is_framed: !is_raw, pause: None };
        let limits = BodyLimits { max_message_bytes: MAX_MESSAGE_BYTES, stall_timeout: STALL_TIMEOUT };
        let mut request =
            Request::new(LimitedBody::new(body, limits, ByteBudget::new(64 << 10), method == "IMapStream"));
        *request.uri_mut() = format!("/procpool.v1.PoolService/{method}").parse().expect("it is a path");
        *request.headers_mut() = headers.clone();
        request.extensions_mut().insert(deadline);

        let workers = TaskTracker::new();
        let config =
            PoolConfig { max_queued_items: MAX_QUEUED_ITEMS, ..PoolConfig::new(NonZeroU32::MIN.saturating_add(1)) };
        let spawner = Arc::new(Echo { takes_common, workers: workers.clone() });
        let requests = ByteBudget::new(64 << 10);
        let (pools, pool_tasks) = Pools::start(vec![NamedPool::new("default", config, spawner)], requests, |_| None);
        let calls = TaskTracker::new();
        let service = PoolServiceServer::new(PoolRpc {
            call_log: Arc::default(),
            pools: pools.clone(),
            max_message_bytes: MAX_MESSAGE_BYTES,
            calls: calls.clone(),
        });
        let intake = request.body().intake();
        let mut answer = pin!(Answer::to(service, request));
        let answer = poll_fn(|context| {
            intake.receive(context);
            answer.as_mut().poll(context)
        })
        .await;
        if !is_raw {
            answer.check(method, &messages, headers.contains_key("grpc-timeout"));
        } else if answer.status.code() == Code::InvalidArgument {
            check_refusal(&answer.status);
        }

        calls.close();
        calls.wait().await;
        pools.stop_now();
        for task in pool_tasks {
            task.join().await;
        }
        workers.close();
        workers.wait().await;
    }
}

/// The body of a request.
struct Pieces {
    rest: VecDeque<(bool, Bytes)>,
    /// Each is a message, and is to be sent as one.
    is_framed: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Source for Pieces {
    fn poll_data(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StdError>>> {
        if let Some((is_paused @ true, _)) = self.rest.front_mut() {
            *is_paused = false;
            self.pause = Some(Box::pin(tokio::time::sleep(Duration::from_millis(1))));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let Some((_, piece)) = self.rest.pop_front() else { return Poll::Ready(None) };
        let mut data = BytesMut::new();
        if self.is_framed {
            data.extend_from_slice(&[0]);
            data.extend_from_slice(&u32::try_from(piece.len()).expect("it is short").to_be_bytes());
        }
        data.extend_from_slice(&piece);
        Poll::Ready(Some(Ok(data.freeze())))
    }

    fn open_window(&mut self, _bytes: usize) {}
}

/// Starts workers that return their items.
struct Echo {
    takes_common: bool,
    workers: TaskTracker,
}

impl WorkerSpawner for Echo {
    fn spawn(
        &self,
        worker: WorkerId,
        _: GracePeriods,
        events: mpsc::Sender<WorkerEvent>,
    ) -> mpsc::Sender<WorkerCommand> {
        let (sender, mut commands) = mpsc::channel(COMMAND_CAPACITY);
        let function = FunctionInfo {
            name: FUNCTION.to_owned(),
            signature: String::new(),
            doc: String::new(),
            example: String::new(),
            idempotent: false,
            takes_common: self.takes_common,
        };
        self.workers.spawn(async move {
            // If nobody listens, the driver is gone.
            let tell = async |kind| drop(events.send(WorkerEvent { worker, kind }).await);
            tell(WorkerEventKind::Hello { pid: 1, sdk: String::new(), functions: vec![function] }).await;
            tell(WorkerEventKind::Ready).await;
            loop {
                match commands.recv().await {
                    Some(WorkerCommand::Run(run)) => tell(WorkerEventKind::Results(results_of(&run))).await,
                    // What it got, it has finished.
                    Some(WorkerCommand::Recall { .. } | WorkerCommand::Dump(_) | WorkerCommand::DropCommons(_)) => {}
                    Some(WorkerCommand::Shutdown | WorkerCommand::Terminate | WorkerCommand::Kill) | None => break,
                }
            }
            let (exit, usage, stderr_tail) = (WorkerExit::Signal(9), ExitUsage::default(), String::new());
            tell(WorkerEventKind::Exited { exit, usage, running: None, stderr_tail }).await;
        });
        sender
    }
}

fn results_of(run: &ChunkRun) -> ChunkResults {
    let items = Bytes::from(run.parts.concat());
    let found = ItemSlab::count(ItemKind::Blobs, &items).expect("the server checked the items");
    assert_eq!(found, run.count as usize);
    // The arguments of Apply are no result.
    let items = if run.style == CallStyle::Apply { run.kind.placeholder().into() } else { items };
    ChunkResults { chunk: run.chunk, first: 0, count: run.count, failures: Vec::new(), busy: Duration::ZERO, items }
}

/// What came back.
struct Answer {
    status: Status,
    messages: Vec<Bytes>,
}

impl Answer {
    async fn to(service: PoolServiceServer<PoolRpc>, request: Request<LimitedBody<Pieces>>) -> Self {
        let response = service.oneshot(request).await.unwrap_or_else(|never| match never {});
        let (head, body) = response.into_parts();
        let mut body = std::pin::pin!(body);
        let (mut data, mut last_headers) = (BytesMut::new(), head.headers);
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            match frame.expect("the service gives errors as trailers").into_data() {
                Ok(piece) => data.extend_from_slice(&piece),
                Err(frame) => last_headers = frame.into_trailers().unwrap_or_default(),
            }
        }
        let header_bytes: usize = last_headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        assert!(header_bytes <= MAX_HEADER_BYTES, "the headers have {header_bytes} bytes");
        let status = Status::from_header_map(&last_headers).expect("every answer has a status");
        let mut messages = Vec::new();
        while let Some((&[flag, a, b, c, d], _)) = data.split_first_chunk() {
            assert_eq!(flag, 0);
            let whole = data.split_to(5 + u32::from_be_bytes([a, b, c, d]) as usize);
            assert!(whole.len() <= 5 + MAX_MESSAGE_BYTES as usize, "a message is over the limit");
            messages.push(whole.freeze().slice(5..));
        }
        Self { status, messages }
    }

    fn check(&self, method: &str, requests: &[Bytes], has_deadline: bool) {
        let Self { status, messages } = self;
        match status.code() {
            Code::Ok if method == "Apply" => {
                let response = v1::ApplyResponse::decode(only(messages)).expect("the service writes protobuf");
                assert!(response.result.is_some());
            }
            Code::Ok if method == "ListFunctions" => {}
            Code::Ok => check_results(method, requests, messages),
            Code::InvalidArgument => check_refusal(status),
            Code::NotFound => assert!(!detail::<rpc::ResourceInfo>(status, "ResourceInfo").resource_name.is_empty()),
            Code::ResourceExhausted => {}
            Code::Unimplemented => assert_eq!(method, "NoSuchMethod"),
            Code::DeadlineExceeded if has_deadline => {}
            // The library's own word for what is no protobuf, or is no single message.
            Code::Internal => assert!(requests.iter().any(|request| !is_decodable(method, request)), "{status:?}"),
            _ => panic!("unexpected: {status:?}"),
        }
    }
}

/// A refusal names the fields that are wrong, and says what is wrong with each.
fn check_refusal(status: &Status) {
    let info: rpc::ErrorInfo = detail(status, "ErrorInfo");
    assert!(["INVALID_ARGUMENT", "INVALID_ITEM"].contains(&info.reason.as_str()), "{info:?}");
    let bad: rpc::BadRequest = detail(status, "BadRequest");
    assert!(!bad.field_violations.is_empty());
    for violation in bad.field_violations {
        assert!(!violation.field.is_empty() && !violation.description.is_empty(), "{violation:?}");
    }
}

fn detail<M: Message + Default>(status: &Status, name: &str) -> M {
    let details = rpc::Status::decode(status.details()).expect("the service writes protobuf").details;
    let found = details.iter().find(|detail| detail.type_url.ends_with(name));
    let found = found.unwrap_or_else(|| panic!("no {name} in {status:?}"));
    M::decode(&found.value[..]).expect("the service writes protobuf")
}

fn only(messages: &[Bytes]) -> Bytes {
    assert_eq!(messages.len(), 1);
    messages[0].clone()
}

fn is_decodable(method: &str, request: &Bytes) -> bool {
    match method {
        "Apply" => v1::ApplyRequest::decode(request.clone()).is_ok(),
        "Map" => v1::MapRequest::decode(request.clone()).is_ok(),
        "StarMap" => v1::StarMapRequest::decode(request.clone()).is_ok(),
        "IMap" => v1::IMapRequest::decode(request.clone()).is_ok(),
        "IMapStream" => v1::IMapStreamRequest::decode(request.clone()).is_ok(),
        _ => v1::ListFunctionsRequest::decode(request.clone()).is_ok(),
    }
}

/// Results are the items, every one of them once.
fn check_results(method: &str, requests: &[Bytes], messages: &[Bytes]) {
    let items: Vec<Bytes> = requests.iter().flat_map(|request| items_of(method, request)).collect();
    let mut results: Vec<Option<Bytes>> = vec![None; items.len()];
    for message in messages {
        let Results { first_index, indexes, list, errors } = Results::read(method, message);
        for (position, result) in list.into_iter().enumerate() {
            let index = indexes.get(position).copied().unwrap_or(first_index + position as u64);
            let index = usize::try_from(index).expect("it is small");
            assert!(results[index].replace(result).is_none(), "result {index} came twice");
        }
        for error in errors {
            // No item fails, but a result may be too large for a message with its content type.
            let status = error.status.expect("an error has a status");
            assert_eq!(status.code, Code::ResourceExhausted as i32);
            let index = usize::try_from(error.index).expect("it is small");
            assert!(results[index].is_some());
            results[index] = Some(items[index].clone());
        }
    }
    let results: Vec<Bytes> = results.into_iter().map(|result| result.expect("every item has a result")).collect();
    assert_eq!(results, items);
}

fn items_of(method: &str, request: &Bytes) -> Vec<Bytes> {
    use v1::{i_map_request, i_map_stream_request, map_request, star_map_request};
    let expected = "it was accepted";
    let list = match method {
        "Map" => v1::MapRequest::decode(request.clone()).expect(expected).items.map(|items| match items {
            map_request::Items::Values(list) | map_request::Items::Blobs(list) => list,
        }),
        "StarMap" => v1::StarMapRequest::decode(request.clone()).expect(expected).items.map(|items| match items {
            star_map_request::Items::Values(list) | star_map_request::Items::Blobs(list) => list,
        }),
        "IMap" => v1::IMapRequest::decode(request.clone()).expect(expected).items.map(|items| match items {
            i_map_request::Items::Values(list) | i_map_request::Items::Blobs(list) => list,
        }),
        _ => v1::IMapStreamRequest::decode(request.clone()).expect(expected).items.map(|items| match items {
            i_map_stream_request::Items::Values(list) | i_map_stream_request::Items::Blobs(list) => list,
        }),
    };
    contents(list)
}

fn contents(list: Option<Bytes>) -> Vec<Bytes> {
    let slab = ItemSlab::parse(ItemKind::Blobs, list.unwrap_or_default()).expect("lists are well-formed");
    (0..slab.len()).map(|index| slab.item(index)).collect()
}

/// The results in one message.
struct Results {
    first_index: u64,
    indexes: Vec<u64>,
    list: Vec<Bytes>,
    errors: Vec<v1::ItemError>,
}

impl Results {
    fn read(method: &str, message: &Bytes) -> Self {
        use v1::{i_map_response, i_map_stream_response, map_response, star_map_response};
        let expected = "the service writes protobuf";
        let message = message.clone();
        let (first_index, indexes, list, errors) = match method {
            "Map" => {
                let v1::MapResponse { results, errors, .. } = Message::decode(message).expect(expected);
                let list = results.map(|results| match results {
                    map_response::Results::Values(list) | map_response::Results::Blobs(list) => list,
                });
                (0, Vec::new(), list, errors)
            }
            "StarMap" => {
                let v1::StarMapResponse { results, errors, .. } = Message::decode(message).expect(expected);
                let list = results.map(|results| match results {
                    star_map_response::Results::Values(list) | star_map_response::Results::Blobs(list) => list,
                });
                (0, Vec::new(), list, errors)
            }
            "IMap" => {
                let v1::IMapResponse { first_index, indexes, results, errors, .. } =
                    Message::decode(message).expect(expected);
                let list = results.map(|results| match results {
                    i_map_response::Results::Values(list) | i_map_response::Results::Blobs(list) => list,
                });
                (first_index, indexes, list, errors)
            }
            _ => {
                let v1::IMapStreamResponse { first_index, indexes, results, errors, .. } =
                    Message::decode(message).expect(expected);
                let list = results.map(|results| match results {
                    i_map_stream_response::Results::Values(list) | i_map_stream_response::Results::Blobs(list) => list,
                });
                (first_index, indexes, list, errors)
            }
        };
        Self { first_index, indexes, list: contents(list), errors }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_of_the_request_validator() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/request_validator");
        for input in std::fs::read_dir(corpus).unwrap() {
            super::fuzz_request(&std::fs::read(input.unwrap().path()).unwrap());
        }
    }
}
