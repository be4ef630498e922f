//! What an earlier run has done, as it printed it with `--output json`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::input::{InputError, Lines, Place, problem_of};
use crate::output::OK;
use crate::selection::Selection;

/// The items that an earlier run tells of.
#[derive(Debug)]
pub(crate) struct EarlierRun {
    /// Those that have a result in one line or another.
    pub(crate) done: Selection,
    /// The last item that any line is about.
    pub(crate) last: Option<u64>,
}

/// What we need of a line.
#[derive(Deserialize)]
struct Outcome {
    index: u64,
    status: String,
}

impl EarlierRun {
    /// Reads all lines of a file.
    pub(crate) fn read(path: &Path) -> Result<Self, InputError> {
        let place = Place::File(PathBuf::from(path));
        let mut lines = Lines::new(place.name(), place.open()?);
        let mut done: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        while let Some((line, text)) = lines.next_line()? {
            if text.trim_ascii().is_empty() {
                continue;
            }
            let Outcome { index, status } = match serde_json::from_slice(text) {
                Ok(outcome) => outcome,
                // The run was killed while it wrote its last line.
                Err(error) if error.is_eof() && !text.ends_with(b"\n") => break,
                Err(error) => {
                    return Err(InputError::Outcome { name: place.name(), line, problem: problem_of(&error) });
                }
            };
            last = last.max(Some(index));
            if status == OK {
                match done.last_mut() {
                    Some((_, end)) if end.checked_add(1) == Some(index) => *end = index,
                    _ => done.push((index, index)),
                }
            }
        }
        Ok(Self { done: Selection::from_ranges(done), last })
    }
}
