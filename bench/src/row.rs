//! What a measurement returns: lines of a table.

/// One line of the table: the measurement, its value, and whether it is within its bound, if it has one.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) figure: String,
    pub(crate) bound: Option<(String, bool)>,
}

impl Row {
    pub(crate) fn new(name: &'static str, figure: impl Into<String>) -> Self {
        Self { name, figure: figure.into(), bound: None }
    }

    pub(crate) fn bounded(
        name: &'static str,
        figure: impl Into<String>,
        bound: impl Into<String>,
        holds: bool,
    ) -> Self {
        Self { name, figure: figure.into(), bound: Some((bound.into(), holds)) }
    }
}
