//! IMapStream takes its items as a stream too, with credit both ways.

use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_items::ItemKind;
use procpool_pool::PoolConfig;
use procpool_proto::google::rpc::{ErrorInfo, RetryInfo};
use procpool_proto::v1::i_map_stream_config::Common;
use procpool_proto::v1::i_map_stream_request::Items;
use procpool_proto::v1::i_map_stream_response::Results;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{
    GetPoolRequest, IMapStreamConfig, IMapStreamRequest, IMapStreamResponse, ListFunctionsRequest,
};
use procpool_server::NamedPool;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::support::details::{detail, fields, reason};
use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, contents, numbers, within};

/// Both ends of a call.
struct Call {
    requests: mpsc::Sender<IMapStreamRequest>,
    responses: Streaming<IMapStreamResponse>,
}

fn first_message(function: &str, window: u32) -> IMapStreamRequest {
    let config = IMapStreamConfig { function: function.to_owned(), window, ..IMapStreamConfig::default() };
    IMapStreamRequest { config: Some(config), ..IMapStreamRequest::default() }
}

/// The first message of a client that counts.
fn counting(function: &str, window: u32) -> IMapStreamRequest {
    let mut message = first_message(function, window);
    message.config.as_mut().unwrap().reports_taken = true;
    message
}

fn items(range: std::ops::Range<usize>) -> IMapStreamRequest {
    let items = Some(Items::Blobs(blobs(range.map(|index| index.to_string()))));
    IMapStreamRequest { items, ..IMapStreamRequest::default() }
}

fn taken(results_taken: u64) -> IMapStreamRequest {
    IMapStreamRequest { results_taken, ..IMapStreamRequest::default() }
}

/// As clients of other languages do it: a message for each item, as many as may be sent, and no look at results.
#[tokio::test]
async fn items_sent_one_by_one_that_nobody_drains_wait_and_none_is_lost() {
    const ITEMS: usize = 16_000;
    let server = TestServer::start().await;
    let input = [first_message("gated", 10)].into_iter().chain((0..ITEMS).map(|index| items(index..index + 1)));
    let mut client = server.client().await;
    let mut responses = within(client.i_map_stream(tokio_stream::iter(input))).await.unwrap().into_inner();
    server.script.begun(2).await;
    // On the same connection.
    for _ in 0..100 {
        within(client.list_functions(ListFunctionsRequest {})).await.unwrap();
    }
    server.script.release(ITEMS);
    let mut received = 0;
    while let Some(response) = within(responses.message()).await.unwrap() {
        let Some(Results::Blobs(results)) = response.results else { continue };
        for result in contents(ItemKind::Blobs, &results) {
            assert_eq!(result, received.to_string());
            received += 1;
        }
    }
    assert_eq!(received, ITEMS);
    drop((client, responses));
    server.stop().await;
}

impl Call {
    async fn start(server: &TestServer, function: &str, window: u32) -> Self {
        Self::start_with(server, first_message(function, window)).await
    }

    async fn start_with(server: &TestServer, first: IMapStreamRequest) -> Self {
        let (requests, input) = mpsc::channel(1000);
        requests.send(first).await.unwrap();
        let mut client = server.client().await;
        let responses = within(client.i_map_stream(ReceiverStream::new(input))).await.unwrap().into_inner();
        Self { requests, responses }
    }

    async fn send(&self, message: IMapStreamRequest) {
        within(self.requests.send(message)).await.unwrap();
    }

    async fn message(&mut self) -> Option<IMapStreamResponse> {
        within(self.responses.message()).await.unwrap()
    }

    /// Reads on until the call fails.
    async fn failure(&mut self) -> Status {
        loop {
            match within(self.responses.message()).await {
                Ok(message) => assert!(message.is_some(), "the stream ended well"),
                Err(status) => return status,
            }
        }
    }

    /// Reads this many results.
    async fn results(&mut self, count: usize) -> Vec<String> {
        let mut received = Vec::new();
        while received.len() < count {
            let message = self.message().await.expect("there must be more");
            received.extend(texts(&message));
        }
        received
    }
}

fn texts(message: &IMapStreamResponse) -> Vec<String> {
    match &message.results {
        None => Vec::new(),
        Some(Results::Blobs(results)) => {
            let results = contents(ItemKind::Blobs, results);
            results.iter().map(|result| String::from_utf8(result.to_vec()).unwrap()).collect()
        }
        Some(Results::Values(_)) => panic!("blobs were sent"),
    }
}

fn expected(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|index| index.to_string()).collect()
}

#[tokio::test]
async fn the_first_response_only_tells_the_allowance() {
    let server = TestServer::start().await;
    // The client has not sent an item, and waits for this before it does.
    let mut call = Call::start(&server, "echo", 8).await;
    let first = call.message().await.unwrap();
    assert_eq!(first.results, None);
    assert!(first.items_allowed >= 8, "{}", first.items_allowed);
    drop(call);
    server.stop().await;
}

#[tokio::test]
async fn results_come_while_the_input_is_open_and_the_stream_ends_with_it() {
    let server = TestServer::start().await;
    let mut call = Call::start(&server, "echo", 0).await;
    call.send(items(0..3)).await;
    assert_eq!(call.results(3).await, expected(0..3));
    call.send(items(3..5)).await;
    assert_eq!(call.results(2).await, expected(3..5));
    let Call { requests, mut responses } = call;
    drop(requests);
    while let Some(message) = within(responses.message()).await.unwrap() {
        assert_eq!(message.results, None);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_plain_client_needs_no_credit() {
    let server = TestServer::start().await;
    let (requests, input) = mpsc::channel(4);
    let sending = tokio_util::task::TaskTracker::new().spawn(async move {
        requests.send(first_message("echo", 4)).await.unwrap();
        for start in (0..20_000).step_by(100) {
            requests.send(items(start..start + 100)).await.unwrap();
        }
    });
    let mut client = server.client().await;
    let mut responses = within(client.i_map_stream(ReceiverStream::new(input))).await.unwrap().into_inner();
    let mut received = Vec::new();
    while let Some(message) = within(responses.message()).await.unwrap() {
        assert_eq!(message.first_index, if message.results.is_some() { received.len() as u64 } else { 0 });
        received.extend(texts(&message));
    }
    assert_eq!(received, expected(0..20_000));
    within(sending).await.unwrap();
    server.stop().await;
}

/// A client that sends as many items as it may, and says what it has taken of the results that it has.
struct CountingClient {
    call: Call,
    window: u64,
    total: usize,
    sent: usize,
    received: Vec<String>,
    taken: u64,
}

impl CountingClient {
    async fn take_all(&mut self) {
        self.taken = self.received.len() as u64;
        self.call.send(taken(self.taken)).await;
    }

    /// Receives until it has this many results, or more if they come together. Each message keeps to the window.
    async fn receive(&mut self, count: usize, takes: bool) {
        while self.received.len() < count {
            let message = self.call.message().await.expect("there must be more");
            let (allowed, most) = (message.items_allowed, self.taken + self.window);
            assert!(allowed <= most, "{allowed} items are allowed, and {} results were taken", self.taken);
            self.received.extend(texts(&message));
            if takes {
                self.take_all().await;
            }
            let sendable = usize::try_from(allowed).unwrap().min(self.total);
            if sendable > self.sent {
                self.call.send(items(self.sent..sendable)).await;
                self.sent = sendable;
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_counts_its_results_holds_the_pool_to_the_window() {
    const TOTAL: usize = 500;
    let server = TestServer::start().await;
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    server.script.release(TOTAL);
    let call = Call::start_with(&server, counting("gated", 4)).await;
    let mut client = CountingClient { call, window: 4, total: TOTAL, sent: 0, received: Vec::new(), taken: 0 };
    for stop_at in [0, 1, 50, 200] {
        client.receive(stop_at, true).await;
        // From now on its library receives, but nobody takes anything.
        let most = usize::try_from(client.taken + client.window).unwrap();
        client.receive(most, false).await;
        let pool = admin.get_pool(GetPoolRequest::default()).await.unwrap().into_inner().pool.unwrap();
        assert_eq!((pool.num_jobs, pool.num_queued_items, pool.num_running_items), (1, 0, 0));
        assert_eq!((client.received.len(), client.sent, server.script.num_finished()), (most, most, most as u64));
        client.take_all().await;
    }
    client.receive(TOTAL, true).await;
    assert_eq!(client.received, expected(0..TOTAL));
    assert_eq!(server.script.num_finished(), TOTAL as u64);
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_overruns_its_allowance_does_not_lock_itself_up() {
    let server = TestServer::start().await;
    let mut call = Call::start(&server, "echo", 2).await;
    call.send(items(0..1)).await;
    assert_eq!(call.results(1).await, expected(0..1));
    call.send(taken(1)).await;
    // All at once, and the next count would come behind it.
    for start in 1..200 {
        call.send(items(start..start + 1)).await;
    }
    assert_eq!(call.results(199).await, expected(1..200));
    drop(call);
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_message_ends_the_call_and_says_why() {
    let server = TestServer::start().await;
    let values = IMapStreamRequest { items: Some(Items::Values(numbers(0..1))), ..IMapStreamRequest::default() };
    let table = [
        (first_message("echo", 0), "config"),
        (values, "values"),
        (taken(1_000_000), "results_taken"),
        (
            IMapStreamRequest { items: Some(Items::Blobs(vec![0xff].into())), ..IMapStreamRequest::default() },
            "blobs[0]",
        ),
    ];
    for (wrong, field) in table {
        let mut call = Call::start(&server, "echo", 0).await;
        call.send(items(0..1)).await;
        assert_eq!(call.results(1).await, ["0"]);
        call.send(wrong).await;
        let failed = call.failure().await;
        assert_eq!(failed.code(), Code::InvalidArgument);
        assert_eq!(fields(&failed), [field]);
    }
    server.stop().await;
}

/// Starts a server whose pool holds ten items, in 10,000 bytes.
async fn start_narrow() -> TestServer {
    let mut pool = PoolConfig::new(NonZeroU32::MIN);
    (pool.max_queued_items, pool.max_queued_bytes) = (10, 10_000);
    let spawner = Arc::new(ScriptedSpawner::new(Script::default()));
    TestServer::start_named(config(), vec![NamedPool::new("default", pool, spawner)]).await
}

#[tokio::test]
async fn a_message_that_the_pool_has_no_room_for_is_refused_and_says_what_is_full() {
    let server = start_narrow().await;
    let bytes = IMapStreamRequest { items: Some(Items::Blobs(blobs([[7; 10_001]]))), ..IMapStreamRequest::default() };
    for (too_much, resource) in [(items(0..11), "items"), (bytes, "bytes")] {
        let mut call = Call::start(&server, "echo", 0).await;
        call.send(items(0..1)).await;
        assert_eq!(call.results(1).await, ["0"]);
        call.send(too_much).await;
        let refused = call.failure().await;
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
        assert_eq!(detail::<ErrorInfo>(&refused, "ErrorInfo").unwrap().metadata["resource"], resource);
        assert_eq!(detail::<RetryInfo>(&refused, "RetryInfo"), None, "an item of the call has run");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refused_first_message_may_be_sent_again() {
    let server = start_narrow().await;
    // What common arguments hold is no room for items, and nobody waits for it.
    let mut first = first_message("echo", 0);
    first.config.as_mut().unwrap().common = Some(Common::CommonBlob(vec![7; 4000].into()));
    let mut call = Call::start_with(&server, first).await;
    call.send(IMapStreamRequest { items: Some(Items::Blobs(blobs([[7; 7000]]))), ..IMapStreamRequest::default() })
        .await;
    let refused = call.failure().await;
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "QUEUE_FULL"));
    assert!(detail::<RetryInfo>(&refused, "RetryInfo").is_some());
    server.stop().await;
}

#[tokio::test]
async fn a_count_that_falls_is_refused() {
    let server = TestServer::start().await;
    let mut call = Call::start(&server, "echo", 0).await;
    call.send(items(0..5)).await;
    assert_eq!(call.results(5).await, expected(0..5));
    call.send(taken(5)).await;
    call.send(taken(4)).await;
    assert_eq!(fields(&call.failure().await), ["results_taken"]);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_cancels_the_job() {
    let server = TestServer::start().await;
    let call = Call::start(&server, "gated", 0).await;
    call.send(items(0..10)).await;
    server.script.begun(1).await;
    let mut cancelled = server.script.cancelled.subscribe();
    drop(call);
    within(cancelled.wait_for(|cancelled| *cancelled > 0)).await.unwrap();
    server.script.release(1000);
    server.stop().await;
}
