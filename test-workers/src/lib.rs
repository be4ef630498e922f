//! Tiny worker programs, one per vice, and what tests need to use them.
//!
//! The programs are in `src/bin/`; each says in its first line what it does wrong. Those whose vice is in the protocol
//! speak it by hand ([`HandWorker`]). All of them end by themselves after a minute ([`start_watchdog`]), whatever a
//! test forgets.

mod fake_server;
mod grandchild;
mod hand_worker;
mod support;

pub use fake_server::{ChunkOutcome, FakeServer, JOURNAL_BYTES, blob_list, welcome_frame};
pub use grandchild::{Session, be_grandchild_if_asked, spawn_grandchild};
pub use hand_worker::{HandWorker, ONCE};
pub use support::{GroupGuard, Marker, path, resident_bytes, start_watchdog, wait_until};
