//! Calls with encoded items. Against a scripted server.

use bytes::Bytes;
use procpool_client::{CallError, EncodedList};
use procpool_items::{ItemKind, SlabBuilder};
use procpool_proto::v1 as proto;

use crate::support::{Fixture, count_items};

fn list(count: usize) -> EncodedList {
    let mut builder = SlabBuilder::new();
    (0..count).for_each(|_| builder.push(b"item"));
    EncodedList { kind: ItemKind::Blobs, bytes: builder.take(), count }
}

#[tokio::test]
async fn the_results_of_a_map_are_as_they_came() {
    for (count, is_right) in [(2, true), (3, false)] {
        let mut server = Fixture::start().await;
        let call = server.client.map_encoded("f", list(2)).common_bytes(Bytes::from_static(b"common"));
        let (answer, ()) = tokio::join!(call.collect_errors().encoded(), async {
            let (request, answer) = server.next_map().await;
            assert_eq!(request.items, Some(proto::map_request::Items::Blobs(list(2).bytes)));
            assert!(request.common.is_some());
            assert_eq!(request.options.unwrap().on_error(), proto::OnError::Collect);
            let results = Some(proto::map_response::Results::Blobs(list(count).bytes));
            let errors = vec![proto::ItemError { index: 1, status: None }];
            answer.send(Ok(proto::MapResponse { results, errors, ..Default::default() })).unwrap();
        });
        if is_right {
            let batch = answer.unwrap();
            assert_eq!((batch.results.count, batch.results.bytes), (2, list(2).bytes));
            assert_eq!(batch.errors[0].index, 1);
        } else {
            assert!(matches!(answer, Err(CallError::Protocol { .. })), "{answer:?}");
        }
    }
}

#[tokio::test]
async fn a_list_waits_until_the_server_allows_all_of_it() {
    let mut server = Fixture::start().await;
    let lists = procpool_client::iter([list(3), list(2)]);
    let mut results = server.client.imap_stream_encoded("f", ItemKind::Blobs, lists).await.unwrap();
    let taken = results.taken().unwrap();
    let mut call = server.next_imap_stream().await;
    assert!(call.next().await.config.unwrap().reports_taken);
    call.allow(4).await;
    assert_eq!(results.next_batch().await.unwrap().unwrap().items_allowed, 4);
    assert_eq!(count_items(&call.next().await), 3);
    call.answer(3).await;
    assert_eq!(results.next_batch().await.unwrap().unwrap().results.count, 3);
    // Nothing is taken by itself, and the second list is not allowed.
    taken.report(2);
    let message = call.next().await;
    assert_eq!((message.results_taken, count_items(&message)), (2, 0));
    call.allow(5).await;
    while results.next_batch().await.unwrap().unwrap().items_allowed < 5 {}
    assert_eq!(count_items(&call.next().await), 2);
    assert!(call.requests.message().await.unwrap().is_none());
}
