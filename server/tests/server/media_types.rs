//! Content types are media types: however a caller spells one, the workers are sent, and the caller is told, the
//! canonical form.

use procpool_proto::v1::{
    ApplyRequest, IMapRequest, IMapStreamConfig, IMapStreamRequest, MapRequest, StarMapRequest, apply_request,
    i_map_request, i_map_stream_config, i_map_stream_request, map_request, star_map_request,
};
use tonic::Code;

use crate::support::details::{fields, reason};
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, numbers, within};

const JSON: &str = "application/json";
const SPELLINGS: [&str; 3] =
    ["application/json; charset=utf-8", "Application/JSON", "APPLICATION/json;Charset=\"UTF-8\""];

fn function() -> String {
    "echo".to_owned()
}

#[tokio::test]
async fn every_method_takes_every_spelling_and_answers_with_one() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for spelling in SPELLINGS {
        let content_type = spelling.to_owned();
        let items = Some(map_request::Items::Blobs(blobs(["1"])));
        let common = Some(map_request::Common::CommonBlob(b"{}"[..].into()));
        let request = MapRequest {
            function: function(),
            content_type: content_type.clone(),
            items,
            common,
            ..MapRequest::default()
        };
        assert_eq!(client.map(request).await.unwrap().into_inner().content_type, JSON, "{spelling}");

        let items = Some(star_map_request::Items::Blobs(blobs(["[1]"])));
        let request = StarMapRequest {
            function: function(),
            content_type: content_type.clone(),
            items,
            ..StarMapRequest::default()
        };
        assert_eq!(client.star_map(request).await.unwrap().into_inner().content_type, JSON, "{spelling}");

        let items = Some(i_map_request::Items::Blobs(blobs(["[1]"])));
        let request = IMapRequest {
            function: function(),
            content_type: content_type.clone(),
            items,
            star: true,
            ..IMapRequest::default()
        };
        let mut results = client.i_map(request).await.unwrap().into_inner();
        assert_eq!(within(results.message()).await.unwrap().unwrap().content_type, JSON, "{spelling}");

        let common = Some(i_map_stream_config::Common::CommonBlob(b"{}"[..].into()));
        let config = IMapStreamConfig {
            function: function(),
            content_type: content_type.clone(),
            star: true,
            common,
            ..IMapStreamConfig::default()
        };
        let items = Some(i_map_stream_request::Items::Blobs(blobs(["[1]"])));
        let first = IMapStreamRequest { config: Some(config), items: None, ..IMapStreamRequest::default() };
        let later = IMapStreamRequest { items, ..IMapStreamRequest::default() };
        let mut results = client.i_map_stream(tokio_stream::iter([first, later])).await.unwrap().into_inner();
        let mut content_types = Vec::new();
        while let Some(message) = within(results.message()).await.unwrap() {
            content_types.extend(message.results.map(|_| message.content_type));
        }
        assert_eq!(content_types, [JSON], "{spelling}");
    }
    let sent = std::mem::take(&mut *server.script.content_types.lock().unwrap());
    assert!(!sent.is_empty() && sent.iter().all(|content_type| content_type == JSON), "{sent:?}");
    for common in std::mem::take(&mut *server.script.commons.lock().unwrap()) {
        assert_eq!(common.content_type, JSON);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn apply_answers_with_the_canonical_form_too() {
    let server = TestServer::start().await;
    let mut client = server.client().await;
    for (content_type, canonical) in [(SPELLINGS[0], JSON), ("Image/PNG", "image/png")] {
        let args = Some(apply_request::Args::Blobs(blobs(["1"])));
        let request = ApplyRequest {
            function: function(),
            content_type: content_type.to_owned(),
            args,
            ..ApplyRequest::default()
        };
        assert_eq!(client.apply(request).await.unwrap().into_inner().content_type, canonical);
    }
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_media_type_and_json_in_another_charset_are_refused_by_name() {
    // Nothing reaches the pool, so no worker need be ready.
    let server = TestServer::start_with(config(), Script::never_ready()).await;
    let mut client = server.client().await;
    for content_type in ["json", "application/", "*/*", "application/json; charset=latin1", "application/json; charset"]
    {
        let content_type = content_type.to_owned();
        let items = Some(star_map_request::Items::Blobs(blobs(["[1]"])));
        let request = StarMapRequest {
            function: function(),
            content_type: content_type.clone(),
            items,
            ..StarMapRequest::default()
        };
        let refused = client.star_map(request).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_ARGUMENT"));
        assert_eq!(fields(&refused), ["content_type"], "{content_type}");

        let config = IMapStreamConfig {
            function: function(),
            content_type: content_type.clone(),
            ..IMapStreamConfig::default()
        };
        let first = IMapStreamRequest { config: Some(config), ..IMapStreamRequest::default() };
        let refused = client.i_map_stream(tokio_stream::iter([first])).await.unwrap_err();
        assert_eq!(fields(&refused), ["config.content_type"], "{content_type}");
    }
    // With values there is no content type, in whatever spelling.
    let items = Some(map_request::Items::Values(numbers(0..1)));
    let request =
        MapRequest { function: function(), content_type: SPELLINGS[1].to_owned(), items, ..MapRequest::default() };
    assert_eq!(fields(&client.map(request).await.unwrap_err()), ["content_type"]);
    drop(client);
    server.stop().await;
}
