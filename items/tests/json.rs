//! JSON that loses nothing.

use std::collections::BTreeMap;

use procpool_items::json::{append_with, from_slice, sequence_from_slices, too_large_integer};
use procpool_items::value::NonFinite;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// 2^70 + 1.
const LARGE: &str = "1180591620717411303425";

#[test]
fn integers_beyond_64_bits_are_found_wherever_they_stand() {
    for text in [LARGE.to_owned(), format!("-{LARGE}"), format!("[1,{{\"a\":{LARGE}}}]"), format!("[\"\\\"\",{LARGE}]")]
    {
        assert!(too_large_integer(text.as_bytes()).is_some(), "{text}");
    }
    let strings = [format!("\"{LARGE}\""), format!("{{\"\\\\{LARGE}\":[]}}"), format!("\"é\\u00e9\\\"{LARGE}\"")];
    let fitting = ["18446744073709551615", "-9223372036854775808", "1e30", "-0", "1180591620717411303424.0"];
    for text in fitting.map(str::to_owned).into_iter().chain(strings) {
        assert_eq!(too_large_integer(text.as_bytes()), None, "{text}");
    }
}

#[derive(Debug, Deserialize, PartialEq)]
struct Row {
    name: String,
    #[serde(default)]
    large: Option<u128>,
    shape: Shape,
}

#[derive(Debug, Deserialize, PartialEq)]
enum Shape {
    Point,
    Line(u128, f64),
    Box { side: i128 },
    Any(Value),
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Text(String),
}

#[test]
fn what_asks_for_such_an_integer_gets_it_exactly() {
    assert_eq!(from_slice::<u128>(LARGE.as_bytes()).unwrap(), (1 << 70) + 1);
    assert_eq!(from_slice::<Vec<i128>>(format!("[-{LARGE}, 2]").as_bytes()).unwrap(), [-(1 << 70) - 1, 2]);
    let row = format!(r#" {{"name":"a","large":{LARGE},"shape":{{"Line":[{LARGE},1.5]}}}} "#);
    let expected = Row { name: "a".to_owned(), large: Some((1 << 70) + 1), shape: Shape::Line((1 << 70) + 1, 1.5) };
    assert_eq!(from_slice::<Row>(row.as_bytes()).unwrap(), expected);
    let row = format!(r#"{{"name":"a","ignored":{LARGE},"shape":{{"Box":{{"side":-{LARGE}}}}}}}"#);
    let expected = Row { name: "a".to_owned(), large: None, shape: Shape::Box { side: -(1 << 70) - 1 } };
    assert_eq!(from_slice::<Row>(row.as_bytes()).unwrap(), expected);
    let row = format!(r#"{{"name":"{LARGE}","large":{LARGE},"shape":"Point"}}"#);
    assert_eq!(from_slice::<Row>(row.as_bytes()).unwrap().shape, Shape::Point);
    let raw: BTreeMap<String, Box<RawValue>> = from_slice(format!(r#"{{"a":{LARGE}}}"#).as_bytes()).unwrap();
    assert_eq!(raw["a"].get(), LARGE);
    // Who asks for a float is given one.
    #[expect(clippy::float_cmp, reason = "2^70 is a double")]
    let is_nearest = from_slice::<f64>(LARGE.as_bytes()).unwrap() == 2_f64.powi(70);
    assert!(is_nearest);
}

#[test]
fn what_takes_anything_gets_an_error_and_not_a_double() {
    let texts = [LARGE.to_owned(), format!("-{LARGE}"), format!("[[{LARGE}]]"), format!(r#"{{"a":{{"b":{LARGE}}}}}"#)];
    for text in texts {
        let error = from_slice::<Value>(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("would be rounded"), "{text}: {error}");
    }
    assert!(from_slice::<Untagged>(LARGE.as_bytes()).is_err());
    assert!(from_slice::<Option<Value>>(LARGE.as_bytes()).is_err());
    let row = format!(r#"{{"name":"a","shape":{{"Any":[{LARGE}]}}}}"#);
    assert!(from_slice::<Row>(row.as_bytes()).is_err());
    // All that is no such integer stays what it was, beside one too.
    let text = format!(r#"[18446744073709551615, -9223372036854775808, 1.5, "{LARGE}", null, true, {{}}]"#);
    let expected = json!([u64::MAX, i64::MIN, 1.5, LARGE, null, true, {}]);
    assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), expected);
    let (value, large): (Value, u128) = from_slice(format!("[{text},{LARGE}]").as_bytes()).unwrap();
    assert_eq!((value, large), (expected, (1 << 70) + 1));
    assert_eq!(from_slice::<Value>(b"1e30").unwrap(), json!(1e30));
}

#[test]
fn several_texts_are_a_sequence() {
    let (base, exponent): (u128, Value) = sequence_from_slices(&[LARGE.as_bytes(), b" [2] "]).unwrap();
    assert_eq!((base, exponent), ((1 << 70) + 1, json!([2])));
    assert!(sequence_from_slices::<(Value,)>(&[LARGE.as_bytes()]).is_err());
    // A float of that size is no integer.
    assert_eq!(sequence_from_slices::<(Value,)>(&[b"1e300"]).unwrap(), (json!(1e300),));
    assert!(sequence_from_slices::<(u8, u8)>(&[b"1"]).is_err());
    assert!(sequence_from_slices::<(u8,)>(&[b"1 2"]).is_err());
}

fn encode(value: &impl Serialize, non_finite: NonFinite) -> Result<String, String> {
    let mut bytes = Vec::new();
    append_with(value, non_finite, &mut bytes).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(bytes).expect("JSON is UTF-8"))
}

#[test]
fn what_json_has_no_number_for_is_null_only_if_asked_for() {
    for number in [f64::NAN, f64::INFINITY] {
        assert!(encode(&vec![(1, number)], NonFinite::Error).unwrap_err().contains("cannot be in a value"));
        assert_eq!(encode(&vec![(1, number)], NonFinite::Null).unwrap(), "[[1,null]]");
    }
    // What was null before, and what only a value could not hold.
    assert_eq!(encode(&(None::<u8>, u64::MAX), NonFinite::Error).unwrap(), "[null,18446744073709551615]");
}

#[test]
fn what_a_value_refuses_or_widens_json_does_too() {
    struct Blob;
    impl Serialize for Blob {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"x")
        }
    }
    assert_eq!(encode(&[Blob], NonFinite::Error).unwrap_err(), "bytes cannot be in a value: send blobs");
    assert_eq!(encode(&0.1_f32, NonFinite::Error).unwrap(), f64::from(0.1_f32).to_string());
    assert_eq!(encode(&(-0.0_f64, 1.0), NonFinite::Error).unwrap(), "[-0.0,1.0]");
}

proptest! {
    #[test]
    fn any_double_is_read_to_the_bit(number in any::<f64>().prop_filter("JSON has it", |number| number.is_finite())) {
        let text = encode(&number, NonFinite::Error).unwrap();
        prop_assert_eq!(from_slice::<f64>(text.as_bytes()).unwrap().to_bits(), number.to_bits());
        prop_assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap().as_f64().unwrap().to_bits(), number.to_bits());
    }
}
