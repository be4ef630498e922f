//! From an item to the arguments of a function.

use std::fmt;

use procpool_items::{Records, value};
use serde::de::value::SeqDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer};

use crate::failure::Failure;

/// How an item and a result are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As `google.protobuf.Value`s.
    Values,
    /// As JSON in blobs.
    Json,
    /// As bytes that only the function understands.
    Bytes,
}

/// How a function is called with an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `f(item)`
    Map,
    /// `f(*item)`
    Star,
    /// `f(*args)`: the content is the encoded list of the arguments.
    Apply,
}

/// What a function is called with, not yet decoded.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// How the item is encoded, and how its result must be.
    pub encoding: Encoding,
    /// How the function is called with it.
    pub style: Style,
    /// The item. In the style [`Style::Apply`], the encoded list of the arguments.
    pub content: &'a [u8],
    /// The longest result that a frame can hold, in bytes.
    pub max_result_bytes: usize,
}

/// The arguments of a function: tuples of up to eight types that can be deserialised.
///
/// Only this crate implements it.
pub trait Arguments: Sized + sealed::Sealed {}

pub(crate) mod sealed {
    use super::{Failure, Input};

    pub trait Sealed: Sized {
        fn from_input(input: Input<'_>) -> Result<Self, Failure>;
    }
}

fn from_list<T: DeserializeOwned>(input: Input<'_>, count: usize) -> Result<T, Failure> {
    match (input.encoding, input.style) {
        (Encoding::Values, Style::Apply) => from_values(input.content, count),
        (Encoding::Values, _) => match value::as_list(input.content).map_err(unusable)? {
            Some(list) => from_values(list, count),
            None => Err(Failure::invalid_item("it is not a list; starmap takes a list of arguments for each call")),
        },
        (Encoding::Json, Style::Apply) => from_json_blobs(input.content, count),
        (Encoding::Json, _) => serde_json::from_slice(input.content).map_err(unusable),
        (Encoding::Bytes, _) => Err(takes_values()),
    }
}

fn from_values<T: DeserializeOwned>(list: &[u8], count: usize) -> Result<T, Failure> {
    check_count(Records::new(list).count(), count)?;
    value::sequence_from_bytes(list).map_err(unusable)
}

/// Decodes arguments that are a JSON text each.
fn from_json_blobs<T: DeserializeOwned>(blobs: &[u8], count: usize) -> Result<T, Failure> {
    let texts: Vec<&[u8]> = Records::new(blobs).collect::<Result<_, _>>().map_err(unusable)?;
    check_count(texts.len(), count)?;
    let arguments: Vec<serde_json::Value> =
        texts.into_iter().map(serde_json::from_slice).collect::<Result<_, _>>().map_err(unusable)?;
    T::deserialize(SeqDeserializer::new(arguments.into_iter().map(IntoDeserializer::into_deserializer)))
        .map_err(|error: serde_json::Error| unusable(error))
}

fn from_item<T: DeserializeOwned>(input: Input<'_>) -> Result<T, Failure> {
    match input.encoding {
        Encoding::Values => value::from_bytes(input.content).map_err(unusable),
        Encoding::Json => serde_json::from_slice(input.content).map_err(unusable),
        Encoding::Bytes => Err(takes_values()),
    }
}

fn check_count(given: usize, taken: usize) -> Result<(), Failure> {
    if given == taken {
        return Ok(());
    }
    Err(Failure::invalid_item(format!("the function takes {}, and {given} were given", plural(taken))))
}

fn plural(count: usize) -> String {
    if count == 1 { "1 argument".to_owned() } else { format!("{count} arguments") }
}

fn unusable(error: impl fmt::Display) -> Failure {
    Failure::invalid_item(error.to_string())
}

fn takes_values() -> Failure {
    Failure::invalid_item("the function takes values: send values, or blobs with content_type application/json")
}

fn one_item_for(count: usize) -> Failure {
    Failure::invalid_item(format!("the function takes {}: call it with starmap or apply", plural(count)))
}

impl Arguments for () {}

impl sealed::Sealed for () {
    fn from_input(input: Input<'_>) -> Result<Self, Failure> {
        if input.style == Style::Map {
            return Err(one_item_for(0));
        }
        // serde takes () for null, not for an empty list.
        from_list::<[(); 0]>(input, 0).map(|[]| ())
    }
}

impl<A: DeserializeOwned> Arguments for (A,) {}

impl<A: DeserializeOwned> sealed::Sealed for (A,) {
    fn from_input(input: Input<'_>) -> Result<Self, Failure> {
        if input.style == Style::Map { from_item(input).map(|item| (item,)) } else { from_list(input, 1) }
    }
}

macro_rules! impl_arguments {
    ($count:literal: $($argument:ident)+) => {
        impl<$($argument: DeserializeOwned),+> Arguments for ($($argument,)+) {}

                impl<$($argument: DeserializeOwned),+> sealed::Sealed for ($($argument,)+) {
            fn from_input(input: Input<'_>) -> Result<Self, Failure> {
                if input.style == Style::Map { Err(one_item_for($count)) } else { from_list(input, $count) }
            }
        }
    };
}

impl_arguments!(2: A B);
impl_arguments!(3: A B C);
impl_arguments!(4: A B C D);
impl_arguments!(5: A B C D E);
impl_arguments!(6: A B C D E F);
impl_arguments!(7: A B C D E F G);
impl_arguments!(8: A B C D E F G H);
