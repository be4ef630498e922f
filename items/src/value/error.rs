//! Why something is not encoded or decoded, and what to do with NaN.

use crate::slab::SlabProblem;

/// How NaN and the infinities are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NonFinite {
    /// An error.
    #[default]
    Error,
    /// null.
    Null,
}

/// Why something cannot be encoded as a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An integer that a double may not represent.
    #[error("the integer {0} is beyond ±(2^53 - 1) and may be rounded in a value: send it as a string or in a blob")]
    IntegerTooLarge(String),
    /// NaN or an infinity.
    #[error("the number {0} cannot be in a value: send null or a string")]
    NonFinite(String),
    /// Bytes.
    #[error("bytes cannot be in a value: send blobs")]
    Bytes,
    /// A map key that is not a string, number or bool.
    #[error("the keys of a map must be strings")]
    Key,
    /// Lists or objects nested too deeply.
    #[error("the value is nested too deeply: at most 48 lists or 32 objects")]
    TooDeep,
    /// Keyword arguments that are not a map.
    #[error("keyword arguments must be a map or a struct")]
    NotAStruct,
    /// An error of the type.
    #[error("{0}")]
    Custom(String),
}

/// Why bytes are not a value of the requested type.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A `Value` with none of its fields set.
    #[error("an empty Value; send null_value for null")]
    Empty,
    /// A `Value` of an unknown kind.
    #[error("a Value of an unknown kind (tag {0:#04x})")]
    UnknownKind(u8),
    /// The bytes are not a protobuf message of this type.
    #[error("the value is malformed")]
    Malformed,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// Lists or objects nested too deeply.
    #[error("the value is nested too deeply: at most 48 lists or 32 objects")]
    TooDeep,
    /// A number with a fraction, where an integer is needed.
    #[error("{0} is not an integer")]
    NotAnInteger(f64),
    /// A number beyond ±(2^53 - 1), where an integer is needed.
    #[error("{0} is beyond ±(2^53 - 1) and may be a rounded integer: send it as a string or in a blob")]
    IntegerTooLarge(f64),
    /// NaN or an infinity, where a float was not asked for.
    #[error("{0} is not a JSON number: only a function that takes a float can get it")]
    NotFinite(f64),
    /// An error of the type.
    #[error("{0}")]
    Custom(String),
}

impl From<SlabProblem> for DecodeError {
    fn from(problem: SlabProblem) -> Self {
        match problem {
            SlabProblem::EmptyValue => Self::Empty,
            SlabProblem::Malformed | SlabProblem::TooLong => Self::Malformed,
        }
    }
}

impl serde::ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for DecodeError {
    fn custom<T: std::fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}
