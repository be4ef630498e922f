//! A JSON document that is an array of items, one element in memory at a time.

use std::ops::ControlFlow;
use std::{fmt, io};

use serde::Deserializer as _;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::error::InputError;
use super::file_or_stdin::{BudgetedReader, FileOrStdin, ItemBudget};
use super::item::{Item, ItemForm, Take};
use super::json::JsonError;

pub(super) fn read(file: &FileOrStdin, form: ItemForm, take: Take<'_>) -> Result<ControlFlow<()>, InputError> {
    let (reader, budget) = BudgetedReader::new(file.open()?);
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    let (mut num_taken, mut has_enough, mut wrong_element) = (0, false, None);
    let elements = Elements {
        form,
        take,
        budget,
        num_taken: &mut num_taken,
        has_enough: &mut has_enough,
        wrong_element: &mut wrong_element,
    };
    let result = deserializer.deserialize_seq(elements).and_then(|()| deserializer.end());
    if let Some(error) = wrong_element {
        let name = file.name();
        return Err(error.at(format!("item {num_taken} of {name}"), |problem| InputError::Array { name, problem }));
    }
    match result {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(_) if has_enough => Ok(ControlFlow::Break(())),
        Err(error) if error.io_error_kind() == Some(io::ErrorKind::FileTooLarge) => {
            Err(InputError::LongItem { name: file.name(), position: num_taken })
        }
        Err(error) if error.is_io() => Err(file.cannot_read(error.into())),
        Err(error) => Err(InputError::Array { name: file.name(), problem: error.to_string() }),
    }
}

/// Takes the elements as they are parsed.
struct Elements<'a, 'b> {
    form: ItemForm,
    take: Take<'a>,
    budget: ItemBudget,
    num_taken: &'b mut u64,
    /// Nobody wants more elements; to serde, that is an error.
    has_enough: &'b mut bool,
    wrong_element: &'b mut Option<JsonError>,
}

impl<'de> Visitor<'de> for Elements<'_, '_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array (for one JSON value a line there is --file)")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(value) = elements.next_element::<Box<RawValue>>()? {
            let item = match Item::parse(value.get().as_bytes(), self.form) {
                Ok(item) => item,
                Err(error) => {
                    *self.wrong_element = Some(error);
                    return Err(A::Error::custom("no item"));
                }
            };
            self.budget.reset();
            *self.num_taken += 1;
            if (self.take)(item).is_break() {
                *self.has_enough = true;
                return Err(A::Error::custom("enough"));
            }
        }
        Ok(())
    }
}
