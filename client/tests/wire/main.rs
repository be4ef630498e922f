//! The client on the wire, against a scripted server.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod calls;
mod encoded;
mod imap_stream;
mod retries;
mod support;
