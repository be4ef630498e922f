//! The worker's side of the page: a shared mapping. It needs most of the unsafe code of this crate; the rest is in
//! `receive` and `descriptor`.
//!
//! # Why this is sound
//!
//! - The size of the mapped file was checked, and its seals forbid shrinking it, so no access faults.
//! - Only this type writes to it; it is not cloneable and needs `&mut self`. A child process inherits neither the
//!   mapping nor the descriptor. The server only reads.
//! - The words are accessed as atomics: they are aligned, since the mapping is.
//!
//! # Why the page is correct after a kill at any instruction
//!
//! A signal that ends a thread ends it between two instructions: every store before that point in program order has
//! happened, none after it. The reader reads after the process is gone, when all of its stores are visible. So only the
//! compiler could reorder stores: a store of a word is a `Release`, so earlier stores stay before it (the record before
//! the length that makes it valid, the result of one item before the begin of the next), and a compiler fence after the
//! begun word keeps the user's function, which may be inlined, after it.

use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::{io, slice};

use rustix::fs::SealFlags;
use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{BEGUN_AT_OFFSET, BEGUN_OFFSET, JOURNAL_FIRST_OFFSET, JOURNAL_LEN_OFFSET, JOURNAL_OFFSET};

/// Writes the progress page of this worker.
#[derive(Debug)]
pub struct PageWriter {
    base: NonNull<u8>,
    mapped_bytes: usize,
    journal_used: usize,
}

#[expect(unsafe_code, reason = "a raw pointer is not Send by itself")]
// SAFETY: the mapping belongs to the process, not to a thread, and this type is its only user.
unsafe impl Send for PageWriter {}

#[expect(unsafe_code, reason = "mapping shared memory and writing to it")]
impl PageWriter {
    /// Maps the page that was sent with the Welcome frame. The descriptor may be closed afterwards.
    ///
    /// # Errors
    ///
    /// If the file is smaller than the Welcome frame said or could be made smaller, or the system refuses to map it.
    pub fn map(page: impl AsFd, journal_bytes: u32) -> io::Result<Self> {
        let mapped_bytes = JOURNAL_OFFSET + journal_bytes as usize;
        let file_bytes = rustix::fs::fstat(&page)?.st_size;
        if usize::try_from(file_bytes).unwrap_or(0) < mapped_bytes {
            let problem = format!("the progress page has {file_bytes} bytes instead of {mapped_bytes}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        }
        if !rustix::fs::fcntl_get_seals(&page)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the progress page could shrink"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that is in use.
        let address = unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                mapped_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &page,
                0,
            )?
        };
        let base = NonNull::new(address.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let writer = Self { base, mapped_bytes, journal_used: 0 };
        // A process forked by user code must not be able to write the page. SAFETY: the range is exactly the mapping
        // made above; this process keeps it.
        unsafe { rustix::mm::madvise(address, mapped_bytes, Advice::LinuxDontFork)? };
        Ok(writer)
    }

    /// Records when the next item begins, by [`monotonic_ns`](super::monotonic_ns). Call it before
    /// [`PageWriter::begin`].
    pub fn stamp_start(&mut self, now_ns: u64) {
        self.word(BEGUN_AT_OFFSET).store(now_ns, Ordering::Release);
    }

    /// Records that the item with this sequence number begins.
    pub fn begin(&mut self, sequence: u64) {
        self.word(BEGUN_OFFSET).store(sequence, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
    }

    /// Appends a record, in two parts, to the journal and makes it valid. `sequence` is that of its item; successive
    /// records must have successive numbers. Returns `false`, and does nothing, if the record does not fit.
    pub fn append(&mut self, sequence: u64, header: &[u8], content: &[u8]) -> bool {
        let offset = JOURNAL_OFFSET + self.journal_used;
        let length = header.len() + content.len();
        if length > self.mapped_bytes - offset {
            return false;
        }
        if self.journal_used == 0 {
            self.word(JOURNAL_FIRST_OFFSET).store(sequence, Ordering::Relaxed);
        }
        // SAFETY: `offset + length` is within the mapping, as was checked; the sources are other memory, since the
        // journal is lent out only by a borrow of this writer.
        unsafe {
            let target = self.base.as_ptr().add(offset);
            std::ptr::copy_nonoverlapping(header.as_ptr(), target, header.len());
            std::ptr::copy_nonoverlapping(content.as_ptr(), target.add(header.len()), content.len());
        }
        self.journal_used += length;
        self.word(JOURNAL_LEN_OFFSET).store(self.journal_used as u64, Ordering::Release);
        true
    }

    /// Returns how many bytes of records the journal can still take.
    pub fn num_bytes_free(&self) -> usize {
        self.mapped_bytes - JOURNAL_OFFSET - self.journal_used
    }

    /// Returns the records in the journal, in the form of `Results.items`.
    pub fn journal(&self) -> &[u8] {
        // SAFETY: the range is within the mapping and was written by `append`; it can't change while it is borrowed.
        unsafe { slice::from_raw_parts(self.base.as_ptr().add(JOURNAL_OFFSET), self.journal_used) }
    }

    /// Clears the journal, after its records have been sent.
    pub fn clear(&mut self) {
        self.journal_used = 0;
        self.word(JOURNAL_LEN_OFFSET).store(0, Ordering::Release);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset + size_of::<u64>() <= JOURNAL_OFFSET && offset.is_multiple_of(align_of::<AtomicU64>()));
        // SAFETY: the offsets are constants within the first 4096 bytes of the mapping and multiples of 8, and the
        // mapping is aligned to pages. Nothing accesses the words but as atomics.
        unsafe { AtomicU64::from_ptr(self.base.as_ptr().add(offset).cast()) }
    }
}

#[expect(unsafe_code, reason = "undoing the mapping")]
impl Drop for PageWriter {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrowed from it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
        debug_assert!(unmapped.is_ok(), "the mapping is whole");
    }
}
