//! What the value of a setting can be: a type for each kind reads it, shows it and says what it is called.

use super::value::{Shown, Value};

/// A kind of value.
pub(crate) trait Kind: Send + Sync + 'static {
    /// The type that the program uses.
    type Value: PartialEq;
    /// The value of 0, for a kind of number.
    const ZERO: Option<Self::Value> = None;

    /// Returns what `--help` and the documentation call it.
    fn names(&self) -> Names;

    /// Reads a value.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what would be right.
    fn read(&self, value: &Value) -> Result<Self::Value, String>;

    /// Returns the value as the file would have it; `None` if there is none.
    fn show(&self, value: &Self::Value) -> Option<Shown>;
}

/// What a kind of value is called, and where it can be given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Names {
    /// In `--help`.
    pub(crate) value: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) form: Form,
    /// It fits into a variable of the environment.
    pub(crate) has_variable: bool,
}

/// How a kind of value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    One,
    /// 0 may mean something else.
    Number,
    /// The flag may be given more than once.
    List,
    /// The flag alone means `true`.
    Switch,
}

impl Names {
    pub(super) const fn one(value: &'static str, unit: &'static str) -> Self {
        Self { value, unit, form: Form::One, has_variable: true }
    }

    pub(super) const fn number(value: &'static str, unit: &'static str) -> Self {
        Self { form: Form::Number, ..Self::one(value, unit) }
    }

    pub(super) const fn list(value: &'static str, unit: &'static str) -> Self {
        Self { form: Form::List, ..Self::one(value, unit) }
    }
}
