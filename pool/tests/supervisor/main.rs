//! The supervisor against real worker processes: every way in which one can fail, and what must be known of it then.
//!
//! The workers are this very program, started again with a role to play: see `roles`.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail it")]

mod commands;
mod crash;
mod dump;
mod inheritance;
mod leftovers;
mod memory;
mod output;
mod programs;
mod protocol;
mod roles;
mod server;
mod support;

#[test]
#[ignore = "not a test: the entry of the worker processes that the tests start"]
fn role() {
    roles::play();
}
