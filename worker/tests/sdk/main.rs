//! The worker SDK against a server that the tests play. One program, so that the tests share what plays the server.

mod adapter;
mod calls;
mod cancel;
mod common;
mod current;
mod dynamic;
mod in_thread;
mod protocol;
mod session;
