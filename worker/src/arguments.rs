//! Decodes an item into the arguments of a function.

use std::fmt;

use procpool_items::{Records, json, value};
use serde::de::DeserializeOwned;

use crate::common::Common;
use crate::encoding::Encoding;
use crate::failure::Failure;
use crate::input::{Input, Style};

/// The arguments of a function: tuples of up to eight types that serde can deserialise. The first may be a [`Common`].
///
/// This trait is sealed.
pub trait Arguments: Sized + sealed::Sealed {}

pub(crate) mod sealed {
    use crate::failure::Failure;
    use crate::input::Input;

    pub trait Sealed: Sized {
        /// Returns all arguments of a call.
        fn from_input(input: Input<'_>) -> Result<Self, Failure>;

        /// Returns the arguments that the item has.
        fn from_item(input: Input<'_>) -> Result<Self, Failure>;
    }
}

fn from_list<T: DeserializeOwned>(input: Input<'_>, count: usize) -> Result<T, Failure> {
    match (input.encoding, input.style) {
        (Encoding::Values, Style::Apply) => {
            check_count(input, Records::new(input.content).count(), count)?;
            value::sequence_from_bytes(input.content).map_err(unusable)
        }
        (Encoding::Values, _) => match value::as_list(input.content).map_err(unusable)? {
            Some(list) => {
                check_count(input, Records::new(list).count(), count)?;
                value::from_bytes(input.content).map_err(unusable)
            }
            None => Err(Failure::invalid_item("it is not a list; starmap takes a list of arguments for each call")),
        },
        (Encoding::Json, Style::Apply) => from_json_blobs(input, count),
        (Encoding::Json, _) => json::from_slice(input.content).map_err(unusable),
        (Encoding::Bytes, _) => Err(takes_values()),
    }
}

/// Decodes arguments that are one JSON text each.
fn from_json_blobs<T: DeserializeOwned>(input: Input<'_>, count: usize) -> Result<T, Failure> {
    let texts: Vec<&[u8]> = Records::new(input.content).collect::<Result<_, _>>().map_err(unusable)?;
    check_count(input, texts.len(), count)?;
    json::sequence_from_slices(&texts).map_err(unusable)
}

fn from_whole_item<T: DeserializeOwned>(input: Input<'_>) -> Result<T, Failure> {
    match input.encoding {
        Encoding::Values => value::from_bytes(input.content).map_err(unusable),
        Encoding::Json => json::from_slice(input.content).map_err(unusable),
        Encoding::Bytes => Err(takes_values()),
    }
}

fn check_count(input: Input<'_>, given: usize, taken: usize) -> Result<(), Failure> {
    if given == taken {
        return Ok(());
    }
    Err(Failure::invalid_item(format!("the function takes {}, and {given} were given", counted(input, taken))))
}

fn counted(input: Input<'_>, count: usize) -> String {
    let besides = if input.common.is_some() { " besides common" } else { "" };
    if count == 1 { format!("1 argument{besides}") } else { format!("{count} arguments{besides}") }
}

fn unusable(error: impl fmt::Display) -> Failure {
    Failure::invalid_item(error.to_string())
}

fn takes_values() -> Failure {
    Failure::invalid_item("the function takes values: send values, or blobs with content_type application/json")
}

fn one_item_for(input: Input<'_>, count: usize) -> Failure {
    let advice = match (input.common, count) {
        (None, _) => ": call it with starmap or apply",
        (Some(_), 0) => ", and the item is one",
        (Some(_), _) => ", and the item is one: call it with starmap",
    };
    Failure::invalid_item(format!("the function takes {}{advice}", counted(input, count)))
}

impl Arguments for () {}

impl sealed::Sealed for () {
    fn from_input(input: Input<'_>) -> Result<Self, Failure> {
        if input.common.is_some() {
            return Err(Failure::invalid_common("the function takes no common argument"));
        }
        Self::from_item(input)
    }

    fn from_item(input: Input<'_>) -> Result<Self, Failure> {
        if input.style == Style::Map {
            return Err(one_item_for(input, 0));
        }
        // For serde, () is null, not an empty list.
        from_list::<[(); 0]>(input, 0).map(|[]| ())
    }
}

/// Returns the arguments in an item, if it has `count`.
fn from_item<T: DeserializeOwned>(input: Input<'_>, count: usize) -> Result<T, Failure> {
    if input.style == Style::Map { Err(one_item_for(input, count)) } else { from_list(input, count) }
}

macro_rules! impl_arguments {
    ($count:tt: $first:ident $first_name:ident $(, $rest:ident $rest_name:ident)*) => {
        impl<$first: DeserializeOwned, $($rest: DeserializeOwned),*> Arguments for ($first, $($rest,)*) {}

        impl<$first: DeserializeOwned, $($rest: DeserializeOwned),*> sealed::Sealed for ($first, $($rest,)*) {
            fn from_input(input: Input<'_>) -> Result<Self, Failure> {
                let Some(common) = input.common else { return Self::from_item(input) };
                let ($($rest_name,)*) = <($($rest,)*) as sealed::Sealed>::from_item(input)?;
                Ok((common.decode_owned()?, $($rest_name,)*))
            }

            fn from_item(input: Input<'_>) -> Result<Self, Failure> {
                impl_arguments!(@from_item input, $count)
            }
        }

        impl<$first: DeserializeOwned + Send + Sync + 'static, $($rest: DeserializeOwned),*> Arguments
            for (Common<$first>, $($rest,)*)
        {
        }

        impl<$first: DeserializeOwned + Send + Sync + 'static, $($rest: DeserializeOwned),*> sealed::Sealed
            for (Common<$first>, $($rest,)*)
        {
            fn from_input(input: Input<'_>) -> Result<Self, Failure> {
                let Some(common) = input.common else { return Self::from_item(input) };
                let ($($rest_name,)*) = <($($rest,)*) as sealed::Sealed>::from_item(input)?;
                Ok((common.decode()?, $($rest_name,)*))
            }

            fn from_item(input: Input<'_>) -> Result<Self, Failure> {
                let ($first_name, $($rest_name,)*) = <($first, $($rest,)*) as sealed::Sealed>::from_item(input)?;
                Ok((Common::new($first_name), $($rest_name,)*))
            }
        }
    };
    (@from_item $input:ident, 1) => {
        if $input.style == Style::Map { from_whole_item($input).map(|item| (item,)) } else { from_list($input, 1) }
    };
    (@from_item $input:ident, $count:tt) => { from_item($input, $count) };
}

impl_arguments!(1: A a);
impl_arguments!(2: A a, B b);
impl_arguments!(3: A a, B b, C c);
impl_arguments!(4: A a, B b, C c, D d);
impl_arguments!(5: A a, B b, C c, D d, E e);
impl_arguments!(6: A a, B b, C c, D d, E e, F f);
impl_arguments!(7: A a, B b, C c, D d, E e, F f, G g);
impl_arguments!(8: A a, B b, C c, D d, E e, F f, G g, H h);
