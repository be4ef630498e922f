//! What one source says: values by the keys of their settings, and where each stands.

use std::collections::BTreeMap;
use std::fmt;

use super::value::Value;

/// Values by the keys of their settings, and where they come from.
pub(super) type Layer = BTreeMap<&'static str, (Value, Origin)>;

/// What flags or variables say.
#[derive(Debug, Default)]
pub(super) struct Layers {
    pub(super) server: Layer,
    /// For the only pool.
    pub(super) pool: Layer,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The name of the flag, without the dashes.
    Flag(String),
    Variable(String),
    /// The path of the file, and the line.
    File(String),
    /// What stands behind the `--`.
    Command,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(formatter, "--{flag}"),
            Self::Variable(place) | Self::File(place) => formatter.write_str(place),
            Self::Command => formatter.write_str("the command behind --"),
        }
    }
}
