//! What an earlier run has done, as it printed it with `--output json`.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fstat};
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
#[serde(expecting = "an object with index and status")]
struct Outcome {
    index: u64,
    status: String,
}

impl EarlierRun {
    /// Reads all lines of a file.
    pub(crate) fn read(path: &Path) -> Result<Self, InputError> {
        let place = Place::File(PathBuf::from(path));
        if is_overwritten(path).map_err(|source| place.cannot_read(source))? {
            return Err(InputError::Overwritten { name: place.name() });
        }
        let mut lines = Lines::new(place.name(), place.open()?);
        let mut done: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        while let Some((line, text)) = lines.next_line()? {
            let trimmed = text.trim_ascii();
            if trimmed.is_empty() {
                continue;
            }
            let Outcome { index, status } = match serde_json::from_slice(trimmed) {
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

/// Tells whether stdout goes to this file, and not to its end: then the shell has emptied it already.
fn is_overwritten(path: &Path) -> io::Result<bool> {
    let (earlier, stdout) = (std::fs::metadata(path)?, fstat(io::stdout())?);
    let is_same = (earlier.dev(), earlier.ino()) == (stdout.st_dev, stdout.st_ino);
    Ok(is_same && earlier.is_file() && !fcntl_getfl(io::stdout())?.contains(OFlags::APPEND))
}
