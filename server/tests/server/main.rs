//! The server over real sockets, with the generated client. One behaviour a file.
//!
//! `cfg(test)` changes nothing but tells clippy that helpers, too, may unwrap.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod admin_port;
#[cfg(test)]
mod apply;
#[cfg(test)]
mod attacks;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod common;
#[cfg(test)]
mod deadline;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod dump;
#[cfg(test)]
mod error_table;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod health;
#[cfg(test)]
mod imap;
#[cfg(test)]
mod imap_stream;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod listener;
#[cfg(test)]
mod map;
#[cfg(test)]
mod media_types;
#[cfg(test)]
mod nested;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod pools;
#[cfg(test)]
mod reflection;
#[cfg(test)]
mod results;
#[cfg(test)]
mod star_map;
#[cfg(test)]
mod support;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod validation;
#[cfg(test)]
mod workers;
