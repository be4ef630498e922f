//! What a setting is: where it is kept, how it is read, shown and described.

use super::kind::{Form, Kind, Names};
use super::value::{Shown, Value};

/// One setting of `T`.
pub(crate) struct Setting<T: 'static> {
    /// Its name in the file. That of the flag and of the variable follow from it.
    pub(crate) key: &'static str,
    pub(crate) names: Names,
    /// What 0 means; `None` if it is an error, or no number.
    zero_means: Option<&'static str>,
    /// The default, where the value says too little.
    default: Option<&'static str>,
    pub(crate) about: &'static str,
    field: Box<dyn Field<T>>,
}

/// The field of `T` that keeps a value of some kind.
trait Field<T>: Send + Sync {
    /// Reads and keeps a value. Returns whether it is 0.
    fn set(&self, target: &mut T, value: &Value) -> Result<bool, String>;

    /// Shows the value that is kept, and tells whether it is 0.
    fn show(&self, target: &mut T) -> (Option<Shown>, bool);
}

impl<T, K: Kind> Field<T> for (K, fn(&mut T) -> &mut K::Value) {
    fn set(&self, target: &mut T, value: &Value) -> Result<bool, String> {
        let field = self.1(target);
        *field = self.0.read(value)?;
        Ok(K::ZERO.as_ref() == Some(field))
    }

    fn show(&self, target: &mut T) -> (Option<Shown>, bool) {
        let field = self.1(target);
        (self.0.show(field), K::ZERO.as_ref() == Some(field))
    }
}

impl<T: Clone + Default> Setting<T> {
    /// Returns a setting. Of a number, 0 is an error.
    pub(super) fn new<K: Kind>(
        key: &'static str,
        kind: K,
        field: fn(&mut T) -> &mut K::Value,
        about: &'static str,
    ) -> Self {
        let names = kind.names();
        Self { key, names, zero_means: None, default: None, about, field: Box::new((kind, field)) }
    }

    /// Allows the number 0.
    pub(super) fn zero_means(self, words: &'static str) -> Self {
        Self { zero_means: Some(words), ..self }
    }

    /// Says the default in words, where the value says too little.
    pub(super) fn default_is(self, words: &'static str) -> Self {
        Self { default: Some(words), ..self }
    }

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
        let (shown, is_zero) = self.field.show(&mut T::default());
        if let Some(words) = self.default.or_else(|| self.zero_means.filter(|_| is_zero)) {
            return words.to_owned();
        }
        match shown {
            Some(Shown::Text(text)) => text,
            Some(Shown::Number(number)) => number.to_string(),
            Some(Shown::Boolean(is_on)) => is_on.to_string(),
            Some(Shown::List(list)) => list.join(", "),
            Some(Shown::Redacted(_) | Shown::Table(_)) | None => String::new(),
        }
    }

    /// Returns the meaning of 0 in words; empty for what is no number.
    pub(crate) fn zero_text(&self) -> &'static str {
        self.zero_means.unwrap_or(if self.names.form == Form::Number { "an error" } else { "" })
    }

    /// Sets the value in `target`.
    ///
    /// # Errors
    ///
    /// What is wrong with the value, and what would be right.
    pub(crate) fn set(&self, target: &mut T, value: &Value) -> Result<(), String> {
        let is_zero = self.field.set(target, value)?;
        if is_zero && self.zero_means.is_none() { Err("must be more than 0".to_owned()) } else { Ok(()) }
    }

    /// Returns it as the file would have it; `None` if it is not set.
    pub(crate) fn show(&self, target: &T) -> Option<Shown> {
        self.field.show(&mut target.clone()).0
    }
}
