//! The server over real sockets, with the generated client. One behaviour a file.

mod apply;
mod cancel;
mod deadline;
mod drain;
mod errors;
mod health;
mod imap;
mod imap_stream;
mod limits;
mod listener;
mod map;
mod reflection;
mod star_map;
mod support;
mod validation;
