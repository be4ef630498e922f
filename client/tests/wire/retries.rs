//! Refused calls on the wire: which are made again, how often, and when.

use std::time::{Duration, Instant};

use futures_util::stream;
use procpool_client::{CallError, Client, RetryPolicy};
use procpool_items::SlabBuilder;
use procpool_proto::google::rpc::{self, ErrorInfo, RetryInfo};
use procpool_proto::v1::{self as proto, i_map_response, map_response};
use prost::Message as _;
use tonic::{Code, Status};

use crate::support::{Arrived, Fixture};

/// A refusal as the server makes it.
fn refusal(code: Code, reason: &str, pushback_ms: i64) -> Status {
    let any = |name: &str, value: Vec<u8>| prost_types::Any {
        type_url: format!("type.googleapis.com/google.rpc.{name}"),
        value,
    };
    let info = ErrorInfo { reason: reason.to_owned(), domain: "procpool".to_owned(), ..ErrorInfo::default() };
    let mut details = vec![any("ErrorInfo", info.encode_to_vec())];
    if let Ok(millis) = u64::try_from(pushback_ms) {
        let retry_delay = prost_types::Duration::try_from(Duration::from_millis(millis)).ok();
        details.push(any("RetryInfo", RetryInfo { retry_delay }.encode_to_vec()));
    }
    let status = rpc::Status { code: code as i32, message: "refused".to_owned(), details };
    let mut metadata = tonic::metadata::MetadataMap::new();
    metadata.insert("grpc-retry-pushback-ms", pushback_ms.into());
    Status::with_details_and_metadata(code, "refused", status.encode_to_vec().into(), metadata)
}

fn queue_full(pushback_ms: i64) -> Status {
    refusal(Code::ResourceExhausted, "QUEUE_FULL", pushback_ms)
}

fn draining(pushback_ms: i64) -> Status {
    refusal(Code::Unavailable, "DRAINING", pushback_ms)
}

fn blob(text: &str) -> bytes::Bytes {
    let mut list = SlabBuilder::new();
    list.push(text.as_bytes());
    list.take()
}

fn map_response() -> proto::MapResponse {
    proto::MapResponse { results: Some(map_response::Results::Blobs(blob("A"))), ..Default::default() }
}

fn imap_response(index: u64) -> proto::IMapResponse {
    let results = Some(i_map_response::Results::Blobs(blob("A")));
    proto::IMapResponse { first_index: index, results, ..Default::default() }
}

/// Tells whether another call has arrived.
fn has_another(server: &mut Fixture) -> bool {
    server.arrived.try_recv().is_ok()
}

#[tokio::test]
async fn a_refused_call_is_made_again_when_the_server_says() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a"]);
    let (answer, ()) = tokio::join!(call, async {
        let mut before = Instant::now();
        for status in [queue_full(30), draining(60), refusal(Code::Unavailable, "POOL_DEGRADED", 0)] {
            let wait = status.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse().unwrap();
            server.refuse_next(status).await;
            let next = server.arrived.recv().await.unwrap();
            assert!(before.elapsed() >= Duration::from_millis(wait), "{:?} of {wait} ms", before.elapsed());
            before = Instant::now();
            let Arrived::Map(request, answer) = next else { panic!("no Map arrived") };
            assert_eq!(request.items, Some(proto::map_request::Items::Blobs(blob("a"))));
            if server.previous_attempts.lock().unwrap().len() == 4 {
                answer.send(Ok(map_response())).unwrap();
                return;
            }
            answer.send(Err(queue_full(0))).unwrap();
        }
    });
    assert_eq!(answer.unwrap(), ["A"]);
    assert_eq!(*server.previous_attempts.lock().unwrap(), ["", "1", "2", "3"]);
}

#[tokio::test]
async fn whoever_waits_can_be_told_why_and_for_how_long() {
    let (sender, mut notices) = tokio::sync::mpsc::channel(8);
    let notice = move |refusal: &CallError, wait| sender.try_send((refusal.to_string(), wait)).unwrap();
    let mut server = Fixture::start_for(Client::builder().on_retry(notice)).await;
    let call = server.client.map_bytes("upper", ["a"]);
    let (answer, ()) = tokio::join!(call, async {
        server.refuse_next(queue_full(30)).await;
        // The notice comes before the wait, not after it.
        assert_eq!(notices.recv().await, Some(("refused".to_owned(), Duration::from_millis(30))));
        server.refuse_next(queue_full(-1)).await;
    });
    assert!(answer.is_err());
    assert!(notices.try_recv().is_err(), "what is not made again is told by the error");
}

#[tokio::test]
async fn it_is_given_up_after_the_last_attempt() {
    for (policy, attempts) in
        [(RetryPolicy::default(), 4), (RetryPolicy::default().max_attempts(2), 2), (RetryPolicy::none(), 1)]
    {
        let mut server = Fixture::start_for(Client::builder().retry(policy)).await;
        let call = server.client.map_bytes("upper", ["a"]);
        let (answer, ()) = tokio::join!(call, async {
            for _ in 0..attempts {
                server.refuse_next(queue_full(1)).await;
            }
        });
        let Err(CallError::QueueFull { retry_after, .. }) = answer else { panic!("{answer:?}") };
        assert_eq!(retry_after, Some(Duration::from_millis(1)));
        assert!(!has_another(&mut server));
    }
}

#[tokio::test]
async fn what_may_have_started_is_not_made_again() {
    let proxy = Status::unavailable("no healthy upstream");
    let aborted = refusal(Code::Aborted, "WORKER_CRASHED", -1);
    for status in [queue_full(-1), draining(-1), proxy, aborted, Status::internal("a bug")] {
        let mut server = Fixture::start().await;
        let call = server.client.map_bytes("upper", ["a"]);
        let (answer, ()) = tokio::join!(call, server.refuse_next(status));
        answer.unwrap_err();
        assert!(!has_another(&mut server));
    }
}

#[tokio::test]
async fn the_deadline_bounds_all_attempts() {
    let mut server = Fixture::start().await;
    let began = Instant::now();
    let call = server.client.map_bytes("upper", ["a"]).timeout(Duration::from_secs(20));
    let (answer, ()) = tokio::join!(call, server.refuse_next(queue_full(60_000)));
    assert!(matches!(answer, Err(CallError::QueueFull { .. })), "the reason, and not the deadline: {answer:?}");
    assert!(began.elapsed() < Duration::from_secs(10), "at once");
    assert!(!has_another(&mut server));

    let call = server.client.map_bytes("upper", ["a"]).timeout(Duration::from_millis(300));
    let (answer, held) = tokio::join!(call, async {
        server.refuse_next(queue_full(10)).await;
        server.next_map().await
    });
    assert!(matches!(answer, Err(CallError::DeadlineExceeded { .. })), "{answer:?}");
    drop(held);
}

#[tokio::test]
async fn most_calls_refused_means_no_more_attempts() {
    let mut server = Fixture::start_for(Client::builder().retry(RetryPolicy::default().max_attempts(100))).await;
    let client = server.client.clone();
    let call = client.map_bytes("upper", ["a"]);
    let (answer, ()) = tokio::join!(call, async {
        for _ in 0..5 {
            server.refuse_next(queue_full(0)).await;
        }
    });
    assert!(matches!(answer, Err(CallError::QueueFull { .. })), "{answer:?}");
    // The bucket is shared by all calls of the client, clones included.
    let (answer, ()) = tokio::join!(client.map_bytes("upper", ["a"]), server.refuse_next(queue_full(0)));
    assert!(matches!(answer, Err(CallError::QueueFull { .. })), "{answer:?}");
    assert!(!has_another(&mut server));
}

#[tokio::test]
async fn a_stream_is_made_again_until_its_first_message() {
    let mut server = Fixture::start().await;
    let mut results = server.client.imap_bytes("upper", ["a", "b"]).await.unwrap();
    let (first, responses) = tokio::join!(results.try_next(), async {
        server.refuse_next(queue_full(1)).await;
        server.refuse_next(draining(1)).await;
        let (_, responses) = server.next_imap().await;
        responses.send(Ok(imap_response(0))).await.unwrap();
        responses
    });
    assert_eq!(first.unwrap().unwrap().result.unwrap(), "A");
    responses.send(Err(queue_full(1))).await.unwrap();
    assert!(matches!(results.try_next().await, Err(CallError::QueueFull { .. })));
    assert!(!has_another(&mut server));
}

#[tokio::test]
async fn no_item_of_a_stream_is_lost_to_an_attempt() {
    let mut server = Fixture::start().await;
    let items = stream::iter(["a", "b", "c"]);
    let mut results = server.client.imap_stream_bytes("upper", items).await.unwrap();
    let (first, mut call) = tokio::join!(results.try_next(), async {
        server.refuse_next(queue_full(1)).await;
        server.refuse_next(queue_full(1)).await;
        let mut call = server.next_imap_stream().await;
        let config = call.next().await.config.unwrap();
        assert_eq!(config.function, "upper");
        call.allow(10).await;
        call.receive_items(3).await;
        call.answer(3).await;
        call
    });
    assert_eq!(first.unwrap().unwrap().index, 0);
    assert_eq!(results.try_next().await.unwrap().unwrap().index, 1);
    assert_eq!(results.try_next().await.unwrap().unwrap().index, 2);
    while call.requests.message().await.unwrap().is_some() {}
    drop(call);
    assert!(results.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_call_waits_for_a_server_that_is_about_to_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display());
    let impatient = Client::builder().retry(RetryPolicy::none()).connect_lazy(&address).unwrap();
    let refused = impatient.functions().await.unwrap_err();
    assert!(matches!(refused, CallError::Unavailable { .. }), "{refused:?}");

    let policy = RetryPolicy::default().backoff(Duration::from_secs(2), Duration::from_secs(2));
    let patient = Client::builder().retry(policy).connect_lazy(&address).unwrap();
    let mut call = Box::pin(patient.functions());
    // Its first attempt needs no waiting: nobody listens.
    for _ in 0..100 {
        assert!(futures_util::poll!(&mut call).is_pending(), "it does not give up");
        tokio::task::yield_now().await;
    }
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let connected = tokio::select! {
        answer = &mut call => panic!("nobody answered, but {answer:?} came"),
        connected = listener.accept() => connected,
    };
    connected.unwrap();
}
