//! The argument that all items of a job share, which is decoded once.

use std::any::{Any, TypeId};
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use procpool_ipc::proto::{ItemKind, SetCommon};
use procpool_items::{json, value};
use serde::de::DeserializeOwned;

use crate::encoding::Encoding;
use crate::error::WorkerError;
use crate::failure::Failure;

/// The argument that all items of a call share, as the first parameter of a function.
///
/// A worker decodes it once per call, and every item gets the same `T`, until the call has ended:
///
/// ```no_run
/// use std::collections::HashMap;
///
/// use procpool_worker::{Common, Worker};
///
/// fn price(prices: Common<HashMap<String, f64>>, name: String) -> Option<f64> {
///     prices.get(&name).copied()
/// }
///
/// fn main() -> std::process::ExitCode {
///     Worker::new().function("price", price).main()
/// }
/// ```
///
/// `procpool map price --common '{"tea":2.5}' '"tea"'` calls it. A first parameter of any other type takes the common
/// argument too, but it is decoded again for each item. Without a common argument, a `Common<T>` is the first argument
/// of a `starmap` or `apply` like any other.
pub struct Common<T>(Arc<T>);

impl<T> Common<T> {
    /// Wraps a value; for tests of a function.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Common<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> Clone for Common<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: fmt::Debug> fmt::Debug for Common<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

type Decoded = Result<Arc<dyn Any + Send + Sync>, String>;

/// A common argument before decoding.
pub struct RawCommon {
    encoding: Encoding,
    content: Mutex<Bytes>,
    /// The type and the result of the first decoding.
    decoded: OnceLock<(TypeId, Decoded)>,
    attachment: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl RawCommon {
    /// Returns an argument as a function gets it; for tests of a function.
    pub fn new(encoding: Encoding, content: impl Into<Bytes>) -> Self {
        Self { encoding, content: Mutex::new(content.into()), decoded: OnceLock::new(), attachment: OnceLock::new() }
    }

    pub(crate) fn from_frame(set: SetCommon) -> Result<Self, WorkerError> {
        let encoding = match (set.kind(), set.content_type.as_str()) {
            (ItemKind::Values, _) => Encoding::Values,
            (ItemKind::Blobs, "application/json") => Encoding::Json,
            (ItemKind::Blobs, _) => Encoding::Bytes,
            (ItemKind::Unspecified, _) => {
                return Err(WorkerError::Protocol(format!("common argument {} is of no kind", set.common)));
            }
        };
        Ok(Self::new(encoding, set.value))
    }

    /// Returns its encoding, which may differ from that of the items.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Returns the encoded value, the JSON text or the bytes.
    pub fn content(&self) -> Bytes {
        self.content.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Releases the memory of the content, which is empty from now on: for those who have put what they made of it into
    /// [`RawCommon::attachment`].
    pub fn release_content(&self) {
        *self.content.lock().unwrap_or_else(PoisonError::into_inner) = Bytes::new();
    }

    /// Returns the place for what an adapter to another language makes of it. It is dropped with the argument, on any
    /// thread.
    pub fn attachment(&self) -> &OnceLock<Box<dyn Any + Send + Sync>> {
        &self.attachment
    }

    /// Returns the decoded argument, the same for every item of the call.
    ///
    /// # Errors
    ///
    /// If it is not a `T`.
    pub fn decode<T: DeserializeOwned + Send + Sync + 'static>(&self) -> Result<Common<T>, Failure> {
        let (type_id, decoded) = self.decoded.get_or_init(|| {
            let decoded = self.decode_text::<T>();
            (TypeId::of::<T>(), decoded.map(|value| Arc::new(value) as Arc<dyn Any + Send + Sync>))
        });
        match decoded {
            Ok(shared) => match Arc::clone(shared).downcast() {
                Ok(shared) => Ok(Common(shared)),
                // A call has one function with one type, so this happens only if the server mixes calls.
                Err(_) => self.decode_owned().map(Common::new),
            },
            Err(problem) if *type_id == TypeId::of::<T>() => Err(Failure::invalid_common(problem.clone())),
            Err(_) => self.decode_owned().map(Common::new),
        }
    }

    /// Decodes an owned copy.
    pub(crate) fn decode_owned<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        self.decode_text().map_err(Failure::invalid_common)
    }

    fn decode_text<T: DeserializeOwned>(&self) -> Result<T, String> {
        let unusable = |error: &dyn fmt::Display| format!("`common` cannot be used: {error}");
        let content = self.content();
        match self.encoding {
            Encoding::Values => value::from_bytes(&content).map_err(|error| unusable(&error)),
            Encoding::Json => json::from_slice(&content).map_err(|error| unusable(&error)),
            Encoding::Bytes => Err(unusable(&"the function takes a value: send common_value, or JSON")),
        }
    }
}

impl fmt::Debug for RawCommon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RawCommon")
            .field("encoding", &self.encoding)
            .field("bytes", &self.content().len())
            .finish_non_exhaustive()
    }
}
