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
pub(crate) enum Place {
    File(PathBuf),
    Stdin,
}

impl Place {
    /// Returns the place of a path; `-` is stdin.
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

/// How many bytes the next item may take from a [`Metered`] reader.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Rc<Cell<u64>>);

impl Allowance {
    pub(super) fn renew(&self) {
        self.0.set(MAX_ITEM_BYTES);
    }
}

/// A reader that fails with `FileTooLarge` when an item takes more than its allowance, and so much memory.
pub(super) struct Metered<R> {
    reader: R,
    allowance: Allowance,
}

impl<R: Read> Metered<R> {
    pub(super) fn new(reader: R) -> (Self, Allowance) {
        let allowance = Allowance(Rc::new(Cell::new(MAX_ITEM_BYTES)));
        (Self { reader, allowance: allowance.clone() }, allowance)
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(buffer)?;
        let rest = self.allowance.0.get().checked_sub(length as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        self.allowance.0.set(rest);
        Ok(length)
    }
}
