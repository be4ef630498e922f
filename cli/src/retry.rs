//! What an earlier run has done, as it printed it with `--output json`.

use std::io::{self, Write as _};
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
    /// Reads all lines of a file. If this run is to go on behind them, the last gets the end that it may lack.
    pub(crate) fn read(path: &Path) -> Result<Self, InputError> {
        let place = Place::File(PathBuf::from(path));
        let stdout = stdout_to(path).map_err(|source| place.cannot_read(source))?;
        if stdout == Stdout::Overwrites {
            return Err(InputError::Overwritten { name: place.name() });
        }
        let mut lines = Lines::new(place.name(), place.open()?);
        let mut done: Vec<(u64, u64)> = Vec::new();
        let mut last = None;
        let mut has_end = true;
        while let Some((line, text)) = lines.next_line()? {
            has_end = text.ends_with(b"\n");
            let text = text.trim_ascii();
            if text.is_empty() {
                continue;
            }
            let Outcome { index, status } = match serde_json::from_slice(text) {
                Ok(outcome) => outcome,
                // The run was killed while it wrote this line.
                Err(error) if error.is_eof() => continue,
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
        if stdout == Stdout::Appends && !has_end {
            io::stdout().write_all(b"\n").map_err(|source| place.cannot_read(source))?;
        }
        Ok(Self { done: Selection::from_ranges(done), last })
    }
}

/// What our stdout does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdout {
    Nothing,
    Appends,
    /// The shell has emptied it already.
    Overwrites,
}

fn stdout_to(path: &Path) -> io::Result<Stdout> {
    let (earlier, stdout) = (std::fs::metadata(path)?, fstat(io::stdout())?);
    Ok(if !earlier.is_file() || (earlier.dev(), earlier.ino()) != (stdout.st_dev, stdout.st_ino) {
        Stdout::Nothing
    } else if fcntl_getfl(io::stdout())?.contains(OFlags::APPEND) {
        Stdout::Appends
    } else {
        Stdout::Overwrites
    })
}
