//! From an item to what a command is given, and from what it prints to a result.

use std::borrow::Cow;
use std::fmt;

use procpool_items::{Records, json, value};
use procpool_worker::{Encoding, Failure, Input, RawCommon, Style};
use serde_json::Value;
use serde_json::value::RawValue;

/// What a command is given.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CommandInput {
    /// For the places in its command line.
    Arguments(Vec<Vec<u8>>),
    /// For a command line without places.
    Stdin(Vec<u8>),
    /// The common argument for the one place in its command line, and the item.
    CommonAndStdin([Vec<u8>; 1], Vec<u8>),
}

/// One argument of the function.
enum Argument<'a> {
    /// As JSON text.
    Json(Cow<'a, str>),
    /// As bytes.
    Bytes(&'a [u8]),
}

/// Returns what a command that takes so many arguments is given for an item.
///
/// # Errors
///
/// If it can't be called with this item.
pub(super) fn decode(input: &Input<'_>, num_arguments: usize) -> Result<CommandInput, Failure> {
    let mut arguments = arguments(input)?;
    let content = input.common.map(RawCommon::content);
    if let Some((common, content)) = input.common.zip(content.as_deref()) {
        let common = common_argument(common.encoding(), content)?;
        if input.style == Style::Map && num_arguments == 1 {
            return Ok(CommandInput::CommonAndStdin([text(common)?], stdin(arguments.remove(0))?));
        }
        arguments.insert(0, common);
    } else if input.style == Style::Map && num_arguments > 1 {
        let problem = format!("the function takes {num_arguments} arguments: call it with starmap or apply");
        return Err(Failure::invalid_item(problem));
    }
    // stdin is one.
    let (given, taken) = (arguments.len(), num_arguments.max(1));
    if given != taken {
        let (plural, were) = (if taken == 1 { "" } else { "s" }, if given == 1 { "was" } else { "were" });
        let with = if input.common.is_some() { " with the common argument" } else { "" };
        let problem = format!("the function takes {taken} argument{plural}, and {given} {were} given{with}");
        return Err(Failure::invalid_item(problem));
    }
    if num_arguments == 0 {
        return stdin(arguments.remove(0)).map(CommandInput::Stdin);
    }
    Ok(CommandInput::Arguments(arguments.into_iter().map(text).collect::<Result<_, _>>()?))
}

/// Returns the argument for a place in a command line.
fn text(argument: Argument<'_>) -> Result<Vec<u8>, Failure> {
    let text = bare(argument)?.into_owned();
    if text.contains(&0) {
        return Err(Failure::invalid_item("no argument of a command can hold a zero byte; stdin can"));
    }
    Ok(text)
}

fn common_argument(encoding: Encoding, content: &[u8]) -> Result<Argument<'_>, Failure> {
    let argument = match encoding {
        Encoding::Values => value_argument(content),
        Encoding::Json => json_argument(content),
        Encoding::Bytes => Ok(Argument::Bytes(content)),
    };
    argument.map_err(|_| Failure::invalid_common("`common` cannot be decoded"))
}

fn arguments<'a>(input: &Input<'a>) -> Result<Vec<Argument<'a>>, Failure> {
    match (input.encoding, input.style) {
        (Encoding::Values, Style::Map) => Ok(vec![value_argument(input.content)?]),
        (Encoding::Values, Style::Star) => match value::as_list(input.content).map_err(unusable)? {
            Some(list) => records(list).map(|record| record.and_then(value_argument)).collect(),
            None => Err(Failure::invalid_item("it is not a list; starmap takes a list of arguments for each call")),
        },
        (Encoding::Values, Style::Apply) => {
            records(input.content).map(|record| record.and_then(value_argument)).collect()
        }
        (Encoding::Json, Style::Map) => Ok(vec![json_argument(input.content)?]),
        (Encoding::Json, Style::Star) => {
            let list: Vec<&RawValue> = serde_json::from_slice(input.content).map_err(unusable)?;
            list.iter().try_for_each(|element| check(element)).map_err(unusable)?;
            Ok(list.into_iter().map(|element| Argument::Json(element.get().into())).collect())
        }
        (Encoding::Json, Style::Apply) => records(input.content).map(|record| record.and_then(json_argument)).collect(),
        (Encoding::Bytes, Style::Map) => Ok(vec![Argument::Bytes(input.content)]),
        (Encoding::Bytes, Style::Star) => {
            Err(Failure::invalid_item("a blob is no list of arguments: call the function with map, imap or apply"))
        }
        (Encoding::Bytes, Style::Apply) => records(input.content).map(|record| record.map(Argument::Bytes)).collect(),
    }
}

fn records(list: &[u8]) -> impl Iterator<Item = Result<&[u8], Failure>> {
    Records::new(list).map(|record| record.map_err(unusable))
}

fn value_argument(content: &[u8]) -> Result<Argument<'_>, Failure> {
    let value: Value = value::from_bytes(content).map_err(unusable)?;
    Ok(Argument::Json(value.to_string().into()))
}

fn json_argument(content: &[u8]) -> Result<Argument<'_>, Failure> {
    // The text as it came: integers of any size stay exact.
    let text: &RawValue = serde_json::from_slice(content).map_err(unusable)?;
    check(text).map_err(unusable)?;
    Ok(Argument::Json(text.get().into()))
}

/// Returns the argument as a program wants it: a string without its quotes, everything else as JSON text.
fn bare(argument: Argument<'_>) -> Result<Cow<'_, [u8]>, Failure> {
    match argument {
        Argument::Bytes(bytes) => Ok(bytes.into()),
        Argument::Json(text) if text.starts_with('"') => {
            let string: String = serde_json::from_str(&text).map_err(unusable)?;
            Ok(string.into_bytes().into())
        }
        Argument::Json(text) => Ok(text.into_owned().into_bytes().into()),
    }
}

/// Returns what a command reads: bytes as they are, a value as one line of text.
fn stdin(argument: Argument<'_>) -> Result<Vec<u8>, Failure> {
    let is_bytes = matches!(argument, Argument::Bytes(_));
    let mut bytes = bare(argument)?.into_owned();
    if !is_bytes {
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// Makes a result of what a command printed. JSON is the value that it is, any other text a string.
///
/// # Errors
///
/// If it can't be sent in this encoding.
pub(super) fn encode(encoding: Encoding, stdout: &[u8], buffer: &mut Vec<u8>) -> Result<(), Failure> {
    if encoding == Encoding::Bytes {
        buffer.extend_from_slice(stdout);
        return Ok(());
    }
    let text = std::str::from_utf8(stdout).map_err(|_| {
        Failure::not_encodable("the command printed what is no UTF-8 text: call it with blobs to get bytes")
    })?;
    let json: Option<&RawValue> = serde_json::from_str(text).ok();
    let Some(json) = json else {
        let line = text.strip_suffix('\n').unwrap_or(text);
        if encoding == Encoding::Json {
            serde_json::to_writer(buffer, line).map_err(not_encodable)?;
        } else {
            value::append_with(line, value::NonFinite::Error, buffer).map_err(not_encodable)?;
        }
        return Ok(());
    };
    if encoding == Encoding::Json {
        check(json).map_err(not_encodable)?;
        buffer.extend_from_slice(json.get().as_bytes());
        return Ok(());
    }
    let unsendable = |error: &dyn fmt::Display| {
        let advice = "print it in quotes, or call the function with JSON in blobs";
        Failure::not_encodable(format!("the command printed what a value cannot carry: {error}; {advice}"))
    };
    let value: Value = json::from_slice(json.get().as_bytes()).map_err(|error| unsendable(&error))?;
    value::append_with(&value, value::NonFinite::Error, buffer).map_err(|error| unsendable(&error))
}

/// Checks that a JSON text has nothing that every other reader refuses, or takes for something else: numbers that no
/// double holds, lone surrogates, endless nesting. Integers may be of any size.
fn check(json: &RawValue) -> Result<(), serde_json::Error> {
    serde_json::from_str::<Value>(json.get()).map(drop)
}

fn unusable(error: impl fmt::Display) -> Failure {
    Failure::invalid_item(error.to_string())
}

fn not_encodable(error: impl fmt::Display) -> Failure {
    Failure::not_encodable(error.to_string())
}
