//! Write a procpool worker in Rust: functions that a pool runs for its callers, in a separate process.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use procpool_worker::{Function, Worker};
//!
//! fn main() -> ExitCode {
//!     Worker::new()
//!         .function("power", |base: f64, exponent: f64| base.powf(exponent))
//!         .try_function("parse", |text: String| text.parse::<i64>())
//!         .register(
//!             Function::new("greet", |name: String| format!("Hello, {name}!"))
//!                 .doc("Greets someone.")
//!                 .signature("(name)")
//!                 .example(r#"{"function":"greet","values":["Ada"]}"#)
//!                 .idempotent(),
//!         )
//!         .main()
//! }
//! ```
//!
//! Start it with `procpool serve -- path/to/program`. The smallest worker there is:
//!
//! ```no_run
//! # fn example() -> Result<(), procpool_worker::WorkerError> {
//! procpool_worker::Worker::new().function("power", |base: f64, exponent: f64| base.powf(exponent)).run()
//! # }
//! ```
//!
//! # Functions
//!
//! A function takes up to eight arguments of types that serde can deserialise, and returns one that serde can
//! serialise. One registration serves every kind of call:
//!
//! | call | one argument | several arguments |
//! | --- | --- | --- |
//! | `map`, `imap` with an item | `f(item)` | no: use `starmap` |
//! | `starmap` with a list | `f(list[0])` | `f(list[0], list[1], …)` |
//! | `apply` with arguments | `f(args[0])` | `f(args[0], args[1], …)` |
//!
//! A call may have a common argument, which goes before all others: `f(common, item)`. A parameter of type [`Common`]
//! is decoded once for all items.
//!
//! Items are values (JSON, with numbers that are doubles) or blobs. With the content type `application/json` a blob is
//! decoded as JSON for the same functions; other blobs go to functions that take bytes ([`Function::bytes`]).
//!
//! A function runs on the main thread, one item at a time, and may keep state between items. An `Err` or a panic fails
//! the item, not the worker. The server logs what the function prints. [`current`] returns the running item, and
//! [`cancelled`] whether it is cancelled.
//!
//! # What this crate is not
//!
//! It has no async runtime, starts no processes, and does not decide which item runs where.

#![warn(missing_docs)]

mod adapter;
mod arguments;
mod channel;
mod chunk;
mod common;
mod connect;
mod current;
mod encoding;
mod error;
mod failure;
mod function;
mod input;
mod io_thread;
mod results;
mod state;
mod wait;
mod worker;

pub use adapter::{Adapter, DumpSignal};
pub use arguments::Arguments;
pub use common::{Common, RawCommon};
pub use connect::connect;
pub use current::{CurrentItem, current};
pub use encoding::Encoding;
pub use error::WorkerError;
pub use failure::Failure;
pub use function::{Callable, Function};
pub use input::{Input, Style};
pub use state::cancelled;
pub use worker::Worker;
