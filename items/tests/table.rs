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

fn rows() -> Vec<Row> {
    let table: Value = serde_json::from_str(include_str!("values.json")).unwrap();
    let rows = table["items"].as_array().unwrap().iter().filter_map(|row| {
        let text = match row["nest"].as_array() {
            Some(nest) => {
                let [open, inner, close] = [0, 1, 2].map(|part| nest[part].as_str().unwrap());
                let levels = usize::try_from(nest[3].as_u64().unwrap()).unwrap();
                format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
            }
            None => row["text"].as_str()?.to_owned(),
        };
        let outcome = |encoding: &str| {
            let outcome = row["but"]["rust"].get(encoding).or_else(|| row.get(encoding));
            outcome.map_or_else(|| Some(text.clone()), |outcome| outcome.as_str().map(str::to_owned))
        };
        let (values, json) = (outcome("values"), outcome("json"));
        Some(Row { name: row["name"].as_str().unwrap().to_owned(), values, json, text })
    });
    rows.collect()
}

/// Compares what was read with an outcome, to the type of each number and the sign of zero.
fn assert_outcome(row: &Row, outcome: &str, read: Result<Value, String>) {
    match read {
        Err(error) => assert_eq!(outcome, "INVALID_ITEM", "{}: {error}", row.name),
        Ok(read) => {
            let wanted: Value = serde_json::from_str(outcome).unwrap();
            assert_eq!(read.to_string(), wanted.to_string(), "{}", row.name);
        }
    }
}

#[test]
fn json_is_read_as_the_table_says() {
    for row in rows() {
        let Some(outcome) = &row.json else { continue };
        let read: Result<Value, _> = json::from_slice(row.text.as_bytes());
        assert_outcome(&row, outcome, read.map_err(|error| error.to_string()));
    }
}

/// Makes a message of JSON as other libraries do, which round every number to a double.
fn to_prost(json: &Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
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
        assert_outcome(&row, outcome, read.map_err(|error| error.to_string()));
        num_read += 1;
    }
    assert!(num_read > 40, "{num_read}");
}

#[test]
fn what_is_no_value_on_the_wire_is_refused_as_the_table_says() {
    let table: Value = serde_json::from_str(include_str!("values.json")).unwrap();
    for row in table["items"].as_array().unwrap() {
        let Some(wire) = row["wire"].as_str() else { continue };
        let bytes: Vec<u8> =
            (0..wire.len()).step_by(2).map(|start| u8::from_str_radix(&wire[start..start + 2], 16).unwrap()).collect();
        let outcome = row["values"].as_str().unwrap().to_owned();
        let name = row["name"].as_str().unwrap().to_owned();
        let read: Result<Value, _> = value::from_bytes(&bytes);
        let row = Row { name, text: String::new(), values: None, json: None };
        assert_outcome(&row, &outcome, read.map_err(|error| error.to_string()));
    }
}
