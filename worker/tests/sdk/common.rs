//! The argument that all items of a call share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use CallStyle::{Map, Star};
use bytes::Bytes;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::{CallPart, CallStyle, DropCommon, FailureKind, ItemKind, Run, SetCommon};
use procpool_items::{Records, value};
use procpool_test_workers::{ChunkOutcome, FakeServer, blob_list};
use procpool_worker::{Common, Encoding, Function, Worker};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::in_thread::start;

static DECODED: AtomicU32 = AtomicU32::new(0);
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// Counts how often one was decoded, and dropped.
struct Counted(String);

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DECODED.fetch_add(1, Ordering::SeqCst);
        Ok(Self(text))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::SeqCst);
    }
}

fn functions() -> Worker {
    Worker::new()
        .function("price", |prices: Common<BTreeMap<String, f64>>, name: String| prices.get(&name).copied())
        .function("join", |separator: Common<String>, left: String, right: String| {
            format!("{left}{}{right}", *separator)
        })
        .function("pair", |common: Value, item: Value| (common, item))
        .function("alone", |common: Common<Value>| common.to_string())
        .function("nothing", || "nothing")
        .function("echo", |item: Value| item)
        .function("counted", |common: Common<Counted>, item: Value| (common.0.clone(), item))
        .bytes_function("reverse", |blob: Bytes| Ok::<_, String>(blob.iter().rev().copied().collect::<Vec<u8>>()))
        .register(Function::bytes_with_common("splice", |common: Bytes, blob: Bytes| {
            Ok::<_, String>([&common[..], b"|", &blob[..]].concat())
        }))
        .register(Function::dynamic("encoding", |input, buffer| {
            let common = input.common.map_or("none", |common| match common.encoding() {
                Encoding::Values => "value",
                Encoding::Json => "json",
                Encoding::Bytes => "bytes",
            });
            value::append_with(common, value::NonFinite::Error, buffer).expect("a text is a value");
            Ok(())
        }))
}

fn set(server: &mut FakeServer, common: u64, kind: ItemKind, content_type: &str, value: impl Into<Bytes>) {
    let (content_type, value) = (content_type.to_owned(), value.into());
    server.send(ServerFrame::SetCommon(SetCommon { common, kind: kind.into(), content_type, value }));
}

fn set_value(server: &mut FakeServer, common: u64, content: &Value) {
    set(server, common, ItemKind::Values, "", value::to_bytes(content).expect("it is a value"));
}

fn run(server: &mut FakeServer, common: u64, function: &str, style: CallStyle, items: &[Value]) -> u64 {
    let encoded = value::list_to_bytes(items, value::NonFinite::Error).expect("the items are values");
    let (kind, style) = (ItemKind::Values.into(), style.into());
    let run = Run { function: function.to_owned(), kind, style, items: encoded, common, ..Run::default() };
    server.run_frame(run).0
}

fn call(server: &mut FakeServer, common: u64, function: &str, style: CallStyle, items: &[Value]) -> ChunkOutcome {
    let chunk = run(server, common, function, style, items);
    server.collect(chunk, items.len())
}

fn results(server: &mut FakeServer, common: u64, function: &str, style: CallStyle, items: &[Value]) -> Vec<Value> {
    let outcome = call(server, common, function, style, items);
    assert_eq!(outcome.failures, []);
    outcome.results
}

/// Returns what a failed item says, and what of the call is wrong by it.
fn failure(server: &mut FakeServer, common: u64, function: &str, style: CallStyle, item: Value) -> (String, CallPart) {
    let outcome = call(server, common, function, style, &[item]);
    assert_eq!(outcome.failures.len(), 1, "{function}");
    assert_eq!(outcome.failures[0].kind(), FailureKind::InvalidItem);
    (outcome.failures[0].message.clone(), outcome.failures[0].part())
}

#[test]
fn it_goes_before_the_item() {
    let (mut server, _thread) = start(functions());
    assert!(server.hello.takes_common);
    set_value(&mut server, 1, &json!({"tea": 2.5}));
    assert_eq!(results(&mut server, 1, "price", Map, &[json!("tea"), json!("gin")]), [json!(2.5), json!(null)]);
    assert_eq!(results(&mut server, 1, "price", Star, &[json!(["tea"])]), [json!(2.5)]);
    assert_eq!(results(&mut server, 1, "pair", Map, &[json!(7)]), [json!([{"tea": 2.5}, 7])]);
    set_value(&mut server, 2, &json!("-"));
    assert_eq!(results(&mut server, 2, "join", Star, &[json!(["a", "b"])]), [json!("a-b")]);
    assert_eq!(results(&mut server, 2, "alone", Star, &[json!([])]), [json!("\"-\"")]);
    assert_eq!(results(&mut server, 0, "echo", Map, &[json!(1)]), [json!(1)]);
    // Without a common argument it is an argument like any other.
    assert_eq!(results(&mut server, 0, "join", Star, &[json!(["+", "a", "b"])]), [json!("a+b")]);
    assert_eq!(server.call_one("alone", Map, json!(3)), json!("3"));
}

#[test]
fn what_does_not_fit_the_function_is_said() {
    let (mut server, _thread) = start(functions());
    set_value(&mut server, 1, &json!("c"));
    let (of_item, of_common) = (CallPart::Unspecified, CallPart::Common);
    for (function, style, item, problem, expected) in [
        ("echo", Map, json!(1), "the function takes 0 arguments besides common, and the item is one", of_item),
        ("join", Map, json!(1), "besides common, and the item is one: call it with starmap", of_item),
        ("join", Star, json!([1]), "the function takes 2 arguments besides common, and 1 were given", of_item),
        ("nothing", Star, json!([]), "the function takes no common argument", of_common),
        ("price", Map, json!("tea"), "`common` cannot be used: ", of_common),
        ("splice", Map, json!("tea"), "call it with a common_blob", of_common),
    ] {
        let (message, part) = failure(&mut server, 1, function, style, item);
        assert!(message.contains(problem), "{function}: {message}");
        assert_eq!(part, expected, "{function}");
    }
    set(&mut server, 2, ItemKind::Blobs, "", &b"bytes"[..]);
    set(&mut server, 3, ItemKind::Values, "", &b"\xff\xff"[..]);
    let no_value = "`common` cannot be used: the function takes";
    for (common, problem) in [(2, no_value), (3, "`common` cannot be used: "), (3, "`common` cannot be used: ")] {
        let (message, part) = failure(&mut server, common, "price", Map, json!("tea"));
        assert!(message.contains(problem), "{message}");
        assert_eq!(part, of_common);
    }
}

#[test]
fn its_kind_is_its_own() {
    let (mut server, _thread) = start(functions());
    set(&mut server, 1, ItemKind::Blobs, "application/json", &br#"{"tea":1}"#[..]);
    assert_eq!(results(&mut server, 1, "price", Map, &[json!("tea")]), [json!(1)]);
    set(&mut server, 2, ItemKind::Blobs, "", &b"<"[..]);
    let splice = Run {
        function: "splice".to_owned(),
        kind: ItemKind::Blobs.into(),
        style: Map.into(),
        items: blob_list(&[b"a", b""]),
        common: 2,
        ..Run::default()
    };
    server.run_frame(splice);
    let mut joined = Vec::new();
    while joined.len() < 2 {
        let frame = server.expect_results();
        joined.extend(Records::new(&frame.items).map(|record| record.expect("a blob").to_vec()));
    }
    assert_eq!(joined, [b"<|a".to_vec(), b"<|".to_vec()]);
    set_value(&mut server, 3, &json!(1));
    for (common, expected) in [(0, "none"), (1, "json"), (2, "bytes"), (3, "value")] {
        assert_eq!(results(&mut server, common, "encoding", Map, &[json!(0)]), [json!(expected)]);
    }
}

#[test]
fn it_is_decoded_once_and_lives_until_what_came_before_the_drop_has_run() {
    let (mut server, thread) = start(functions());
    set_value(&mut server, 1, &json!("one"));
    set_value(&mut server, 1 << 40, &json!("two"));
    for round in 0..3 {
        for (name, text) in [(1, "one"), (1 << 40, "two")] {
            let items: Vec<Value> = (0..100).map(Value::from).collect();
            let expected: Vec<Value> = items.iter().map(|item| json!([text, item])).collect();
            assert_eq!(results(&mut server, name, "counted", Map, &items), expected, "round {round}");
        }
    }
    assert_eq!(DECODED.load(Ordering::SeqCst), 2);
    // Three chunks wait when it is dropped.
    let chunks = [(); 3].map(|()| run(&mut server, 1, "counted", Map, &[json!(0)]));
    server.send(ServerFrame::DropCommon(DropCommon { common: 1 }));
    for chunk in chunks {
        assert_eq!(server.collect(chunk, 1).results, [json!(["one", 0])]);
    }
    // What the worker drops, it drops before it runs what comes later.
    assert_eq!(server.call_one("echo", Map, json!(1)), json!(1));
    assert_eq!((DECODED.load(Ordering::SeqCst), DROPPED.load(Ordering::SeqCst)), (2, 1));
    // One that it does not have is none of its business.
    server.send(ServerFrame::DropCommon(DropCommon { common: 99 }));
    server.shut_down();
    thread.join().unwrap().unwrap();
    assert_eq!(DROPPED.load(Ordering::SeqCst), 2);
}

#[test]
fn a_name_that_is_not_there_breaks_the_protocol() {
    let (mut server, thread) = start(functions());
    set_value(&mut server, 1, &json!(1));
    server.send(ServerFrame::DropCommon(DropCommon { common: 1 }));
    run(&mut server, 1, "pair", Map, &[json!(0)]);
    let error = thread.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("names the unknown common argument 1"), "{error}");
}
