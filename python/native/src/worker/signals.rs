//! Keeps signals away from the threads that the SDK starts: they would be handled there while the main thread, whose
//! handlers and waits they are for, goes on. A dump that comes while another one is written would be lost.

use std::mem::MaybeUninit;
use std::ptr;

/// Signals that a thread causes itself: blocked ones would end the process without a word.
const SYNCHRONOUS: [libc::c_int; 5] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGABRT];

/// The signals that a thread blocks.
#[derive(Clone, Copy)]
pub(super) struct Mask(libc::sigset_t);

/// Blocks signals in this thread, and in those that it starts from now on; returns what was blocked before.
#[expect(unsafe_code, reason = "there is no safe function for it")]
pub(super) fn block() -> Mask {
    let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
    // SAFETY: the sets are written before they are read, and the signals exist, so none of these fails.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for signal in SYNCHRONOUS {
            libc::sigdelset(all.as_mut_ptr(), signal);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
        Mask(before.assume_init())
    }
}

impl Mask {
    /// Makes this the mask of this thread.
    #[expect(unsafe_code, reason = "there is no safe function for it")]
    pub(super) fn restore(&self) {
        // SAFETY: the set was written by the system.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}
