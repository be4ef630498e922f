//! serde types as values: what becomes of each, what is refused, and that other libraries agree.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::hash::{Hash, Hasher};

use procpool_items::value::{
    self, DecodeError, EncodeError, NonFinite, append_with, check_finite, from_bytes, list_from_bytes, list_to_bytes,
    sequence_from_bytes, struct_to_bytes, to_bytes, to_bytes_with,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Encodes something, checks what prost reads, and decodes it again.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + Debug>(original: &T, as_json: &Value) {
    let bytes = to_bytes(original).expect("it is a value");
    assert_eq!(to_prost(as_json), prost_types::Value::decode(&bytes[..]).expect("it is a value"));
    assert_eq!(&from_bytes::<T>(&bytes).expect("it is a value"), original);
    assert_eq!(&from_bytes::<Value>(&bytes).expect("it is a value"), as_json);
}

fn to_prost(json: &Value) -> prost_types::Value {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().expect("every number has a double")),
        Value::String(string) => Kind::StringValue(string.clone()),
        Value::Array(items) => Kind::ListValue(ListValue { values: items.iter().map(to_prost).collect() }),
        Value::Object(fields) => Kind::StructValue(to_prost_struct(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn to_prost_struct(fields: &serde_json::Map<String, Value>) -> Struct {
    Struct { fields: fields.iter().map(|(key, value)| (key.clone(), to_prost(value))).collect() }
}

fn decode_error<T: DeserializeOwned + Debug>(bytes: &[u8]) -> DecodeError {
    from_bytes::<T>(bytes).expect_err("it is no such value")
}

fn number(value: f64) -> Vec<u8> {
    to_bytes(&value).expect("it is a value")
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    Circle(f64),
    Line(i32, i32),
    Box { width: u8, name: Option<String> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Match {
    id: u64,
    score: (u8, u8),
    shape: Shape,
    tags: BTreeMap<String, Vec<Option<bool>>>,
    unit: (),
}

#[test]
fn structs_tuples_and_maps() {
    let original = Match {
        id: MAX_INTEGER,
        score: (3, 1),
        shape: Shape::Box { width: 255, name: Some("ß".to_owned()) },
        tags: BTreeMap::from([("a".to_owned(), vec![Some(true), None]), (String::new(), vec![])]),
        unit: (),
    };
    let as_json = json!({
        "id": MAX_INTEGER, "score": [3, 1], "shape": {"Box": {"width": 255, "name": "ß"}},
        "tags": {"a": [true, null], "": []}, "unit": null,
    });
    round_trip(&original, &as_json);
}

#[test]
fn variants_are_as_in_json() {
    round_trip(&Shape::Point, &json!("Point"));
    round_trip(&Shape::Circle(1.5), &json!({"Circle": 1.5}));
    round_trip(&Shape::Line(1, -2), &json!({"Line": [1, -2]}));
    round_trip(&Shape::Box { width: 1, name: None }, &json!({"Box": {"width": 1, "name": null}}));
    round_trip(&Ok::<u8, String>(1), &json!({"Ok": 1}));
}

#[test]
fn scalars() {
    round_trip(&'ß', &json!("ß"));
    round_trip(&String::new(), &json!(""));
    round_trip(&"x".repeat(127), &json!("x".repeat(127)));
    round_trip(&"x".repeat(128), &json!("x".repeat(128)));
    round_trip(&"x".repeat(20_000), &json!("x".repeat(20_000)));
    round_trip(&true, &json!(true));
    round_trip(&1.5_f32, &json!(1.5));
    round_trip(&Some(Some(1_i8)), &json!(1));
    round_trip(&i128::from(-5_i8), &json!(-5));
    round_trip(&u128::from(5_u8), &json!(5));
    round_trip(&None::<u8>, &json!(null));
    round_trip(&(), &json!(null));
}

/// A key that no standard map takes by itself.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
struct FloatKey(f64);

impl PartialEq for FloatKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for FloatKey {}

impl Hash for FloatKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

fn json_of(value: &impl Serialize) -> Value {
    let mut text = Vec::new();
    procpool_items::json::append_with(value, NonFinite::Error, &mut text).expect("it is JSON");
    serde_json::from_slice(&text).expect("it is JSON")
}

#[test]
fn maps_with_other_keys_are_as_in_json() {
    round_trip(&BTreeMap::from([(-1_i64, "a".to_owned()), (20, "b".to_owned())]), &json!({"-1": "a", "20": "b"}));
    round_trip(&BTreeMap::from([(false, 1)]), &json!({"false": 1}));
    round_trip(&BTreeMap::from([('x', 1)]), &json!({"x": 1}));
    let floats = HashMap::from([(FloatKey(1.0), 1), (FloatKey(-1.5e300), 2)]);
    round_trip(&floats, &json!({"1.0": 1, "-1.5e+300": 2}));
    assert_eq!(json_of(&floats), json!({"1.0": 1, "-1.5e+300": 2}), "by both encoders");
    assert!(matches!(to_bytes(&HashMap::from([(FloatKey(f64::NAN), 1)])), Err(EncodeError::NonFinite(_))));
    let error = to_bytes(&BTreeMap::from([((1, 2), 3)])).unwrap_err();
    assert_eq!(error, EncodeError::Key);
    let bytes = to_bytes(&json!({"x": 1})).unwrap();
    assert!(decode_error::<BTreeMap<u8, u8>>(&bytes).to_string().contains("string \"x\", expected u8"));
}

#[test]
fn integers_are_exact_or_an_error() {
    let largest = i64::try_from(MAX_INTEGER).unwrap();
    for integer in [0, 1, -1, largest, -largest, largest - 1] {
        round_trip(&integer, &json!(integer));
    }
    for bytes in [to_bytes(&(MAX_INTEGER + 1)), to_bytes(&(-largest - 1)), to_bytes(&u128::MAX), to_bytes(&i128::MIN)] {
        assert!(matches!(bytes, Err(EncodeError::IntegerTooLarge(_))), "{bytes:?}");
    }
    assert_eq!(
        to_bytes(&json!([1, u64::MAX])).unwrap_err().to_string(),
        "the integer 18446744073709551615 is beyond ±(2^53 - 1) and may be rounded in a value: send it as a string or in \
         a blob"
    );
}

#[test]
fn a_number_is_what_the_target_asks_for() {
    assert_eq!(from_bytes::<Value>(&number(1.0)).unwrap(), json!(1));
    assert_eq!(from_bytes::<Value>(&number(-1.0)).unwrap(), json!(-1));
    assert_eq!(from_bytes::<u8>(&number(1.0)), Ok(1));
    assert_eq!(from_bytes::<f64>(&number(1.0)), Ok(1.0));
    assert_eq!(from_bytes::<f32>(&number(1.0)), Ok(1.0));
    assert_eq!(from_bytes::<i32>(&number(-0.0)), Ok(0));
    assert!(from_bytes::<Value>(&number(-0.0)).unwrap().as_f64().unwrap().is_sign_negative());
    assert_eq!(from_bytes::<f64>(&number(1e300)), Ok(1e300));
    assert_eq!(from_bytes::<Value>(&number(1e300)).unwrap(), json!(1e300));

    // 2^53 + 1, rounded by somebody else, is 2^53: so that is no integer either.
    let rounded = 9_007_199_254_740_992.0;
    assert_eq!(from_bytes::<Value>(&number(rounded)).unwrap(), json!(rounded));
    assert_eq!(from_bytes::<f64>(&number(rounded)), Ok(rounded));
    assert_eq!(decode_error::<u64>(&number(rounded)), DecodeError::IntegerTooLarge(rounded));
    assert_eq!(decode_error::<i64>(&number(-rounded)), DecodeError::IntegerTooLarge(-rounded));

    assert_eq!(decode_error::<u8>(&number(1.5)), DecodeError::NotAnInteger(1.5));
    assert_eq!(decode_error::<i64>(&number(1e300)), DecodeError::IntegerTooLarge(1e300));
    assert_eq!(decode_error::<i128>(&number(1e300)), DecodeError::IntegerTooLarge(1e300));
    assert!(decode_error::<u8>(&number(256.0)).to_string().contains("integer `256`, expected u8"));
    assert!(decode_error::<u8>(&number(-1.0)).to_string().contains("integer `-1`, expected u8"));
    assert!(decode_error::<String>(&number(1.0)).to_string().contains("integer `1`, expected a string"));
}

#[test]
fn nan_and_the_infinities_are_an_error_or_null() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert!(matches!(to_bytes(&vec![0.0, odd]), Err(EncodeError::NonFinite(_))));
        assert_eq!(to_bytes_with(&odd, NonFinite::Null).unwrap(), to_bytes(&()).unwrap());
    }
    assert!(to_bytes(&f32::NAN).unwrap_err().to_string().contains("the number NaN cannot be in a value"));
    // What other writers send is a float to who asks for one.
    let nan = prost_types::Value { kind: Some(Kind::NumberValue(f64::NAN)) }.encode_to_vec();
    assert!(from_bytes::<f64>(&nan).unwrap().is_nan());
    assert!(matches!(decode_error::<i64>(&nan), DecodeError::NotAnInteger(_)));
}

#[test]
fn what_is_for_json_is_only_checked_for_nan() {
    assert_eq!(check_finite(&(u64::MAX, i128::MIN, Some("x"), [1.0])), Ok(()));
    assert!(matches!(check_finite(&(u64::MAX, [f32::NAN])), Err(EncodeError::NonFinite(_))));
}

#[test]
fn bytes_are_refused() {
    struct Blob;
    impl Serialize for Blob {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(b"x")
        }
    }
    assert_eq!(to_bytes(&[Blob]).unwrap_err().to_string(), "bytes cannot be in a value: send blobs");
}

#[test]
fn null_is_never_empty() {
    assert_eq!(to_bytes(&None::<u8>).unwrap(), b"\x08\x00");
    assert_eq!(to_bytes(&()).unwrap(), b"\x08\x00");
    assert_eq!(decode_error::<Value>(b""), DecodeError::Empty);
    assert_eq!(decode_error::<Option<u8>>(b""), DecodeError::Empty);
    // Also within: a list with an empty value, an object whose entry has none.
    assert_eq!(decode_error::<Value>(b"\x32\x02\x0a\x00"), DecodeError::Empty);
    assert_eq!(decode_error::<Value>(b"\x2a\x05\x0a\x03\x0a\x01k"), DecodeError::Empty);
    assert_eq!(decode_error::<Value>(b"\x2a\x07\x0a\x05\x0a\x01k\x12\x00"), DecodeError::Empty);
}

#[test]
fn malformed_values_are_errors() {
    let malformed: [&[u8]; 10] = [
        b"\x11\x00\x00\x00",
        b"\x11\x00\x00\x00\x00\x00\x00\x00\x00\x00",
        b"\x1a\x05ab",
        b"\x1a\x01ab",
        b"\x08",
        b"\x20\x01\x20\x01",
        b"\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x32\x02\x12\x00",
        b"\x32\x01\x0a",
        b"\x2a\x04\x0a\x02\x1a\x00",
    ];
    for bytes in malformed {
        assert_eq!(decode_error::<Value>(bytes), DecodeError::Malformed, "{bytes:?}");
    }
    assert_eq!(decode_error::<Value>(b"\x3a\x00"), DecodeError::UnknownKind(0x3a));
    assert_eq!(decode_error::<Value>(b"\x1a\x02\xff\xfe"), DecodeError::InvalidUtf8);
    assert_eq!(decode_error::<Value>(b"\x2a\x08\x0a\x06\x0a\x02\xff\xfe\x12\x00"), DecodeError::InvalidUtf8);
}

#[test]
fn an_entry_with_two_keys_or_two_values_is_malformed() {
    // Others merge the two values, and refuse the whole if the first is none: readers would not agree.
    let two_values = b"\x2a\x0d\x0a\x0b\x0a\x01k\x12\x02\x32\x05\x12\x02\x20\x01";
    let two_keys = b"\x2a\x0c\x0a\x0a\x0a\x01k\x12\x02\x20\x01\x0a\x01l";
    assert_eq!(decode_error::<Value>(two_values), DecodeError::Malformed);
    assert_eq!(decode_error::<Value>(two_keys), DecodeError::Malformed);
    assert_eq!(
        decode_error::<Result<bool, ()>>(b"\x2a\x0f\x0a\x0d\x0a\x02Ok\x12\x02\x20\x01\x12\x03\x1a\x01z"),
        DecodeError::Malformed
    );
}

#[test]
fn an_entry_may_leave_out_an_empty_key_and_turn_the_order_round() {
    assert_eq!(from_bytes::<Value>(b"\x2a\x06\x0a\x04\x12\x02\x20\x01").unwrap(), json!({"": true}));
    assert_eq!(from_bytes::<Value>(b"\x2a\x09\x0a\x07\x12\x02\x20\x01\x0a\x01k").unwrap(), json!({"k": true}));
}

#[test]
fn tuples_take_as_many_as_they_have() {
    let three = to_bytes(&(1, 2, 3)).unwrap();
    assert_eq!(from_bytes::<(u8, u8, u8)>(&three), Ok((1, 2, 3)));
    assert!(decode_error::<(u8, u8)>(&three).to_string().contains("invalid length 3, expected a list of 2"));
    assert!(
        decode_error::<(u8, u8, u8, u8)>(&three).to_string().contains("invalid length 3, expected a tuple of size 4")
    );
    assert_eq!(from_bytes::<(u8, serde::de::IgnoredAny, u8)>(&three).map(|tuple| tuple.2), Ok(3));
}

#[test]
fn enums_say_what_they_expect() {
    assert!(decode_error::<Shape>(&to_bytes("Blob").unwrap()).to_string().contains("unknown variant `Blob`"));
    let two = to_bytes(&json!({"Circle": 1, "Point": null})).unwrap();
    assert!(decode_error::<Shape>(&two).to_string().contains("an object with a single key"));
    assert!(decode_error::<Shape>(&number(1.0)).to_string().contains("expected enum Shape"));
}

#[test]
fn strings_are_borrowed() {
    let bytes = to_bytes("borrowed").unwrap();
    let text: &str = from_bytes(&bytes).unwrap();
    assert!(bytes.as_ptr_range().contains(&text.as_ptr()));
}

fn nested(levels: usize, wrap: impl Fn(Value) -> Value) -> Value {
    (0..levels).fold(json!(1), |inner, _| wrap(inner))
}

#[test]
fn nesting_is_limited_both_ways_and_such_that_other_libraries_can_read_it() {
    let list = |inner| json!([inner]);
    let object = |inner| json!({ "k": inner });
    for (levels, wrap) in [(48, &list as &dyn Fn(Value) -> Value), (32, &object)] {
        let deepest = nested(levels, wrap);
        let bytes = to_bytes(&deepest).unwrap();
        assert_eq!(from_bytes::<Value>(&bytes).unwrap(), deepest);
        assert_eq!(prost_types::Value::decode(&bytes[..]).unwrap(), to_prost(&deepest));
        assert_eq!(to_bytes(&nested(levels + 1, wrap)).unwrap_err(), EncodeError::TooDeep);
        // What prost writes without a limit.
        let too_deep = to_prost(&nested(levels + 1, wrap)).encode_to_vec();
        assert_eq!(decode_error::<Value>(&too_deep), DecodeError::TooDeep);
    }
}

#[test]
fn a_bomb_of_lists_does_not_overflow_the_stack() {
    let mut bytes = number(1.0);
    for _ in 0..4000 {
        for tag in [0x0a_u8, 0x32] {
            let mut wrapped = vec![tag];
            prost::encoding::encode_varint(bytes.len() as u64, &mut wrapped);
            wrapped.append(&mut bytes);
            bytes = wrapped;
        }
    }
    assert_eq!(decode_error::<Value>(&bytes), DecodeError::TooDeep);
    // Ignoring it does not look inside.
    assert!(from_bytes::<serde::de::IgnoredAny>(&bytes).is_ok());
}

#[test]
fn lists_of_items() {
    let list = list_to_bytes([1.5, 2.0], NonFinite::Error).unwrap();
    assert_eq!(list_from_bytes::<f64>(&list).unwrap(), [1.5, 2.0]);
    assert_eq!(sequence_from_bytes::<(f64, u8)>(&list), Ok((1.5, 2)));
    assert_eq!(list_from_bytes::<f64>(b"").unwrap(), [0.0; 0]);
    let problem = list_from_bytes::<u8>(&list).unwrap_err();
    assert_eq!((problem.index, problem.to_string().as_str()), (0, "item 0: 1.5 is not an integer"));
    let problem = list_to_bytes([1.0, f64::NAN], NonFinite::Error).unwrap_err();
    assert_eq!(problem.index, 1);
    assert_eq!(list_from_bytes::<u8>(b"\x0a\x02\x08\x00\x0a").unwrap_err().index, 0);
    assert_eq!(list_from_bytes::<Option<u8>>(b"\x0a\x02\x08\x00\x0a").unwrap_err().error, DecodeError::Malformed);
}

#[test]
fn the_list_in_a_value() {
    let bytes = to_bytes(&[1]).unwrap();
    assert_eq!(value::as_list(&bytes).unwrap(), Some(&list_to_bytes([1], NonFinite::Error).unwrap()[..]));
    assert_eq!(value::as_list(&number(1.0)), Ok(None));
    assert_eq!(value::as_list(b""), Err(DecodeError::Empty));
}

#[test]
fn keyword_arguments() {
    let kwargs = json!({"times": 3, "": null});
    let bytes = struct_to_bytes(&kwargs, NonFinite::Error).unwrap();
    assert_eq!(Struct::decode(&bytes[..]).unwrap(), to_prost_struct(kwargs.as_object().unwrap()));
    assert_eq!(struct_to_bytes(&json!({}), NonFinite::Error).unwrap(), b"");
    assert_eq!(struct_to_bytes(&[1], NonFinite::Error), Err(EncodeError::NotAStruct));
}

#[test]
fn appending_keeps_what_is_there() {
    let mut bytes = b"before".to_vec();
    append_with(&"x".repeat(300), NonFinite::Error, &mut bytes).unwrap();
    assert_eq!(&bytes[..6], b"before");
    assert_eq!(from_bytes::<String>(&bytes[6..]).unwrap().len(), 300);
}

fn any_json() -> impl Strategy<Value = Value> {
    let max = i64::try_from(MAX_INTEGER).expect("it is a value");
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-max..=max).prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no others", |number| number.is_finite()).prop_map(|number| {
            // What comes back from an integral double is an integer.
            from_bytes(&to_bytes(&number).expect("it is a value")).expect("it is a value")
        }),
        ".{0,40}".prop_map(Value::from),
        "[a-z]{100,300}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 8, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..8).prop_map(Value::from),
            btree_map(".{0,10}", inner, 0..8).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_value_comes_back_and_prost_agrees(json in any_json()) {
        let bytes = to_bytes(&json).unwrap();
        prop_assert_eq!(&from_bytes::<Value>(&bytes).unwrap(), &json);
        let message = prost_types::Value::decode(&bytes[..]).unwrap();
        prop_assert_eq!(&message, &to_prost(&json));
        // What prost writes leaves out empty keys and orders fields by its own mind.
        prop_assert_eq!(&from_bytes::<Value>(&message.encode_to_vec()).unwrap(), &json);
    }

    #[test]
    fn any_list_comes_back_and_prost_agrees(items in vec(any_json(), 0..10)) {
        let list = list_to_bytes(&items, NonFinite::Error).unwrap();
        prop_assert_eq!(&list_from_bytes::<Value>(&list).unwrap(), &items);
        let message = ListValue::decode(&list[..]).unwrap();
        prop_assert_eq!(&list_from_bytes::<Value>(&message.encode_to_vec()).unwrap(), &items);
    }

    #[test]
    fn any_double_is_kept_to_the_bit(number in any::<f64>()) {
        let bytes = prost_types::Value { kind: Some(Kind::NumberValue(number)) }.encode_to_vec();
        prop_assert_eq!(from_bytes::<f64>(&bytes).unwrap().to_bits(), number.to_bits());
    }

    #[test]
    fn garbage_never_panics(bytes in vec(prop_oneof![
        Just(0x0a_u8), Just(0x11), Just(0x12), Just(0x1a), Just(0x2a), Just(0x32), 0..8_u8, any::<u8>(),
    ], 0..60)) {
        // Either is fine; what is read by us is read by prost as well.
        if let Ok(json) = from_bytes::<Value>(&bytes) {
            let message = prost_types::Value::decode(&bytes[..]).unwrap();
            prop_assert_eq!(from_bytes::<Value>(&message.encode_to_vec()).unwrap(), json);
        }
        let _ = from_bytes::<Match>(&bytes);
        let _ = from_bytes::<Shape>(&bytes);
    }
}
