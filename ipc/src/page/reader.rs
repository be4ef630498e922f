//! The server's side of the page: reads of the file, which return the contents of the worker's mapping.

use std::io;
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use rustix::fs::{MemfdFlags, SealFlags};

use super::{BEGUN_AT_OFFSET, BEGUN_OFFSET, JOURNAL_FIRST_OFFSET, JOURNAL_LEN_OFFSET, JOURNAL_OFFSET};

/// Reads the progress page of one worker.
#[derive(Debug)]
pub struct PageReader {
    memory: OwnedFd,
    journal_bytes: u32,
}

impl PageReader {
    /// Creates a page; returns its reader and the descriptor to send to the worker. Nobody can change its size.
    ///
    /// # Errors
    ///
    /// If the system is out of memory or descriptors.
    pub fn create(journal_bytes: u32) -> io::Result<(Self, OwnedFd)> {
        let memory = rustix::fs::memfd_create("procpool-progress", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memory, JOURNAL_OFFSET as u64 + u64::from(journal_bytes))?;
        rustix::fs::fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let to_send = memory.try_clone()?;
        Ok((Self { memory, journal_bytes }, to_send))
    }

    /// Returns the sequence number of the item that began last; 0 if none has begun. Exact when the worker is dead.
    ///
    /// # Errors
    ///
    /// As `pread(2)`.
    pub fn begun(&self) -> io::Result<u64> {
        self.word(BEGUN_OFFSET)
    }

    /// Returns when the item that began last began, by [`monotonic_ns`](super::monotonic_ns). Valid only if the Run had
    /// `stamp_start`.
    ///
    /// While the worker lives, read [`PageReader::begun`] first: the start time is then that of this item or a later
    /// one, so no item appears to have run longer than it has.
    ///
    /// # Errors
    ///
    /// As `pread(2)`.
    pub fn begun_at_ns(&self) -> io::Result<u64> {
        self.word(BEGUN_AT_OFFSET)
    }

    /// Returns the results that a dead worker had finished but may not have sent, in the form of `Results.items`, and
    /// the sequence number of the first. `None` if there are none.
    ///
    /// If the worker died between sending its results and clearing the journal, these results were sent.
    ///
    /// # Errors
    ///
    /// As `pread(2)`; `InvalidData` if the journal claims to be longer than it can be.
    pub fn journal(&self) -> io::Result<Option<(u64, Bytes)>> {
        let length = self.word(JOURNAL_LEN_OFFSET)?;
        if length == 0 {
            return Ok(None);
        }
        let Some(length) = u32::try_from(length).ok().filter(|&length| length <= self.journal_bytes) else {
            let problem = format!("the journal claims {length} bytes and has {}", self.journal_bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        };
        let first_sequence = self.word(JOURNAL_FIRST_OFFSET)?;
        let mut journal = BytesMut::zeroed(length as usize);
        self.read_exactly(&mut journal, JOURNAL_OFFSET)?;
        Ok(Some((first_sequence, journal.freeze())))
    }

    /// Reads a word twice until both agree: the kernel's copy of a living worker's word need not be atomic.
    fn word(&self, offset: usize) -> io::Result<u64> {
        let mut last = self.word_once(offset)?;
        // If the worker begins an item between any two reads, any of the values will do.
        for _ in 0..8 {
            let word = self.word_once(offset)?;
            if word == last {
                break;
            }
            last = word;
        }
        Ok(last)
    }

    fn word_once(&self, offset: usize) -> io::Result<u64> {
        let mut word = [0; 8];
        self.read_exactly(&mut word, offset)?;
        Ok(u64::from_ne_bytes(word))
    }

    fn read_exactly(&self, mut target: &mut [u8], mut offset: usize) -> io::Result<()> {
        while !target.is_empty() {
            match rustix::io::pread(&self.memory, &mut *target, offset as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    target = &mut target[count..];
                    offset += count;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
