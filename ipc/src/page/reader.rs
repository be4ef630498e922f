//! The server's side of the page: plain reads of the file, which see what the worker's mapping holds.

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
    /// Makes a page; returns its reader and the descriptor to send to the worker. Its size can't be changed by anyone.
    ///
    /// # Errors
    ///
    /// If the system has no memory or no descriptor left.
    pub fn create(journal_bytes: u32) -> io::Result<(Self, OwnedFd)> {
        let memory = rustix::fs::memfd_create("procpool-progress", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        rustix::fs::ftruncate(&memory, JOURNAL_OFFSET as u64 + u64::from(journal_bytes))?;
        rustix::fs::fcntl_add_seals(&memory, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        let to_send = memory.try_clone()?;
        Ok((Self { memory, journal_bytes }, to_send))
    }

    /// Returns the sequence number of the item begun last; 0 if none has begun. Exact when the worker is dead.
    ///
    /// # Errors
    ///
    /// As `pread(2)`.
    pub fn begun(&self) -> io::Result<u64> {
        self.word(BEGUN_OFFSET)
    }

    /// Returns when the item begun last began, by [`monotonic_ns`](super::monotonic_ns). Only of a worker that was
    /// asked to stamp.
    ///
    /// While the worker lives, read [`PageReader::begun`] first: the start time is then that item's or a later one's,
    /// and no item seems to have run longer than it has.
    ///
    /// # Errors
    ///
    /// As `pread(2)`.
    pub fn begun_at_ns(&self) -> io::Result<u64> {
        self.word(BEGUN_AT_OFFSET)
    }

    /// Returns the results that a dead worker had finished and perhaps not sent, in the form of `Results.items`, and
    /// the sequence number of the first of them. `None` if there are none.
    ///
    /// A worker that died between sending its results and emptying the journal leaves results here that were sent.
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

    /// Reads a word twice until both agree: the copy that the kernel makes of a living worker's word need not be atomic.
    fn word(&self, offset: usize) -> io::Result<u64> {
        let mut last = self.word_once(offset)?;
        // A worker that begins an item between any two of these reads is moving along; its last word is as good as any.
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
