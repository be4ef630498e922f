//! What items and results are between Python and the wire.

use procpool_client::EncodedList;
use procpool_items::{ItemKind, begin_record, end_record, push_record};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::monitor::STEPS_BETWEEN_SIGNALS;
use crate::pickle::{self, Loader};
use crate::values;

/// How items become bytes, and bytes results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// A pickle each.
    Pickle,
    /// A JSON value each, as protobuf has them.
    Values,
    /// Bytes as they are.
    Bytes,
}

impl Codec {
    pub(crate) fn parse(name: &str) -> PyResult<Self> {
        match name {
            "pickle" => Ok(Self::Pickle),
            "bytes" => Ok(Self::Bytes),
            "values" => Ok(Self::Values),
            _ => Err(PyValueError::new_err(format!("{name:?} is no codec; use 'pickle', 'values' or 'bytes'"))),
        }
    }

    pub(crate) fn kind(self) -> ItemKind {
        match self {
            Self::Values => ItemKind::Values,
            Self::Pickle | Self::Bytes => ItemKind::Blobs,
        }
    }

    /// Appends an item to an encoded list. After an error nothing has been appended.
    pub(crate) fn push(self, item: &Bound<'_, PyAny>, list: &mut Vec<u8>) -> PyResult<()> {
        match self {
            Self::Bytes => match item.cast::<PyBytes>() {
                Ok(bytes) => push_record(list, bytes.as_bytes()),
                Err(_) => push_record(list, &item.extract::<Vec<u8>>()?),
            },
            Self::Values => {
                let start = begin_record(list);
                values::append(item, false, list).inspect_err(|_| list.truncate(start))?;
                end_record(list, start);
            }
            Self::Pickle => {
                let start = begin_record(list);
                match pickle::write_or_dump(item.py(), item, list).inspect_err(|_| list.truncate(start))? {
                    None => end_record(list, start),
                    Some(pickle) => {
                        list.truncate(start);
                        push_record(list, pickle.as_bytes());
                    }
                }
            }
        }
        Ok(())
    }

    /// Encodes all items of a list, a tuple or any other iterable.
    pub(crate) fn encode_all(self, items: &Bound<'_, PyAny>) -> PyResult<EncodedList> {
        let (mut list, mut count) = (Vec::new(), 0_usize);
        let mut push = |item: &Bound<'_, PyAny>| {
            self.push(item, &mut list)?;
            count += 1;
            if count.is_multiple_of(STEPS_BETWEEN_SIGNALS) { item.py().check_signals() } else { Ok(()) }
        };
        if let Ok(items) = items.cast_exact::<PyList>() {
            items.iter().try_for_each(|item| push(&item))?;
        } else {
            for item in items.try_iter()? {
                push(&item?)?;
            }
        }
        Ok(EncodedList { kind: self.kind(), bytes: list.into(), count })
    }

    pub(crate) fn decoder(self, py: Python<'_>) -> Decoder<'_> {
        match self {
            Self::Pickle => Decoder::Pickle(Loader::new(py)),
            Self::Values => Decoder::Values(py),
            Self::Bytes => Decoder::Bytes(py),
        }
    }
}

/// Decodes results.
pub(crate) enum Decoder<'py> {
    Pickle(Loader<'py>),
    Values(Python<'py>),
    Bytes(Python<'py>),
}

impl<'py> Decoder<'py> {
    pub(crate) fn decode(&mut self, result: &[u8]) -> PyResult<Bound<'py, PyAny>> {
        match self {
            Self::Pickle(loader) => loader.load(result),
            Self::Values(py) => values::load(*py, result),
            Self::Bytes(py) => Ok(PyBytes::new(*py, result).into_any()),
        }
    }
}
