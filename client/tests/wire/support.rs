//! A server with scripted answers, to see what the client does on the wire.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use procpool_client::{Client, ClientBuilder};
use procpool_items::{ItemKind, ItemSlab};
use procpool_proto::v1::pool_service_server::{PoolService, PoolServiceServer};
use procpool_proto::v1::{self as proto, i_map_stream_request, i_map_stream_response};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_stream::Stream;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

type Boxed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a test does with a call that arrived.
pub(crate) enum Arrived {
    /// A Map; the sender is dropped when the server gives the call up.
    Map(proto::MapRequest, oneshot::Sender<Result<proto::MapResponse, Status>>),
    /// An IMap.
    IMap(proto::IMapRequest, oneshot::Sender<Result<mpsc::Receiver<Result<proto::IMapResponse, Status>>, Status>>),
    /// An IMapStream.
    IMapStream(
        Streaming<proto::IMapStreamRequest>,
        oneshot::Sender<Result<mpsc::Receiver<Result<proto::IMapStreamResponse, Status>>, Status>>,
    ),
}

impl Arrived {
    /// Answers with an error instead of headers.
    pub(crate) fn refuse(self, status: Status) {
        match self {
            Self::Map(_, answer) => answer.send(Err(status)).unwrap(),
            Self::IMap(_, answer) => answer.send(Err(status)).unwrap(),
            Self::IMapStream(_, answer) => answer.send(Err(status)).unwrap(),
        }
    }
}

/// Hands every call to the test.
pub(crate) struct Scripted {
    arrived: mpsc::Sender<Arrived>,
    previous_attempts: Arc<Mutex<Vec<String>>>,
    traces: Arc<Mutex<Vec<[String; 2]>>>,
}

/// A running server and a client of it.
pub(crate) struct Fixture {
    pub(crate) client: Client,
    pub(crate) arrived: mpsc::Receiver<Arrived>,
    /// What each Map said about earlier attempts.
    pub(crate) previous_attempts: Arc<Mutex<Vec<String>>>,
    /// The `traceparent` and `tracestate` of each Map and IMap; empty for none.
    pub(crate) traces: Arc<Mutex<Vec<[String; 2]>>>,
    _tasks: JoinSet<()>,
}

impl Fixture {
    pub(crate) async fn start() -> Self {
        Self::start_for(Client::builder()).await
    }

    /// Starts a server and connects to it with these settings.
    pub(crate) async fn start_for(builder: ClientBuilder) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, arrived) = mpsc::channel(16);
        let previous_attempts = Arc::new(Mutex::new(Vec::new()));
        let traces = Arc::new(Mutex::new(Vec::new()));
        let scripted = Scripted {
            arrived: sender,
            previous_attempts: Arc::clone(&previous_attempts),
            traces: Arc::clone(&traces),
        };
        let service = PoolServiceServer::from_arc(Arc::new(scripted));
        let server = tonic::transport::Server::builder().add_service(service);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        let client = builder.connect(&address).await.unwrap();
        Self { client, arrived, previous_attempts, traces, _tasks: tasks }
    }

    /// Refuses the next call, whatever it is.
    pub(crate) async fn refuse_next(&mut self, status: Status) {
        self.arrived.recv().await.expect("a call arrives").refuse(status);
    }

    pub(crate) async fn next_map(
        &mut self,
    ) -> (proto::MapRequest, oneshot::Sender<Result<proto::MapResponse, Status>>) {
        match self.arrived.recv().await {
            Some(Arrived::Map(request, answer)) => (request, answer),
            _ => panic!("no Map arrived"),
        }
    }

    /// Answers the headers of the next IMap.
    pub(crate) async fn next_imap(
        &mut self,
    ) -> (proto::IMapRequest, mpsc::Sender<Result<proto::IMapResponse, Status>>) {
        match self.arrived.recv().await {
            Some(Arrived::IMap(request, answer)) => {
                let (sender, receiver) = mpsc::channel(16);
                answer.send(Ok(receiver)).unwrap();
                (request, sender)
            }
            _ => panic!("no IMap arrived"),
        }
    }

    /// Answers the headers of the next IMapStream.
    pub(crate) async fn next_imap_stream(&mut self) -> StreamCall {
        match self.arrived.recv().await {
            Some(Arrived::IMapStream(requests, answer)) => {
                let (responses, receiver) = mpsc::channel(16);
                answer.send(Ok(receiver)).unwrap();
                StreamCall { requests, responses, num_results: 0 }
            }
            _ => panic!("no IMapStream arrived"),
        }
    }
}

/// The server's side of an IMapStream over blobs.
pub(crate) struct StreamCall {
    pub(crate) requests: Streaming<proto::IMapStreamRequest>,
    pub(crate) responses: mpsc::Sender<Result<proto::IMapStreamResponse, Status>>,
    num_results: u64,
}

impl StreamCall {
    pub(crate) async fn allow(&self, items_allowed: u64) {
        let message = proto::IMapStreamResponse { items_allowed, ..Default::default() };
        self.responses.send(Ok(message)).await.unwrap();
    }

    /// Sends this many results, each with one byte.
    pub(crate) async fn answer(&mut self, count: usize) {
        let mut results = procpool_items::SlabBuilder::new();
        for _ in 0..count {
            results.push(b"r");
        }
        let message = proto::IMapStreamResponse {
            first_index: self.num_results,
            results: Some(i_map_stream_response::Results::Blobs(results.take())),
            ..Default::default()
        };
        self.num_results += count as u64;
        self.responses.send(Ok(message)).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> proto::IMapStreamRequest {
        self.requests.message().await.unwrap().expect("the client sends something")
    }

    /// Receives items until there are this many.
    pub(crate) async fn receive_items(&mut self, count: usize) {
        let mut received = 0;
        while received < count {
            received += count_items(&self.next().await);
        }
        assert_eq!(received, count);
    }
}

pub(crate) fn count_items(message: &proto::IMapStreamRequest) -> usize {
    match &message.items {
        None => 0,
        Some(i_map_stream_request::Items::Values(list)) => ItemSlab::count(ItemKind::Values, list).unwrap(),
        Some(i_map_stream_request::Items::Blobs(list)) => ItemSlab::count(ItemKind::Blobs, list).unwrap(),
    }
}

impl Scripted {
    fn note_trace<T>(&self, request: &Request<T>) {
        let text = |name| request.metadata().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        self.traces.lock().unwrap().push([text("traceparent"), text("tracestate")]);
    }

    fn note_attempts<T>(&self, request: &Request<T>) {
        let previous = request.metadata().get("grpc-previous-rpc-attempts").map(|attempts| attempts.to_str().unwrap());
        self.previous_attempts.lock().unwrap().push(previous.unwrap_or_default().to_owned());
    }
}

fn given_up() -> Status {
    Status::internal("the test gave the call up")
}

#[tonic::async_trait]
impl PoolService for Scripted {
    type IMapStream = Boxed<proto::IMapResponse>;
    type IMapStreamStream = Boxed<proto::IMapStreamResponse>;

    async fn apply(&self, _: Request<proto::ApplyRequest>) -> Result<Response<proto::ApplyResponse>, Status> {
        Err(Status::unimplemented("apply"))
    }

    async fn map(&self, request: Request<proto::MapRequest>) -> Result<Response<proto::MapResponse>, Status> {
        let (answer, answered) = oneshot::channel();
        self.note_attempts(&request);
        self.note_trace(&request);
        self.arrived.send(Arrived::Map(request.into_inner(), answer)).await.map_err(|_| given_up())?;
        answered.await.map_err(|_| given_up())?.map(Response::new)
    }

    async fn star_map(&self, _: Request<proto::StarMapRequest>) -> Result<Response<proto::StarMapResponse>, Status> {
        Err(Status::unimplemented("star_map"))
    }

    async fn i_map(&self, request: Request<proto::IMapRequest>) -> Result<Response<Self::IMapStream>, Status> {
        let (answer, answered) = oneshot::channel();
        self.note_trace(&request);
        self.arrived.send(Arrived::IMap(request.into_inner(), answer)).await.map_err(|_| given_up())?;
        let receiver = answered.await.map_err(|_| given_up())??;
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    async fn i_map_stream(
        &self,
        request: Request<Streaming<proto::IMapStreamRequest>>,
    ) -> Result<Response<Self::IMapStreamStream>, Status> {
        let (answer, answered) = oneshot::channel();
        self.arrived.send(Arrived::IMapStream(request.into_inner(), answer)).await.map_err(|_| given_up())?;
        let receiver = answered.await.map_err(|_| given_up())??;
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(receiver))))
    }

    async fn list_functions(
        &self,
        _: Request<proto::ListFunctionsRequest>,
    ) -> Result<Response<proto::ListFunctionsResponse>, Status> {
        Err(Status::unimplemented("list_functions"))
    }
}
