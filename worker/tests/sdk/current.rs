//! A function can tell which item it is called with.

use CallStyle::Map;
use procpool_ipc::proto::{CallStyle, ItemKind, Run};
use procpool_items::value;
use procpool_worker::{Worker, current};
use serde_json::{Value, json};

use crate::in_thread::start;

fn told() -> Value {
    let item = current().expect("an item runs");
    json!([item.function, item.index, item.attempt, item.traceparent, item.tracestate])
}

#[test]
fn a_function_and_its_threads_know_their_item() {
    let worker = Worker::new()
        .function("told", |_: Value| told())
        .function("told_in_thread", |_: Value| std::thread::spawn(told).join().expect("it does not panic"));
    let (mut server, thread) = start(worker);
    for function in ["told", "told_in_thread"] {
        let (chunk, _) = server.run_frame(Run {
            function: function.to_owned(),
            kind: ItemKind::Values.into(),
            style: Map.into(),
            items: value::list_to_bytes([1, 2], value::NonFinite::Error).expect("they are values"),
            first_index: 40,
            attempt: 2,
            traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
            tracestate: "vendor=1".to_owned(),
            ..Run::default()
        });
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let expected = [40, 41].map(|index| json!([function, index, 2, trace, "vendor=1"]));
        assert_eq!(server.collect(chunk, 2).results, expected);
    }
    server.shut_down();
    thread.join().expect("the worker does not panic").expect("the worker ends well");
    assert_eq!(current(), None, "nothing runs any more");
}
