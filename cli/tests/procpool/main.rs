//! The binary as its users meet it: real processes, real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod calls;
mod config;
mod demo;
mod help;
mod leftovers;
mod lists;
mod open_files;
mod pickle;
mod pipes;
mod private;
mod refused;
mod retry;
mod serve;
mod signals;
mod streams;
mod support;
mod usage;
mod worker_check;
mod worker_exec;

#[path = "../../../client/examples/tour.rs"]
#[expect(dead_code, unreachable_pub, reason = "an example has a main function, and its parts are public")]
mod tour;
