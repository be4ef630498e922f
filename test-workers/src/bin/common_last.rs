//! Passes the common argument after the item instead of before it.

use std::process::ExitCode;

use procpool_items::value;
use procpool_test_workers::start_watchdog;
use procpool_worker::{Failure, Function, Input, Style, Worker};
use serde_json::{Value, json};

fn main() -> ExitCode {
    start_watchdog();
    Worker::new().function("echo", |item: Value| item).register(Function::dynamic("pair", pair)).main()
}

fn pair(input: Input<'_>, buffer: &mut Vec<u8>) -> Result<(), Failure> {
    let item: Value = value::from_bytes(input.content).map_err(|error| Failure::invalid_item(error.to_string()))?;
    let mut arguments = match (input.style, item) {
        (Style::Star, Value::Array(list)) => list,
        (_, item) => vec![item],
    };
    if let Some(common) = input.common {
        arguments.push((*common.decode::<Value>()?).clone());
    }
    value::append_with(&json!(arguments), value::NonFinite::Error, buffer)
        .map_err(|error| Failure::not_encodable(error.to_string()))
}
