//! Values of settings as their sources have them, and as `--print-config` shows them.

/// A value as its source has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A flag, a variable, or a string in the file.
    Text(String),
    /// An integer in the file.
    Integer(i64),
    /// A boolean in the file.
    Boolean(bool),
    /// A flag that is given more than once, or an array of strings in the file.
    List(Vec<String>),
    /// A table of strings in the file.
    Table(Vec<(String, String)>),
    /// A type that no setting has; the text names it.
    Other(&'static str),
}

impl Value {
    pub(crate) fn as_text(&self) -> Result<&str, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Integer(number) => Err(format!("{number} must be text: write it in quotes")),
            Self::Boolean(_) => Err("must be text, not a boolean".to_owned()),
            Self::List(_) => Err("must be one text, not a list".to_owned()),
            Self::Table(_) => Err("must be text, not a table".to_owned()),
            Self::Other(what) => Err(format!("must be text, not {what}")),
        }
    }

    /// Returns the entries of a list. In a variable, commas separate them.
    pub(crate) fn as_list(&self) -> Result<Vec<String>, String> {
        match self {
            Self::List(list) => Ok(list.clone()),
            Self::Text(text) => Ok(text.split(',').map(|entry| entry.trim().to_owned()).collect()),
            Self::Integer(_) => Err("must be a list of texts, not a number".to_owned()),
            Self::Boolean(_) => Err("must be a list of texts, not a boolean".to_owned()),
            Self::Table(_) => Err("must be a list of texts, not a table".to_owned()),
            Self::Other(what) => Err(format!("must be a list of texts, not {what}")),
        }
    }
}

/// A value, to be shown.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Text(String),
    Number(u64),
    Boolean(bool),
    List(Vec<String>),
    Table(Vec<(String, String)>),
    /// The names of variables whose values are secret.
    Redacted(Vec<String>),
}
