//! What a setting is: where it is kept, how it is read, shown and described.

use super::kinds::{Kind, Names};
use super::value::{Shown, Value};

/// One setting of `T`.
pub(crate) struct Setting<T: 'static> {
    /// Its name in the file. That of the flag and of the variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) names: Names,
    pub(crate) zero: Zero,
    /// The default, where the value says too little.
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
    pub(super) place: Box<dyn Place<T>>,
}

/// What 0 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zero {
    Means(&'static str),
    /// It is an error.
    Error,
    /// It is no number.
    NoNumber,
}

/// Where a value of some kind is kept.
pub(super) trait Place<T>: Send + Sync {
    /// Reads and keeps a value. Returns whether it is 0.
    fn set(&self, target: &mut T, value: &Value) -> Result<bool, String>;

    /// Shows the value that is kept, and tells whether it is 0.
    fn show(&self, target: &mut T) -> (Option<Shown>, bool);
}

impl<T, K: Kind> Place<T> for (K, fn(&mut T) -> &mut K::Value) {
    fn set(&self, target: &mut T, value: &Value) -> Result<bool, String> {
        let (kind, field) = self;
        let value = kind.read(value)?;
        let is_zero = kind.is_zero(&value);
        *field(target) = value;
        Ok(is_zero)
    }

    fn show(&self, target: &mut T) -> (Option<Shown>, bool) {
        let (kind, field) = self;
        let value = field(target);
        (kind.show(value), kind.is_zero(value))
    }
}

pub(super) fn setting<T, K: Kind>(
    key: &'static str,
    kind: K,
    field: fn(&mut T) -> &mut K::Value,
    about: &'static str,
) -> Setting<T> {
    let names = kind.names();
    Setting { key, names, zero: Zero::NoNumber, default: None, about, place: Box::new((kind, field)) }
}

pub(super) fn number<T, K: Kind>(
    key: &'static str,
    kind: K,
    field: fn(&mut T) -> &mut K::Value,
    zero: Zero,
    about: &'static str,
) -> Setting<T> {
    Setting { zero, ..setting(key, kind, field, about) }
}

impl<T: Clone + Default> Setting<T> {
    /// Returns the name of the flag, without the dashes.
    pub(crate) fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// Returns the name of the environment variable; `None` for what does not fit into one.
    pub(crate) fn variable(&self) -> Option<String> {
        self.names.has_variable.then(|| format!("PROCPOOL_{}", self.key.to_ascii_uppercase()))
    }

    /// Returns the default in words.
    pub(crate) fn default_text(&self) -> String {
        if let Some(words) = self.default {
            return words.to_owned();
        }
        match (self.place.show(&mut T::default()), self.zero) {
            ((_, true), Zero::Means(off)) => off.to_owned(),
            ((Some(Shown::Text(text)), _), _) => text,
            ((Some(Shown::Number(number)), _), _) => number.to_string(),
            ((Some(Shown::List(list)), _), _) => list.join(", "),
            ((Some(Shown::Redacted(_) | Shown::Table(_)) | None, _), _) => String::new(),
        }
    }

    /// Returns the meaning of 0 in words; empty for what is no number.
    pub(crate) fn zero_text(&self) -> &'static str {
        match self.zero {
            Zero::Means(meaning) => meaning,
            Zero::Error => "an error",
            Zero::NoNumber => "",
        }
    }

    /// Sets it.
    ///
    /// # Errors
    ///
    /// What is wrong with the value, and what would be right.
    pub(crate) fn set(&self, target: &mut T, value: &Value) -> Result<(), String> {
        let is_zero = self.place.set(target, value)?;
        if is_zero && self.zero == Zero::Error { Err("must be more than 0".to_owned()) } else { Ok(()) }
    }

    /// Returns it as the file would have it; `None` if it is not set.
    pub(crate) fn show(&self, target: &T) -> Option<Shown> {
        self.place.show(&mut target.clone()).0
    }
}
