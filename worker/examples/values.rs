//! A worker that tells what it got, and returns what is hard to send: `e2e/test_value_table.py` holds it against the
//! table of values, `items/tests/values.json`.

use std::collections::BTreeMap;
use std::process::ExitCode;

use procpool_worker::{Common, Worker};
use serde::{Serialize, Serializer};
use serde_json::Value;

/// Registers a function for each expression, named like it, that returns its value.
macro_rules! makes {
    ($worker:expr; $($expression:expr),+ $(,)?) => {
        $worker$(.function(stringify!($expression), |(): ()| $expression))+
    };
}

fn main() -> ExitCode {
    let worker = Worker::new()
        .function("shown", |item: Value| item.to_string())
        .function("shown_common", |common: Common<Value>, (): ()| common.to_string());
    let worker = makes! { worker;
        (),
        None::<u8>,
        true,
        'x',
        0.1_f32,
        -0.0_f64,
        1.0_f64,
        f64::MAX,
        f64::NAN,
        [f64::INFINITY],
        9_007_199_254_740_991_u64,
        9_007_199_254_740_992_u64,
        i64::MIN,
        u64::MAX,
        u128::MAX,
        Point { x: 1, y: None },
        Shape::Empty,
        Shape::Line(1, 2),
        (1, "x"),
        BTreeMap::from([(1, 2)]),
        BTreeMap::from([(true, 2)]),
        BTreeMap::from([((1, 2), 3)]),
        Bytes,
        nested(48),
        nested(49),
    };
    worker.main()
}

#[derive(Serialize)]
struct Point {
    x: i32,
    y: Option<i32>,
}

#[derive(Serialize)]
enum Shape {
    Empty,
    Line(i32, i32),
}

/// What says of itself that it is bytes.
struct Bytes;

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(b"bytes")
    }
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
}
