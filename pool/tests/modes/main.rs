//! The failure modes that a pool of processes has to bear, each brought about with a real child from `test-workers`.
//!
//! After each, [`TestPool::assert_whole_again`](support::TestPool::assert_whole_again) checks what must hold after all: every
//! slot has a worker that works, every item that was accepted has had one outcome, and what was given out for calls is
//! back. `docs/reliability.md` has the list of the modes, the bounds, and where the others are tested: those of a server
//! as a whole (drain, its own death, the process tree) need one.
//!
//! No upper bound on a time is asserted, since the machine may have other things to do: how long things take is measured in
//! `chaos/` and `bench/`. The tests may share a process, as with `cargo test`.

#![expect(clippy::unwrap_used, reason = "what should not happen fails the test")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod callers;
mod crashes;
mod hangs;
mod poison;
mod protocol;
mod recycling;
mod slots;
mod starts;
mod support;
