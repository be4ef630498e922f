//! What an earlier run has done, as it printed it with `--output json`.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{OFlags, fcntl_getfl, fstat};
use serde::Deserialize;

use super::error::InputError;
use super::file_or_stdin::FileOrStdin;
use super::json::problem_of;
use super::lines::Lines;
use crate::output::OK;
use crate::selection::Selection;

/// The items that an earlier run tells of.
#[derive(Debug)]
pub(super) struct EarlierRun {
    /// Those that have a result in one line or another.
    pub(super) done: Selection,
    /// The last item that any line is about.
    pub(super) last: Option<u64>,
}

/// What we need of a line.
#[derive(Deserialize)]
#[serde(expecting = "an object with index and status")]
struct Outcome {
    index: u64,
    status: String,
}

impl EarlierRun {
    /// Reads all lines of a file. If this run is to go on behind them, in its output file or by stdout, the last gets the
    /// end that it may lack.
    pub(super) fn read(path: &Path, output_file: Option<&Path>) -> Result<Self, InputError> {
        let file = FileOrStdin::File(PathBuf::from(path));
        let effect = match output_file {
            Some(output_file) => effect_of_file(path, output_file),
            None => effect_of_stdout(path),
        };
        let effect = effect.map_err(|source| file.cannot_read(source))?;
        match effect {
            Effect::Empties => return Err(InputError::Emptied { name: file.name() }),
            Effect::Overwrites => return Err(InputError::Overwritten { name: file.name() }),
            Effect::None | Effect::Appends => {}
        }
        let mut lines = Lines::new(file.name(), file.open()?);
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
                    return Err(InputError::Outcome { name: file.name(), line, problem: problem_of(&error) });
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
        if effect == Effect::Appends && !has_end {
            let ended = File::options().append(true).open(path).and_then(|mut file| file.write_all(b"\n"));
            ended.map_err(|source| file.cannot_read(source))?;
        }
        Ok(Self { done: Selection::from_ranges(done), last })
    }
}

/// What the output of this run does to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    None,
    Appends,
    /// The shell has done so already.
    Empties,
    Overwrites,
}

fn effect_of_stdout(path: &Path) -> io::Result<Effect> {
    let (earlier, stdout) = (std::fs::metadata(path)?, fstat(io::stdout())?);
    Ok(if !is_file(&earlier, (stdout.st_dev, stdout.st_ino)) {
        Effect::None
    } else if fcntl_getfl(io::stdout())?.contains(OFlags::APPEND) {
        Effect::Appends
    } else if earlier.len() == 0 {
        Effect::Empties
    } else {
        Effect::Overwrites
    })
}

fn effect_of_file(path: &Path, output_file: &Path) -> io::Result<Effect> {
    let (earlier, output) = (std::fs::metadata(path)?, std::fs::metadata(output_file)?);
    Ok(if is_file(&earlier, (output.dev(), output.ino())) { Effect::Appends } else { Effect::None })
}

fn is_file(metadata: &Metadata, device_and_inode: (u64, u64)) -> bool {
    metadata.is_file() && (metadata.dev(), metadata.ino()) == device_and_inode
}
