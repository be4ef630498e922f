//! IMapStream on the wire: credit, what is reported, and how it ends. Against a scripted server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use procpool_client::{CallError, iter};
use procpool_proto::v1 as proto;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Arrived, Fixture, count_items};

#[tokio::test]
async fn no_more_items_are_taken_than_the_server_allows() {
    let mut server = Fixture::start().await;
    let num_pulled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&num_pulled);
    let endless = iter(std::iter::repeat_with(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        "item"
    }));
    let mut results = server.client.imap_stream_bytes("f", endless).await.unwrap();
    let mut call = server.next_imap_stream().await;
    assert!(call.next().await.config.is_some());
    assert_eq!(num_pulled.load(Ordering::SeqCst), 0);
    for (allowed, more) in [(4, 4), (9, 5)] {
        call.allow(allowed).await;
        // The client learns of the credit when the application reads.
        tokio::select! {
            item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
            () = call.receive_items(more) => {}
        }
        assert_eq!(num_pulled.load(Ordering::SeqCst), usize::try_from(allowed).unwrap());
    }
}

#[tokio::test]
async fn results_count_as_taken_when_the_application_takes_them() {
    let mut server = Fixture::start().await;
    let mut results = server.client.imap_stream_bytes("f", iter(["item"; 20])).await.unwrap();
    let mut call = server.next_imap_stream().await;
    call.next().await;
    call.allow(8).await;
    tokio::select! {
        item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
        () = call.receive_items(8) => {}
    }
    call.answer(8).await;
    for index in 0..8 {
        assert_eq!(results.try_next().await.unwrap().unwrap().index, index);
    }
    // The eighth counts as taken when the application asks for the ninth.
    let mut taken = 0;
    while taken < 8 {
        let message = tokio::select! {
            item = results.try_next() => panic!("nothing more was answered, but {item:?} came"),
            message = call.next() => message,
        };
        assert_eq!(count_items(&message), 0);
        assert!(message.results_taken > taken, "{message:?}");
        taken = message.results_taken;
    }
    assert_eq!(taken, 8);
}

#[tokio::test]
async fn the_end_of_the_items_ends_the_input_and_the_last_result_the_stream() {
    let mut server = Fixture::start().await;
    let mut results = server.client.imap_stream_bytes("f", iter(["item"; 3])).star().await.unwrap();
    let mut call = server.next_imap_stream().await;
    let config: proto::IMapStreamConfig = call.next().await.config.unwrap();
    assert_eq!((config.function.as_str(), config.star), ("f", true));
    call.allow(100).await;
    tokio::select! {
        item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
        () = async {
            call.receive_items(3).await;
            assert!(call.requests.message().await.unwrap().is_none());
        } => {}
    }
    call.answer(3).await;
    drop(call);
    for index in 0..3 {
        assert_eq!(results.try_next().await.unwrap().unwrap().index, index);
    }
    assert!(results.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_call_starts_although_its_first_item_comes_later() {
    let mut server = Fixture::start().await;
    let (items, receiver) = mpsc::channel::<&str>(1);
    let mut results = server.client.imap_stream_bytes("f", ReceiverStream::new(receiver)).await.unwrap();
    let mut call = server.next_imap_stream().await;
    call.next().await;
    call.allow(10).await;
    items.send("late").await.unwrap();
    tokio::select! {
        item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
        () = call.receive_items(1) => {}
    }
}

#[tokio::test]
async fn dropping_the_results_cancels_although_more_items_may_come() {
    let mut server = Fixture::start().await;
    let (_items, receiver) = mpsc::channel::<&str>(1);
    let results = server.client.imap_stream_bytes("f", ReceiverStream::new(receiver)).await.unwrap();
    let mut call = server.next_imap_stream().await;
    call.next().await;
    drop(results);
    call.responses.closed().await;
}

#[tokio::test]
async fn dropping_the_results_before_the_headers_cancels_too() {
    let mut server = Fixture::start().await;
    let (_items, receiver) = mpsc::channel::<&str>(1);
    let results = server.client.imap_stream_bytes("f", ReceiverStream::new(receiver)).await.unwrap();
    let Some(Arrived::IMapStream(_requests, mut answer)) = server.arrived.recv().await else {
        panic!("no IMapStream arrived")
    };
    drop(results);
    answer.closed().await;
}

#[tokio::test]
async fn an_item_that_cannot_be_encoded_fails_the_call_and_is_named() {
    let mut server = Fixture::start().await;
    let items = vec![vec![1_u8], vec![0; 65 << 20], vec![2]];
    let mut results = server.client.imap_stream_bytes("f", iter(items)).await.unwrap();
    let mut call = server.next_imap_stream().await;
    call.next().await;
    call.allow(10).await;
    let failed = results.try_next().await;
    let Err(CallError::MessageTooLarge { message }) = failed else { panic!("{failed:?}") };
    assert!(message.starts_with("item 1 has 6815"), "{message}");
    assert!(matches!(results.try_next().await, Ok(None)));
    call.responses.closed().await;
}

#[tokio::test]
async fn an_error_of_the_server_ends_the_stream() {
    let mut server = Fixture::start().await;
    let (_items, receiver) = mpsc::channel::<&str>(1);
    let mut results = server.client.imap_stream_bytes("f", ReceiverStream::new(receiver)).await.unwrap();
    let call = server.next_imap_stream().await;
    call.responses.send(Err(tonic::Status::not_found("words"))).await.unwrap();
    let failed = results.try_next().await;
    assert!(matches!(failed, Err(CallError::Other { code: "NOT_FOUND", .. })), "{failed:?}");
    assert!(matches!(results.try_next().await, Ok(None)));
}

#[tokio::test]
async fn a_window_is_kept_for_a_list_too_whose_items_go_as_they_are_allowed() {
    let mut server = Fixture::start().await;
    let call = server.client.imap_bytes("f", ["a", "b", "c"]).unordered().window(2).star();
    let mut results = call.await.unwrap();
    let mut call = server.next_imap_stream().await;
    let config = call.next().await.config.unwrap();
    assert!(config.reports_taken && config.star);
    assert_eq!((config.function.as_str(), config.window, config.order()), ("f", 2, proto::ResultOrder::Unordered));
    call.allow(2).await;
    tokio::select! {
        item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
        () = call.receive_items(2) => {}
    }
    call.allow(4).await;
    tokio::select! {
        item = results.try_next() => panic!("nothing was answered, but {item:?} came"),
        () = async {
            call.receive_items(1).await;
            assert!(call.requests.message().await.unwrap().is_none());
        } => {}
    }
}
