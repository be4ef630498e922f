//! The Rust codecs against the table of values. `e2e/test_value_table.py` holds whole workers against all of it.

use procpool_items::{json, value};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde_json::Value;

/// A row of the table whose item is a JSON text.
struct Row {
    name: String,
    text: String,
    /// What is read from a value and from JSON; `None` if it is not to be sent.
    values: Option<String>,
    json: Option<String>,
}

/// Returns the rows about items.
fn items() -> Vec<Value> {
    let mut table: Value = serde_json::from_str(include_str!("values.json")).expect("the table is JSON");
    match table["items"].take() {
        Value::Array(rows) => rows,
        other => panic!("{other} is no list of rows"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn rows() -> Vec<Row> {
    let items = items();
    let rows = items.iter().filter(|row| row.get("text").is_some() || row.get("nest").is_some());
    let rows = rows.map(|row| {
        let text = match row["nest"].as_array().map(Vec::as_slice) {
            Some([open, inner, close, levels]) => {
                let levels = levels.as_u64().and_then(|levels| usize::try_from(levels).ok()).expect("it is a number");
                format!("{}{}{}", text(open).repeat(levels), text(inner), text(close).repeat(levels))
            }
            _ => text(&row["text"]),
        };
        let outcome = |encoding: &str| {
            let outcome = row["but"]["rust"].get(encoding).or_else(|| row.get(encoding));
            outcome.map_or_else(|| Some(text.clone()), |outcome| outcome.as_str().map(str::to_owned))
        };
        let (values, json) = (outcome("values"), outcome("json"));
        Row { name: self::text(&row["name"]), values, json, text }
    });
    rows.collect()
}

/// Compares what was read with an outcome, to the type of each number and the sign of zero.
fn assert_outcome(name: &str, outcome: &str, read: Result<Value, String>) {
    match read {
        Err(error) => assert_eq!(outcome, "INVALID_ITEM", "{name}: {error}"),
        Ok(read) => {
            let wanted: Value = serde_json::from_str(outcome).expect("an outcome is JSON or a reason");
            assert_eq!(read.to_string(), wanted.to_string(), "{name}");
        }
    }
}

#[test]
fn json_is_read_as_the_table_says() {
    for row in rows() {
        let Some(outcome) = &row.json else { continue };
        let read: Result<Value, _> = json::from_slice(row.text.as_bytes());
        assert_outcome(&row.name, outcome, read.map_err(|error| error.to_string()));
    }
}

/// Makes a message of JSON as other libraries do, which round every number to a double.
fn to_prost(json: &Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().expect("every number has a double")),
        Value::String(string) => Kind::StringValue(string.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_prost).collect() }),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| (key.clone(), to_prost(value))).collect();
            Kind::StructValue(Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}

#[test]
fn values_are_read_as_the_table_says() {
    let mut num_read = 0;
    for row in rows() {
        // JSON has no NaN, so it is not from here that it comes.
        let (Some(outcome), Ok(json)) = (&row.values, serde_json::from_str(&row.text)) else { continue };
        let read: Result<Value, _> = value::from_bytes(&to_prost(&json).encode_to_vec());
        assert_outcome(&row.name, outcome, read.map_err(|error| error.to_string()));
        num_read += 1;
    }
    assert!(num_read > 40, "{num_read}");
}

#[test]
fn what_is_no_value_on_the_wire_is_refused_as_the_table_says() {
    for row in items() {
        let Some(wire) = row["wire"].as_str() else { continue };
        let bytes: Vec<u8> =
            (0..wire.len()).step_by(2).map(|start| u8::from_str_radix(&wire[start..start + 2], 16).unwrap()).collect();
        let read: Result<Value, _> = value::from_bytes(&bytes);
        assert_outcome(&text(&row["name"]), &text(&row["values"]), read.map_err(|error| error.to_string()));
    }
}
