//! The pool driver with scripted workers, on paused time: no process, no socket, no clock.

#![expect(clippy::unwrap_used, reason = "what should not happen fails the test")]
#![expect(clippy::disallowed_methods, reason = "the tasks of a test end with its runtime")]

mod admin;
mod calls;
mod commons;
mod endings;
mod functions;
mod jobs;
mod many_jobs;
mod memory;
mod observer;
mod results;
mod scripted;
mod streams;
