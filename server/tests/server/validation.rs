//! A request that is wrong gets `INVALID_ARGUMENT` with the path of every wrong field, and nothing of it runs.

use procpool_proto::v1::i_map_stream_request::Items as StreamItems;
use procpool_proto::v1::map_request::{Common, Items};
use procpool_proto::v1::{CallOptions, IMapRequest, IMapStreamConfig, IMapStreamRequest, MapRequest};
use prost_types::Duration;
use tonic::Code;

use crate::support::details::{fields, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, numbers};

fn with_options(options: CallOptions) -> MapRequest {
    MapRequest { options: Some(options), ..valid() }
}

fn valid() -> MapRequest {
    let items = Some(Items::Values(numbers(0..3)));
    MapRequest { function: "echo".to_owned(), items, ..MapRequest::default() }
}

fn with_timeout(seconds: i64, nanos: i32) -> MapRequest {
    let item_timeout = Some(Duration { seconds, nanos });
    with_options(CallOptions { item_timeout, ..CallOptions::default() })
}

#[tokio::test]
async fn every_wrong_field_of_a_map_is_named() {
    // Nothing reaches the pool, so no worker need be ready.
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut client = server.client().await;
    let options = CallOptions::default;
    let table: Vec<(MapRequest, &[&str])> = vec![
        (MapRequest { function: String::new(), ..valid() }, &["function"]),
        (MapRequest { function: "f".repeat(257), ..valid() }, &["function"]),
        (MapRequest { function: "a\nb".to_owned(), ..valid() }, &["function"]),
        (MapRequest { content_type: "application/json".to_owned(), ..valid() }, &["content_type"]),
        (with_options(CallOptions { chunk_size: 1_000_001, ..options() }), &["options.chunk_size"]),
        (with_options(CallOptions { max_attempts: 11, ..options() }), &["options.max_attempts"]),
        (with_options(CallOptions { priority: 9, ..options() }), &["options.priority"]),
        (with_options(CallOptions { priority: -9, ..options() }), &["options.priority"]),
        (with_options(CallOptions { on_error: 3, ..options() }), &["options.on_error"]),
        (with_options(CallOptions { request_id: "r".repeat(129), ..options() }), &["options.request_id"]),
        (with_timeout(0, 0), &["options.item_timeout"]),
        (with_timeout(-1, 0), &["options.item_timeout"]),
        (with_timeout(0, -1), &["options.item_timeout"]),
        (with_timeout(1, 1_000_000_000), &["options.item_timeout"]),
        (MapRequest { common: Some(Common::CommonValue(bytes::Bytes::new())), ..valid() }, &["common_value"]),
        (
            with_options(CallOptions { chunk_size: u32::MAX, max_attempts: 99, ..options() }),
            &["options.chunk_size", "options.max_attempts"],
        ),
    ];
    for (request, expected) in table {
        let refused = client.map(request.clone()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert_eq!(fields(&refused), expected, "{request:?}");
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_list_that_is_malformed_is_refused_at_the_item() {
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut client = server.client().await;
    let mut cut_off = numbers(0..3).to_vec();
    cut_off.pop();
    let mut with_empty = numbers(0..1).to_vec();
    with_empty.extend([0x0a, 0]);
    for (list, field) in [(cut_off, "values[2]"), (with_empty, "values[1]"), (vec![0xff; 9], "values[0]")] {
        let request = MapRequest { items: Some(Items::Values(list.into())), ..valid() };
        let refused = client.map(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_ITEM"));
        assert_eq!(fields(&refused), [field]);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn the_fields_of_streams_are_checked_too() {
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut client = server.client().await;
    let request = IMapRequest { function: "echo".to_owned(), order: 7, window: 1_000_001, ..IMapRequest::default() };
    assert_eq!(fields(&client.i_map(request).await.unwrap_err()), ["order", "window"]);

    let stream_of = |message: IMapStreamRequest| tokio_stream::iter([message]);
    let items = Some(StreamItems::Blobs(blobs(["1"])));
    let no_config = IMapStreamRequest { items: items.clone(), ..IMapStreamRequest::default() };
    assert_eq!(fields(&client.i_map_stream(stream_of(no_config)).await.unwrap_err()), ["config"]);
    let options = Some(CallOptions { priority: 100, ..CallOptions::default() });
    let config = Some(IMapStreamConfig { window: u32::MAX, options, ..IMapStreamConfig::default() });
    let wrong = IMapStreamRequest { config, items, ..IMapStreamRequest::default() };
    let refused = client.i_map_stream(stream_of(wrong)).await.unwrap_err();
    assert_eq!(fields(&refused), ["config.options.priority", "config.window", "config.function"]);
    let refused = client.i_map_stream(tokio_stream::iter([])).await.unwrap_err();
    assert_eq!(fields(&refused), ["config"]);
    drop(client);
    server.stop().await;
}
