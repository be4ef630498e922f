//! Where lists are read from: files and stdin.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::error::{InputError, MAX_ITEM_BYTES};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file or stdin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum FileOrStdin {
    File(PathBuf),
    Stdin,
}

impl FileOrStdin {
    /// Returns what a path names; `-` is stdin.
    pub(crate) fn of(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::File(path.to_owned()) }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Stdin => "stdin".to_owned(),
        }
    }

    pub(crate) fn cannot_read(&self, source: io::Error) -> InputError {
        InputError::Read { name: self.name(), source }
    }

    /// Looks whether there is something to read, before anything depends on it.
    pub(super) fn check(&self) -> Result<(), InputError> {
        let Self::File(path) = self else { return Ok(()) };
        let metadata = std::fs::metadata(path).map_err(|source| self.cannot_read(source))?;
        if metadata.is_dir() {
            return Err(self.cannot_read(io::ErrorKind::IsADirectory.into()));
        }
        Ok(())
    }

    /// Opens it, behind the byte order mark that some programs begin a file with.
    pub(crate) fn open(&self) -> Result<Box<dyn BufRead>, InputError> {
        let mut reader: Box<dyn BufRead> = match self {
            Self::Stdin => Box::new(io::stdin().lock()),
            Self::File(path) => Box::new(BufReader::new(File::open(path).map_err(|source| self.cannot_read(source))?)),
        };
        if reader.fill_buf().map_err(|source| self.cannot_read(source))?.starts_with(BYTE_ORDER_MARK) {
            reader.consume(BYTE_ORDER_MARK.len());
        }
        Ok(reader)
    }

    /// Reads all of it, which is one item.
    pub(crate) fn read_all(&self) -> Result<Vec<u8>, InputError> {
        let reader: Box<dyn Read> = match self {
            Self::Stdin => Box::new(io::stdin().lock()),
            Self::File(path) => Box::new(File::open(path).map_err(|source| self.cannot_read(source))?),
        };
        let mut bytes = Vec::new();
        reader.take(MAX_ITEM_BYTES + 1).read_to_end(&mut bytes).map_err(|source| self.cannot_read(source))?;
        if bytes.len() as u64 > MAX_ITEM_BYTES {
            return Err(InputError::LongFile { name: self.name() });
        }
        Ok(bytes)
    }
}

/// How many bytes the next item may take from a [`BudgetedReader`].
#[derive(Debug, Clone)]
pub(super) struct ItemBudget(Rc<Cell<u64>>);

impl ItemBudget {
    pub(super) fn reset(&self) {
        self.0.set(MAX_ITEM_BYTES);
    }
}

/// A reader that fails with `FileTooLarge` when an item takes more than its budget, and so much memory.
pub(super) struct BudgetedReader<R> {
    reader: R,
    budget: ItemBudget,
}

impl<R: Read> BudgetedReader<R> {
    pub(super) fn new(reader: R) -> (Self, ItemBudget) {
        let budget = ItemBudget(Rc::new(Cell::new(MAX_ITEM_BYTES)));
        (Self { reader, budget: budget.clone() }, budget)
    }
}

impl<R: Read> Read for BudgetedReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let rest = self.budget.0.get().checked_sub(length as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.budget.0.set(rest);
        Ok(length)
    }
}
