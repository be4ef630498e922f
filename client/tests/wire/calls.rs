//! Calls on the wire: errors, deadlines, cancellation. Against a scripted server.

use std::time::Duration;

use bytes::Bytes;
use procpool_client::{CallError, Client, ConnectError};
use procpool_items::SlabBuilder;
use procpool_proto::v1::{self as proto, map_response};
use tokio_stream::StreamExt as _;
use tonic::Status;

use crate::support::Fixture;

fn blobs(blobs: &[&str]) -> Bytes {
    let mut list = SlabBuilder::new();
    for blob in blobs {
        list.push(blob.as_bytes());
    }
    list.take()
}

fn map_response(results: &[&str]) -> proto::MapResponse {
    proto::MapResponse { results: Some(map_response::Results::Blobs(blobs(results))), ..Default::default() }
}

#[tokio::test]
async fn options_are_sent_and_results_come_in_order() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a", "b"]);
    let call = call.chunk_size(3).item_timeout(Duration::from_millis(1500)).max_attempts(2).priority(-1);
    let call = call.request_id("mine").content_type("text/plain").timeout(Duration::from_secs(30));
    let (answer, ()) = tokio::join!(call, async {
        let (request, answer) = server.next_map().await;
        let options = request.options.unwrap();
        assert_eq!((request.function.as_str(), request.content_type.as_str()), ("upper", "text/plain"));
        assert_eq!((options.chunk_size, options.max_attempts, options.priority), (3, 2, -1));
        assert_eq!(options.item_timeout, Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }));
        assert_eq!((options.request_id.as_str(), options.on_error()), ("mine", proto::OnError::FailFast));
        assert_eq!(request.items, Some(proto::map_request::Items::Blobs(blobs(&["a", "b"]))));
        answer.send(Ok(map_response(&["A", "B"]))).unwrap();
    });
    assert_eq!(answer.unwrap(), ["A", "B"]);
}

#[tokio::test]
async fn errors_stand_at_their_places() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a", "b", "c"]).collect_errors();
    let (answer, ()) = tokio::join!(call, async {
        let (request, answer) = server.next_map().await;
        assert_eq!(request.options.unwrap().on_error(), proto::OnError::Collect);
        let error = proto::ItemError { index: 1, status: None };
        answer.send(Ok(proto::MapResponse { errors: vec![error], ..map_response(&["A", "", "C"]) })).unwrap();
    });
    let answer = answer.unwrap();
    assert_eq!(answer.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(answer[1].as_ref().unwrap_err().index, 1);
}

#[tokio::test]
async fn a_reply_of_the_wrong_length_is_an_error() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a", "b"]);
    let (answer, ()) = tokio::join!(call, async {
        server.next_map().await.1.send(Ok(map_response(&["A"]))).unwrap();
    });
    assert!(matches!(answer, Err(CallError::Protocol { .. })), "{answer:?}");
}

#[tokio::test]
async fn malformed_error_details_do_not_panic() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a"]);
    let (answer, ()) = tokio::join!(call, async {
        let mut headers = http::HeaderMap::new();
        headers.insert("grpc-status-details-bin", http::HeaderValue::from_static("%%%"));
        let metadata = tonic::metadata::MetadataMap::from_headers(headers);
        let status = Status::with_metadata(tonic::Code::Aborted, "words", metadata);
        server.next_map().await.1.send(Err(status)).unwrap();
    });
    let Err(CallError::Other { code, message, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((code, message.as_str()), ("ABORTED", "words"));
}

#[tokio::test]
async fn malformed_error_details_in_trailers_do_not_panic() {
    let mut server = Fixture::start().await;
    let mut results = server.client.imap_bytes("upper", ["a"]).await.unwrap();
    let (_, responses) = server.next_imap().await;
    let mut headers = http::HeaderMap::new();
    headers.insert("grpc-status-details-bin", http::HeaderValue::from_static("%%%"));
    let metadata = tonic::metadata::MetadataMap::from_headers(headers);
    responses.send(Err(Status::with_metadata(tonic::Code::Aborted, "words", metadata))).await.unwrap();
    assert!(matches!(results.try_next().await, Err(CallError::Other { code: "ABORTED", .. })));
    assert!(matches!(results.try_next().await, Ok(None)));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_at_the_deadline() {
    let mut server = Fixture::start().await;
    let call = server.client.map_bytes("upper", ["a"]).timeout(Duration::from_millis(50));
    let (answer, held) = tokio::join!(call, server.next_map());
    assert!(matches!(answer, Err(CallError::DeadlineExceeded { .. })), "{answer:?}");
    drop(held);
}

#[tokio::test]
async fn a_stream_ends_at_the_deadline_although_its_headers_came() {
    let mut server = Fixture::start().await;
    let mut results = server.client.imap_bytes("upper", ["a"]).timeout(Duration::from_millis(100)).await.unwrap();
    let (_, _responses) = server.next_imap().await;
    let end = results.try_next().await;
    assert!(matches!(end, Err(CallError::DeadlineExceeded { .. })), "{end:?}");
}

#[tokio::test]
async fn dropping_a_map_cancels_it_on_the_server() {
    let mut server = Fixture::start().await;
    let mut call = Box::pin(server.client.map_bytes("upper", ["a"]).into_future());
    let mut answer = tokio::select! {
        answer = &mut call => panic!("nobody answered, but {answer:?} came"),
        (_, answer) = server.next_map() => answer,
    };
    drop(call);
    answer.closed().await;
}

#[tokio::test]
async fn dropping_a_stream_cancels_it_on_the_server() {
    let mut server = Fixture::start().await;
    let results = server.client.imap_bytes("upper", ["a"]).await.unwrap();
    let (_, responses) = server.next_imap().await;
    drop(results);
    responses.closed().await;
}

#[tokio::test]
async fn unordered_results_carry_their_indexes() {
    let mut server = Fixture::start().await;
    let results = server.client.imap_bytes("upper", ["a", "b", "c"]).unordered().await.unwrap();
    let (request, responses) = server.next_imap().await;
    assert_eq!((request.order(), request.window), (proto::ResultOrder::Unordered, 0));
    let message = proto::IMapResponse {
        indexes: vec![2, 0, 1],
        results: Some(proto::i_map_response::Results::Blobs(blobs(&["C", "", "B"]))),
        errors: vec![proto::ItemError { index: 0, status: None }],
        ..Default::default()
    };
    responses.send(Ok(message)).await.unwrap();
    drop(responses);
    let results: Vec<_> = results.map(|item| item.unwrap()).map(|item| (item.index, item.result.ok())).collect().await;
    assert_eq!(results, [(2, Some("C".into())), (0, None), (1, Some("B".into()))]);
}

#[tokio::test]
async fn what_is_too_large_is_not_sent() {
    let mut server = Fixture::start().await;
    let answer = server.client.map_bytes("upper", [vec![0_u8; 65 << 20]]).await;
    assert!(matches!(answer, Err(CallError::MessageTooLarge { .. })), "{answer:?}");
    assert!(server.arrived.try_recv().is_err());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let address = format!("unix:{}", folder.path().join("no.sock").display());
    let error = Client::connect(&address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("no server answers at {address}: No such file or directory (os error 2)"));
    let client = Client::builder().connect_lazy(&address).unwrap();
    let error = client.map_bytes("upper", ["a"]).await.unwrap_err();
    assert!(matches!(error, CallError::Unavailable { .. }), "{error:?}");
    assert!(error.is_safe_to_retry(), "it was never sent: {error:?}");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_common_argument_is_sent_in_the_kind_that_the_call_can_carry() {
    use proto::map_request::Common::{CommonBlob, CommonValue};
    let mut server = Fixture::start().await;
    let two = Bytes::from(procpool_items::value::to_bytes(&2).unwrap());
    let client = server.client.clone();
    let json = client.with_encoding(procpool_client::Encoding::Json);
    let calls = [
        (client.map_bytes("f", ["a"]).common(2), Some(CommonValue(two)), ""),
        (client.map_bytes("f", ["a"]).common_bytes(&b"\xff"[..]), Some(CommonBlob(Bytes::from_static(b"\xff"))), ""),
        (client.map_bytes("f", ["a"]), None, ""),
    ];
    for (call, expected, content_type) in calls {
        let (answer, ()) = tokio::join!(call, async {
            let (request, answer) = server.next_map().await;
            assert_eq!((request.common, request.content_type.as_str()), (expected, content_type));
            answer.send(Ok(map_response(&["A"]))).unwrap();
        });
        assert_eq!(answer.unwrap(), ["A"]);
    }
    // JSON keeps what a value would round.
    let large = (1_u64 << 53) + 1;
    let (answer, ()) = tokio::join!(json.map::<u64>("f", [1]).common(large), async {
        let (request, answer) = server.next_map().await;
        assert_eq!(request.common, Some(CommonBlob(Bytes::from_static(b"9007199254740993"))));
        assert_eq!(request.content_type, "application/json");
        answer.send(Ok(map_response(&["1"]))).unwrap();
    });
    assert_eq!(answer.unwrap(), [1]);
    let error = client.map::<u64>("f", [1]).common(large).await.unwrap_err();
    assert!(matches!(error, CallError::EncodeCommon { .. }), "{error}");
    assert!(error.to_string().starts_with("the common argument cannot be sent: "), "{error}");
}

#[tokio::test]
async fn a_stream_sends_it_in_its_config() {
    let mut server = Fixture::start().await;
    let call = server.client.imap_stream_bytes("f", tokio_stream::empty::<&[u8]>()).common_bytes(&b"c"[..]);
    let (results, ()) = tokio::join!(call, async {
        let mut stream = server.next_imap_stream().await;
        let config = stream.next().await.config.unwrap();
        let expected = proto::i_map_stream_config::Common::CommonBlob(Bytes::from_static(b"c"));
        assert_eq!(config.common, Some(expected));
    });
    drop(results);
}

#[tokio::test]
async fn calls_are_a_part_of_the_trace_that_was_given() {
    let mut server = Fixture::start().await;
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let traced = server.client.with_trace_context(traceparent, "vendor=1");
    let half = traced.with_trace_context(traceparent, "no\nheader");
    for client in [server.client.clone(), traced.clone(), half] {
        let (answer, ()) = tokio::join!(client.map_bytes("upper", ["a"]), async {
            let (_, answer) = server.next_map().await;
            answer.send(Ok(map_response(&["A"]))).unwrap();
        });
        answer.unwrap();
    }
    let (answer, _) = tokio::join!(traced.imap_bytes("upper", ["a"]), server.next_imap());
    drop(answer.unwrap());
    let noted = server.traces.lock().unwrap().clone();
    let owned = |parent: &str, state: &str| [parent.to_owned(), state.to_owned()];
    let expected =
        [owned("", ""), owned(traceparent, "vendor=1"), owned(traceparent, ""), owned(traceparent, "vendor=1")];
    assert_eq!(noted, expected);
}
