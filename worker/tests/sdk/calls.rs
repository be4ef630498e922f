//! What functions are called with, and what comes back.

use std::error::Error;
use std::fmt;

use CallStyle::{Apply, Map, Star};
use bytes::Bytes;
use procpool_ipc::proto::{ApplyArguments, CallPart, CallStyle, FailureKind, ItemKind, Run};
use procpool_items::value;
use procpool_test_workers::{ChunkOutcome, FakeServer, blob_list};
use procpool_worker::{Function, Worker};
use prost::Message;
use serde_json::{Value, json};

use crate::in_thread::start;

#[derive(Debug)]
struct NoSuchMatch(std::num::ParseIntError);

impl fmt::Display for NoSuchMatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("no such match")
    }
}

impl Error for NoSuchMatch {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn functions() -> Worker {
    let mut total = 0;
    Worker::new()
        .function("identity", |item: Value| item)
        .function("nothing", || "nothing")
        .function("double", |number: i64| number * 2)
        .function("power", |base: f64, exponent: f64| base.powf(exponent))
        .function("join", |left: String, middle: Option<String>, right: Vec<u8>| format!("{left}{middle:?}{right:?}"))
        .function("add_to_total", move |number: i64| {
            total += number;
            total
        })
        .function("not_a_number", |(): ()| f64::NAN)
        .register(Function::new("nan_or_null", |(): ()| [f64::NAN, 1.0, f64::INFINITY]).nan_as_null())
        .function("large", |(): ()| u64::MAX)
        .function("panic", |message: String| -> () { panic!("{message}") })
        .function("panic_oddly", |(): ()| -> () { std::panic::panic_any(17) })
        .try_function("fail", |message: String| -> Result<(), String> { Err(message) })
        .try_function("find", |id: String| id.parse::<u64>().map_err(NoSuchMatch))
        .try_function("answer", || -> Result<u64, Box<dyn Error + Send + Sync>> { Ok(42) })
        .bytes_function("reverse", |blob: Bytes| -> Result<Vec<u8>, String> {
            if blob.is_empty() { Err("an empty blob".to_owned()) } else { Ok(blob.iter().rev().copied().collect()) }
        })
        .bytes_function("echo", Ok::<Bytes, String>)
}

fn with_server(test: impl FnOnce(&mut FakeServer)) {
    let (mut server, thread) = start(functions());
    test(&mut server);
    server.shut_down();
    thread.join().expect("the worker does not panic").expect("the worker ends well");
}

fn apply(server: &mut FakeServer, function: &str, args: &[Value], kwargs: &Value) -> ChunkOutcome {
    let arguments = ApplyArguments {
        args: value::list_to_bytes(args, value::NonFinite::Error).expect("they are values"),
        kwargs: value::struct_to_bytes(kwargs, value::NonFinite::Error).expect("it is a map").into(),
    };
    let (chunk, _) = server.run_frame(Run {
        function: function.to_owned(),
        kind: ItemKind::Values.into(),
        style: Apply.into(),
        items: blob_list(&[&arguments.encode_to_vec()]),
        ..Run::default()
    });
    server.collect(chunk, 1)
}

fn assert_invalid(failure: &procpool_ipc::proto::ItemFailure, message: &str) {
    assert_eq!((failure.kind(), failure.message.as_str()), (FailureKind::InvalidItem, message));
}

#[test]
fn a_function_of_one_argument_is_called_in_every_style() {
    with_server(|server| {
        assert_eq!(server.call_one("double", Map, json!(21)), json!(42));
        assert_eq!(server.call_one("double", Star, json!([21])), json!(42));
        assert_eq!(apply(server, "double", &[json!(21)], &json!({})).results, [json!(42)]);
    });
}

#[test]
fn a_function_of_several_arguments_is_called_with_lists() {
    with_server(|server| {
        assert_eq!(server.call("power", Star, &[json!([2, 10]), json!([3, 3])]).results, [json!(1024), json!(27)]);
        assert_eq!(apply(server, "power", &[json!(2), json!(0.5)], &json!({})).results, [json!(2_f64.sqrt())]);
        assert_eq!(server.call_one("join", Star, json!(["a", null, [1, 2]])), json!("aNone[1, 2]"));
        assert_invalid(
            &server.fail_one("power", Map, json!([2, 10])),
            "the function takes 2 arguments: call it with starmap or apply",
        );
        assert_invalid(&server.fail_one("power", Star, json!([2])), "the function takes 2 arguments, and 1 were given");
        assert_invalid(
            &server.fail_one("power", Star, json!([2, 3, 4])),
            "the function takes 2 arguments, and 3 were given",
        );
        assert_invalid(
            &server.fail_one("power", Star, json!(2)),
            "it is not a list; starmap takes a list of arguments for each call",
        );
        assert_invalid(&server.fail_one("power", Star, json!([2, "x"])), "invalid type: string \"x\", expected f64");
    });
}

#[test]
fn a_function_without_arguments_is_called_with_an_empty_list() {
    with_server(|server| {
        assert_eq!(server.call_one("nothing", Star, json!([])), json!("nothing"));
        assert_eq!(apply(server, "answer", &[], &json!({})).results, [json!(42)]);
        assert_invalid(
            &server.fail_one("nothing", Map, json!(null)),
            "the function takes 0 arguments: call it with starmap or apply",
        );
        assert_invalid(
            &server.fail_one("nothing", Star, json!([1])),
            "the function takes 0 arguments, and 1 were given",
        );
    });
}

#[test]
fn keyword_arguments_are_refused() {
    with_server(|server| {
        let outcome = apply(server, "double", &[json!(1)], &json!({"times": 3}));
        assert_invalid(
            &outcome.failures[0],
            "functions of this worker take no keyword arguments: give them by position",
        );
        assert_eq!(outcome.failures[0].part(), CallPart::Kwargs);
    });
}

#[test]
fn awkward_values_keep_their_meaning() {
    with_server(|server| {
        let items =
            [json!(null), json!(true), json!(-1), json!(1.5), json!(""), json!([]), json!({}), json!([[{"a": null}]])];
        assert_eq!(server.call("identity", Map, &items).results, items);
        assert_invalid(&server.fail_one("double", Map, json!(1.5)), "1.5 is not an integer");
        let failure = server.fail_one("double", Map, json!(1e300));
        assert!(failure.message.contains("beyond ±(2^53 - 1)"), "{}", failure.message);

        let failure = server.fail_one("not_a_number", Map, json!(null));
        assert_eq!(failure.kind(), FailureKind::NotEncodable);
        assert!(failure.message.contains("NaN"), "{}", failure.message);
        let failure = server.fail_one("large", Map, json!(null));
        assert_eq!(failure.kind(), FailureKind::NotEncodable);
        assert!(failure.message.contains("18446744073709551615"), "{}", failure.message);
        // Only where it was asked for.
        assert_eq!(server.call_one("nan_or_null", Map, json!(null)), json!([null, 1, null]));
        server.run_blobs("nan_or_null", Map, "application/json", &[b"null"]);
        assert_eq!(server.expect_results().items, blob_list(&[b"[null,1.0,null]"]));
    });
}

#[test]
fn a_function_keeps_its_state_between_items() {
    with_server(|server| {
        assert_eq!(server.call("add_to_total", Map, &[json!(1), json!(2)]).results, [json!(1), json!(3)]);
        assert_eq!(server.call_one("add_to_total", Map, json!(4)), json!(7));
    });
}

#[test]
fn an_error_carries_its_type_its_message_and_its_causes() {
    with_server(|server| {
        let failure = server.fail_one("find", Map, json!("x"));
        assert_eq!(failure.kind(), FailureKind::Raised);
        assert_eq!(failure.r#type, "sdk::calls::NoSuchMatch");
        assert_eq!(failure.message, "no such match");
        assert_eq!(failure.traceback, "caused by: invalid digit found in string\n");

        let failure = server.fail_one("fail", Map, json!("just so"));
        assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("", "just so"));
    });
}

#[test]
fn a_panic_fails_the_item_and_not_the_worker() {
    with_server(|server| {
        let outcome = server.call("panic", Map, &[json!("one"), json!(2), json!("three")]);
        let messages: Vec<_> = outcome.failures.iter().map(|failure| (failure.offset, failure.kind())).collect();
        assert_eq!(messages, [(0, FailureKind::Raised), (1, FailureKind::InvalidItem), (2, FailureKind::Raised)]);
        let failure = &outcome.failures[2];
        assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("panic", "three"));
        assert!(failure.traceback.starts_with("at worker/tests/sdk/calls.rs:"), "{}", failure.traceback);

        let failure = server.fail_one("panic_oddly", Map, json!(null));
        assert_eq!((failure.r#type.as_str(), failure.message.as_str()), ("panic", "a panic without a message"));
        assert_eq!(server.call_one("double", Map, json!(1)), json!(2));
    });
}

#[test]
fn a_long_message_is_cut() {
    with_server(|server| {
        let failure = server.fail_one("fail", Map, json!("é".repeat(100_000)));
        assert!(failure.message.len() <= 64 << 10 && failure.message.len() > 65_000);
        assert!(failure.message.ends_with("é … (cut)"));
    });
}

#[test]
fn an_unknown_function_fails_its_items() {
    with_server(|server| {
        let failure = server.fail_one("mystery", Map, json!(1));
        assert_eq!(failure.kind(), FailureKind::UnknownFunction);
        assert_eq!(failure.message, "this worker has no function \"mystery\"");
    });
}

#[test]
fn blobs_go_to_functions_of_bytes() {
    with_server(|server| {
        for content_type in ["", "application/octet-stream", "image/png"] {
            let chunk = server.run_blobs("reverse", Map, content_type, &[b"abc", b"", b"de"]);
            let mut items = Vec::new();
            let mut failures = Vec::new();
            while items.len() < 3 {
                let results = server.expect_results();
                assert_eq!(results.chunk, chunk);
                items.extend(procpool_items::Records::new(&results.items).map(|item| item.unwrap().to_vec()));
                failures.extend(results.failures);
            }
            assert_eq!(items, [&b"cba"[..], b"", b"ed"]);
            assert_eq!(failures.len(), 1);
            assert_eq!((failures[0].offset, failures[0].message.as_str()), (1, "an empty blob"));
        }
        let failure = server.fail_one("reverse", Map, json!(1));
        assert_invalid(&failure, "the function takes bytes: send blobs with content_type application/octet-stream");

        server.run_blobs("double", Map, "", &[b"21"]);
        assert_invalid(
            &server.expect_results().failures[0],
            "the function takes values: send values, or blobs with content_type application/json",
        );
        server.run_blobs("reverse", Star, "", &[b"21"]);
        assert_invalid(
            &server.expect_results().failures[0],
            "the function takes bytes: call it with map, imap or apply",
        );
    });
}

#[test]
fn json_in_blobs_goes_to_functions_of_values() {
    with_server(|server| {
        let json_type = "application/json";
        server.run_blobs("identity", Map, json_type, &[b"9007199254740993", b"{\"a\": [1.5]}"]);
        // JSON has integers of its own: no double is between here.
        assert_eq!(server.expect_results().items, blob_list(&[b"9007199254740993", b"{\"a\":[1.5]}"]));
        server.run_blobs("power", Star, json_type, &[b"[2, 10]"]);
        assert_eq!(server.expect_results().items, blob_list(&[b"1024.0"]));

        // One of more than 64 bits is not taken for a double.
        for (function, style, text) in [
            ("identity", Map, &b"36893488147419103233"[..]),
            ("identity", Map, b"[{\"a\": 36893488147419103233}]"),
            ("identity", Star, b"[36893488147419103233]"),
        ] {
            server.run_blobs(function, style, json_type, &[text]);
            let failure = &server.expect_results().failures[0];
            assert_eq!(failure.kind(), FailureKind::InvalidItem);
            assert!(failure.message.contains("would be rounded"), "{}", failure.message);
        }

        server.run_blobs("power", Star, json_type, &[b"[2]"]);
        let failure = &server.expect_results().failures[0];
        assert_eq!(failure.kind(), FailureKind::InvalidItem);
        server.run_blobs("double", Map, json_type, &[b"1 2"]);
        let failure = &server.expect_results().failures[0];
        assert_eq!(failure.kind(), FailureKind::InvalidItem);
        assert!(failure.message.contains("trailing characters"), "{}", failure.message);
    });
}

#[test]
fn a_result_that_json_cannot_carry_is_not_encodable() {
    with_server(|server| {
        server.run_blobs("not_a_number", Map, "application/json", &[b"null"]);
        let failure = &server.expect_results().failures[0];
        assert_eq!(failure.kind(), FailureKind::NotEncodable);
        assert!(failure.message.contains("NaN"), "{}", failure.message);
    });
}

#[test]
fn blobs_are_arguments_of_apply() {
    with_server(|server| {
        let mut call = |function: &str, content_type: &str, args: &[&[u8]]| {
            let arguments = ApplyArguments { args: blob_list(args), ..ApplyArguments::default() };
            server.run_frame(Run {
                function: function.to_owned(),
                kind: ItemKind::Blobs.into(),
                content_type: content_type.to_owned(),
                style: Apply.into(),
                items: blob_list(&[&arguments.encode_to_vec()]),
                ..Run::default()
            });
            server.expect_results()
        };
        assert_eq!(call("echo", "", &[b"\xff\x00"]).items, blob_list(&[b"\xff\x00"]));
        assert_invalid(&call("echo", "", &[]).failures[0], "the function takes bytes: give it exactly one blob");
        assert_eq!(call("power", "application/json", &[b"2", b"3"]).items, blob_list(&[b"8.0"]));
        let rounded = call("identity", "application/json", &[b"36893488147419103233"]);
        assert!(rounded.failures[0].message.contains("would be rounded"), "{rounded:?}");
        assert_invalid(
            &call("power", "application/json", &[b"2"]).failures[0],
            "the function takes 2 arguments, and 1 were given",
        );
        // Two texts in one blob are not two arguments.
        let results = call("power", "application/json", &[b"2,3"]);
        assert_invalid(&results.failures[0], "the function takes 2 arguments, and 1 were given");
    });
}

#[test]
fn hello_describes_the_functions() {
    let worker = functions().register(
        Function::new("greet", |name: String| name)
            .doc("Greets.")
            .signature("(name)")
            .example(r#"{"function":"greet","values":["Ada"]}"#)
            .idempotent(),
    );
    let (server, _thread) = start(worker);
    assert_eq!(server.hello.protocol_version, 1);
    assert_eq!(server.hello.pid, std::process::id());
    assert!(server.hello.sdk.starts_with("procpool-worker 0."));
    assert!(server.hello.uses_progress_page);
    let names: Vec<_> = server.hello.functions.iter().map(|function| function.name.as_str()).collect();
    assert!(names.is_sorted() && names.contains(&"power"));
    let greet = server.hello.functions.iter().find(|function| function.name == "greet").unwrap();
    assert_eq!((greet.doc.as_str(), greet.signature.as_str(), greet.idempotent), ("Greets.", "(name)", true));
}

#[test]
#[should_panic(expected = "register it with try_function")]
fn a_result_is_no_plain_result() {
    let _ = Worker::new().function("wrong", |text: String| -> Result<String, String> { Ok(text) });
}

#[test]
#[should_panic(expected = "there are two functions \"same\"")]
fn two_functions_of_one_name_are_refused() {
    let _ = Worker::new().function("same", || 1).function("same", || 2);
}

#[test]
#[should_panic(expected = "is no name for a function")]
fn a_name_with_control_characters_is_refused() {
    let _ = Worker::new().function("a\nb", || 1);
}
