//! JSON that loses nothing.

use procpool_items::json::{append_with, from_slice, sequence_from_slices, too_large_integer};
use procpool_items::value::NonFinite;
use proptest::prelude::*;
use serde::de::IgnoredAny;
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
#[serde(untagged)]
enum Untagged {
    Number(f64),
    Text(String),
}

#[test]
fn such_an_integer_is_an_error_whatever_type_is_asked_for() {
    fn problem<'a, T: Deserialize<'a>>(text: &'a str) -> String {
        let error = from_slice::<T>(text.as_bytes()).err().expect("it has a large integer");
        error.to_string()
    }
    let list = format!("[1,\n  {{\"a\": -{LARGE}}}]");
    let expected = format!(
        "the integer -{LARGE} has more than 64 bits and would be rounded (send it as a string, or as a float with a \
         decimal point) at line 2 column 9"
    );
    assert_eq!(problem::<Value>(&list), expected);
    let error = from_slice::<Value>(list.as_bytes()).unwrap_err();
    assert_eq!((error.line(), error.column()), (2, 9));
    for problem in [
        problem::<Value>(LARGE),
        problem::<u128>(LARGE),
        problem::<f64>(LARGE),
        problem::<Untagged>(LARGE),
        problem::<Option<Box<RawValue>>>(LARGE),
    ] {
        assert!(problem.ends_with("at line 1 column 1"), "{problem}");
    }
    assert!(problem::<IgnoredAny>(&"1".repeat(1000)).len() < 250);
}

#[test]
fn what_is_no_such_integer_is_read() {
    let text = format!(r#"[18446744073709551615, -9223372036854775808, 1.5, "{LARGE}", null, true, {{}}, 1e30]"#);
    let expected = json!([u64::MAX, i64::MIN, 1.5, LARGE, null, true, {}, 1e30]);
    assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), expected);
    #[expect(clippy::float_cmp, reason = "2^70 is a double")]
    let is_nearest = from_slice::<f64>(format!("{LARGE}.0").as_bytes()).unwrap() == 2_f64.powi(70);
    assert!(is_nearest);
    // What is wrong otherwise is told before.
    let broken = from_slice::<Value>(format!("[{LARGE}").as_bytes()).unwrap_err();
    assert!(broken.is_eof(), "{broken}");
}

#[test]
fn several_texts_are_a_sequence() {
    let (base, exponent): (u64, Value) = sequence_from_slices(&[b"18446744073709551615", b" [2] "]).unwrap();
    assert_eq!((base, exponent), (u64::MAX, json!([2])));
    let large = sequence_from_slices::<(Value, u128)>(&[b"1", LARGE.as_bytes()]).unwrap_err().to_string();
    assert!(large.contains("would be rounded"), "{large}");
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
