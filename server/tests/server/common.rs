//! A common argument reaches the workers as it came, once each, by every method that takes one.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use procpool_items::ItemKind;
use procpool_pool::CommonArgument;
use procpool_proto::v1::{
    IMapRequest, IMapStreamConfig, IMapStreamRequest, MapRequest, StarMapRequest, i_map_request, i_map_stream_config,
    i_map_stream_request, map_request, star_map_request,
};
use tonic::{Code, Status};

use crate::support::details::{fields, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

/// An encoded null.
const NULL: Bytes = Bytes::from_static(&[0x08, 0x00]);

fn map(common: map_request::Common) -> MapRequest {
    let items = Some(map_request::Items::Blobs(blobs(["1", "2", "3", "4"])));
    MapRequest { function: "echo".to_owned(), items, common: Some(common), ..MapRequest::default() }
}

fn imap_stream(common: i_map_stream_config::Common) -> IMapStreamRequest {
    let common = Some(common);
    let config = IMapStreamConfig { function: "echo".to_owned(), common, ..IMapStreamConfig::default() };
    let items = Some(i_map_stream_request::Items::Blobs(blobs(["1", "2"])));
    IMapStreamRequest { config: Some(config), items, ..IMapStreamRequest::default() }
}

/// What the workers were sent: all alike, and at most one for each of the two.
fn sent(server: &TestServer) -> CommonArgument {
    let mut commons = std::mem::take(&mut *server.script.commons.lock().unwrap());
    assert!((1..=2).contains(&commons.len()), "{commons:?}");
    let first = commons.pop().unwrap();
    for other in commons {
        assert_eq!((other.kind, &other.content_type, &other.bytes), (first.kind, &first.content_type, &first.bytes));
    }
    first
}

#[tokio::test]
async fn every_method_passes_it_on_as_it_came() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    // Nothing but the ends looks inside.
    let odd = Bytes::from_static(b"\xff\xff");

    client.map(map(map_request::Common::CommonValue(odd.clone()))).await.unwrap();
    let argument = sent(&server);
    assert_eq!((argument.kind, argument.content_type.as_str(), argument.bytes), (ItemKind::Values, "", odd.clone()));

    let common = Some(star_map_request::Common::CommonBlob(odd.clone()));
    let items = Some(star_map_request::Items::Blobs(blobs(["[1]"])));
    let (function, content_type) = ("echo".to_owned(), "application/json".to_owned());
    let request = StarMapRequest { function, content_type, items, common, ..StarMapRequest::default() };
    client.star_map(request).await.unwrap();
    let argument = sent(&server);
    assert_eq!((argument.kind, argument.bytes), (ItemKind::Blobs, odd));
    assert_eq!(argument.content_type, "application/json", "as for the items");

    let common = Some(i_map_request::Common::CommonBlob(Bytes::new()));
    let items = Some(i_map_request::Items::Blobs(blobs(["1"])));
    let request = IMapRequest { function: "echo".to_owned(), items, common, ..IMapRequest::default() };
    let mut results = client.i_map(request).await.unwrap().into_inner();
    while within(results.message()).await.unwrap().is_some() {}
    assert_eq!(sent(&server).bytes, Bytes::new(), "an empty blob is one, too");

    let first = imap_stream(i_map_stream_config::Common::CommonValue(NULL));
    let more = IMapStreamRequest { config: None, ..first.clone() };
    let mut results = client.i_map_stream(tokio_stream::iter([first, more])).await.unwrap().into_inner();
    while within(results.message()).await.unwrap().is_some() {}
    assert_eq!(sent(&server).bytes, NULL);
    drop(client);
    server.stop().await;
}

fn assert_refused(refused: &Status, field: &str, problem: &str) {
    assert_eq!((refused.code(), reason(refused).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
    assert_eq!(fields(refused), [field]);
    assert!(refused.message().contains(problem), "{}", refused.message());
}

#[tokio::test]
async fn workers_that_take_none_are_never_sent_one() {
    let script = Script::default();
    script.takes_common.store(false, Ordering::SeqCst);
    let server = TestServer::start_with(config(), script).await;
    let mut client = server.client().await;
    let refused = client.map(map(map_request::Common::CommonBlob(NULL))).await.unwrap_err();
    assert_refused(&refused, "common_blob", "the workers of this pool take no common argument");
    let request = imap_stream(i_map_stream_config::Common::CommonValue(NULL));
    let refused = client.i_map_stream(tokio_stream::iter([request])).await.unwrap_err();
    assert_refused(&refused, "config.common_value", "the workers of this pool take no common argument");
    client.map(MapRequest { common: None, ..map(map_request::Common::CommonBlob(NULL)) }).await.unwrap();
    assert!(server.script.commons.lock().unwrap().is_empty());
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn an_empty_value_is_refused_in_the_config_of_a_stream_too() {
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let request = imap_stream(i_map_stream_config::Common::CommonValue(Bytes::new()));
    let refused = server.client().await.i_map_stream(tokio_stream::iter([request])).await.unwrap_err();
    assert_refused(&refused, "config.common_value", "an empty Value; send null_value for null");
    server.stop().await;
}
