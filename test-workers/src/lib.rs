//! Tiny worker programs, one per fault, and helpers for tests that use them.
//!
//! The programs are in `src/bin/`; the first line of each says what it does wrong. Those that violate the protocol use
//! [`HandWorker`] instead of the SDK. All of them exit after a minute ([`start_watchdog`]), even if a test forgets
//! them.

mod fake_server;
mod grandchild;
mod hand_worker;
mod support;

pub use fake_server::{ChunkOutcome, FakeServer, JOURNAL_BYTES, blob_list, welcome_frame};
pub use grandchild::{Session, be_grandchild_if_asked, spawn_grandchild};
pub use hand_worker::{HandWorker, ONCE};
pub use support::{GroupGuard, Marker, path, resident_bytes, start_watchdog, wait_until};
