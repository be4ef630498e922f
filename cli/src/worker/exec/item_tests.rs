//! Tests of `item`.

use procpool_items::{SlabBuilder, value};
use procpool_worker::{Encoding, Input, RawCommon, Style};
use serde_json::{Value, json};

use super::item::{CommandInput, decode, encode};

fn list(blobs: &[&[u8]]) -> Vec<u8> {
    let mut builder = SlabBuilder::new();
    for blob in blobs {
        builder.push(blob);
    }
    builder.take().to_vec()
}

fn decoded(encoding: Encoding, style: Style, content: &[u8], num_arguments: usize) -> Result<CommandInput, String> {
    let input =
        Input { encoding, style, content, kwargs: &[], common: None, chunk_bytes: 0, max_result_bytes: 1 << 20 };
    decode(&input, num_arguments).map_err(|failure| format!("{failure:?}"))
}

fn decoded_with(common: &RawCommon, style: Style, item: &Value, num_arguments: usize) -> Result<CommandInput, String> {
    let content = value::to_bytes(item).unwrap();
    let input = Input {
        encoding: Encoding::Values,
        style,
        content: &content,
        kwargs: &[],
        common: Some(common),
        chunk_bytes: 0,
        max_result_bytes: 1 << 20,
    };
    decode(&input, num_arguments).map_err(|failure| format!("{failure:?}"))
}

fn arguments(texts: &[&str]) -> CommandInput {
    CommandInput::Arguments(texts.iter().map(|text| text.as_bytes().to_vec()).collect())
}

fn stdin(text: &str) -> CommandInput {
    CommandInput::Stdin(text.as_bytes().to_vec())
}

#[test]
fn a_string_is_passed_bare_and_everything_else_as_json() {
    for (item, text) in [
        (json!("a b"), "a b"),
        (json!(""), ""),
        (json!("\"quoted\""), "\"quoted\""),
        (json!(3), "3"),
        (json!(-1.5), "-1.5"),
        (json!(null), "null"),
        (json!([1, "x"]), r#"[1,"x"]"#),
        (json!({"a": true}), r#"{"a":true}"#),
    ] {
        let content = value::to_bytes(&item).unwrap();
        assert_eq!(decoded(Encoding::Values, Style::Map, &content, 1), Ok(arguments(&[text])), "{item}");
        assert_eq!(decoded(Encoding::Values, Style::Map, &content, 0), Ok(stdin(&format!("{text}\n"))), "{item}");
        let content = item.to_string();
        assert_eq!(decoded(Encoding::Json, Style::Map, content.as_bytes(), 1), Ok(arguments(&[text])), "{item}");
    }
    let long = b" 123456789012345678901234567890 ";
    assert_eq!(decoded(Encoding::Json, Style::Map, long, 1), Ok(arguments(&["123456789012345678901234567890"])));
}

#[test]
fn the_elements_of_a_list_fill_one_place_each() {
    let content = value::to_bytes(&json!(["a", 2])).unwrap();
    assert_eq!(decoded(Encoding::Values, Style::Star, &content, 2), Ok(arguments(&["a", "2"])));
    assert_eq!(
        decoded(Encoding::Json, Style::Star, br#"["a", 12345678901234567890123]"#, 2),
        Ok(arguments(&["a", "12345678901234567890123"]))
    );
    let one = value::to_bytes(&json!(["a"])).unwrap();
    assert_eq!(decoded(Encoding::Values, Style::Star, &one, 0), Ok(stdin("a\n")));

    let values = list(&[&value::to_bytes("a").unwrap(), &value::to_bytes(&2).unwrap()]);
    assert_eq!(decoded(Encoding::Values, Style::Apply, &values, 2), Ok(arguments(&["a", "2"])));
    assert_eq!(decoded(Encoding::Json, Style::Apply, &list(&[b"\"a\"", b"2"]), 2), Ok(arguments(&["a", "2"])));
    assert_eq!(decoded(Encoding::Json, Style::Apply, &list(&[b"\"a\""]), 0), Ok(stdin("a\n")));
    assert_eq!(
        decoded(Encoding::Bytes, Style::Apply, &list(&[b"a", b"\xff"]), 2),
        Ok(CommandInput::Arguments(vec![b"a".to_vec(), b"\xff".to_vec()]))
    );
    assert_eq!(decoded(Encoding::Bytes, Style::Map, b"\0\xff", 0), Ok(CommandInput::Stdin(b"\0\xff".to_vec())));
}

#[test]
fn items_that_do_not_fit_are_refused() {
    let pair = value::to_bytes(&json!([1, 2])).unwrap();
    let one = value::to_bytes(&json!(1)).unwrap();
    for (encoding, style, content, num_arguments, problem) in [
        (Encoding::Values, Style::Map, &pair[..], 2, "call it with starmap or apply"),
        (Encoding::Values, Style::Star, &pair, 1, "takes 1 argument, and 2 were given"),
        (Encoding::Values, Style::Star, &pair, 3, "takes 3 arguments, and 2 were given"),
        (Encoding::Values, Style::Star, &one, 1, "it is not a list"),
        (Encoding::Values, Style::Map, b"\xff", 1, "InvalidItem"),
        (Encoding::Json, Style::Map, b"{", 1, "InvalidItem"),
        (Encoding::Json, Style::Star, b"1", 1, "InvalidItem"),
        (Encoding::Json, Style::Map, b"1e999", 1, "number out of range"),
        (Encoding::Json, Style::Star, b"[[1e999]]", 1, "number out of range"),
        (Encoding::Json, Style::Map, br#"["\ud800"]"#, 1, "hex escape"),
        (Encoding::Bytes, Style::Star, b"1", 1, "a blob is no list"),
        (Encoding::Bytes, Style::Map, b"a\0b", 1, "zero byte"),
        (Encoding::Values, Style::Star, &pair, 0, "takes 1 argument, and 2 were given"),
        (Encoding::Bytes, Style::Apply, b"", 0, "takes 1 argument, and 0 were given"),
    ] {
        let error = decoded(encoding, style, content, num_arguments).unwrap_err();
        assert!(error.contains(problem) && error.contains("InvalidItem"), "{error}");
    }
}

fn encoded(encoding: Encoding, stdout: &[u8]) -> Result<Vec<u8>, String> {
    let mut buffer = Vec::new();
    encode(encoding, stdout, &mut buffer).map_err(|failure| format!("{failure:?}")).map(|()| buffer)
}

#[test]
fn output_is_json_if_it_is_and_else_a_string() {
    for (stdout, result, json) in [
        ("3\n", json!(3), "3"),
        (" [1, 2.50]\n\n", json!([1, 2.5]), "[1, 2.50]"),
        ("null", json!(null), "null"),
        ("hello\n", json!("hello"), "\"hello\""),
        ("hello\n\n", json!("hello\n"), r#""hello\n""#),
        ("1 2\n", json!("1 2"), "\"1 2\""),
        ("NaN\n", json!("NaN"), "\"NaN\""),
        ("", json!(""), "\"\""),
        ("\n", json!(""), "\"\""),
        ("9007199254740991", json!(9_007_199_254_740_991_u64), "9007199254740991"),
        ("\"12345678901234567890123\"", json!("12345678901234567890123"), "\"12345678901234567890123\""),
        (
            r#"["\"",1.12345678901234567890,1e10]"#,
            json!(["\"", 1.123_456_789_012_345_7, 1e10]),
            r#"["\"",1.12345678901234567890,1e10]"#,
        ),
    ] {
        let value: Value = value::from_bytes(&encoded(Encoding::Values, stdout.as_bytes()).unwrap()).unwrap();
        let result: Value = value::from_bytes(&value::to_bytes(&result).unwrap()).unwrap();
        assert_eq!(value, result, "{stdout:?}");
        assert_eq!(encoded(Encoding::Json, stdout.as_bytes()).unwrap(), json.as_bytes(), "{stdout:?}");
        assert_eq!(encoded(Encoding::Bytes, stdout.as_bytes()).unwrap(), stdout.as_bytes());
    }
    assert_eq!(encoded(Encoding::Bytes, b"\xff\n").unwrap(), b"\xff\n");
}

#[test]
fn nothing_is_rounded() {
    for stdout in [
        "9007199254740992",
        "9007199254740993",
        "1764000000000000000",
        "-123456789012345678901234567890",
        r#"{"a":["\\",18446744073709551616]}"#,
        "1e999",
        "\"a\"x\u{fffd}",
    ] {
        let value = encoded(Encoding::Values, stdout.as_bytes());
        if stdout.starts_with('"') {
            assert!(value.is_ok());
        } else {
            assert!(value.is_err_and(|error| error.contains("NotEncodable")), "{stdout}");
        }
        // An integer of any size is a JSON text like any other; a number that no double holds is infinite to some.
        assert_eq!(encoded(Encoding::Json, stdout.as_bytes()).is_ok(), stdout != "1e999", "{stdout}");
    }
    for encoding in [Encoding::Values, Encoding::Json] {
        assert!(encoded(encoding, b"\xff").unwrap_err().contains("no UTF-8"));
    }
}

#[test]
fn a_common_argument_takes_the_first_place_and_leaves_stdin_to_the_item_if_it_is_the_only_one() {
    let common = RawCommon::new(Encoding::Values, value::to_bytes(&json!(["c"])).unwrap());
    let text = r#"["c"]"#;
    assert_eq!(decoded_with(&common, Style::Map, &json!("i"), 2), Ok(arguments(&[text, "i"])));
    assert_eq!(decoded_with(&common, Style::Star, &json!(["i", 2]), 3), Ok(arguments(&[text, "i", "2"])));
    assert_eq!(decoded_with(&common, Style::Star, &json!([]), 1), Ok(arguments(&[text])));
    let both = CommandInput::CommonAndStdin([text.into()], b"i\n".to_vec());
    assert_eq!(decoded_with(&common, Style::Map, &json!("i"), 1), Ok(both));
    for (style, item, num_arguments) in
        [(Style::Map, json!("i"), 0), (Style::Map, json!("i"), 3), (Style::Star, json!(["i"]), 1)]
    {
        let problem = decoded_with(&common, style, &item, num_arguments).unwrap_err();
        assert!(problem.contains("2 were given with the common argument"), "{problem}");
    }
    for (common, text) in [
        (RawCommon::new(Encoding::Json, &b" 12345678901234567890 "[..]), "12345678901234567890"),
        (RawCommon::new(Encoding::Bytes, &b"\xff"[..]), "\u{ff}"),
    ] {
        let Ok(CommandInput::Arguments(filled)) = decoded_with(&common, Style::Map, &json!(1), 2) else {
            panic!("{text}")
        };
        assert_eq!(filled[0], if text.is_ascii() { text.as_bytes() } else { b"\xff" });
    }
    let broken = RawCommon::new(Encoding::Json, &b"{"[..]);
    assert!(decoded_with(&broken, Style::Map, &json!(1), 2).unwrap_err().contains("`common` cannot be decoded"));
}
