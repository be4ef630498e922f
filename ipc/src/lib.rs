//! Frames between the server and its workers, and the page of memory that they share.
//!
//! This crate knows how bytes become frames and what the progress page looks like. It does no waiting of its own but for [`Peer`], knows
//! nothing of processes, and gives the frames no meaning: `proto/procpool/worker/v1/worker.proto` does.
//!
//! # Theory of operation
//!
//! - [`FrameDecoder`] is fed with bytes and yields frames. It checks a length before it makes room for it, and splits
//!   frames off its buffer without copying; [`decode_server_frame`] and [`decode_worker_frame`] keep user data as
//!   slices of that buffer.
//! - [`encode_run_header`], [`encode_set_common_header`] and [`encode_results_header`] write everything but the user data, which then follows in a
//!   vectored write, uncopied.
//! - [`page`] is the progress page: the server reads it ([`page::PageReader`]), the worker writes it
//!   ([`page::PageWriter`]).
//! - [`send_with_fds`] and [`recv_with_fds`] carry the page's file descriptor beside the Welcome frame, and
//!   [`take_inherited_socket`] is how a worker gets its end of the connection.
//! - [`Peer`] is one end of a connection, for who plays it by hand.

mod descriptor;
mod frame;
pub mod page;
mod peer;
mod receive;

pub use descriptor::{MAX_FDS, recv_with_fds, send_with_fds, take_inherited_socket};
pub use frame::{
    FrameDecoder, FrameError, decode_server_frame, decode_worker_frame, encode_results_header, encode_run_header,
    encode_server_frame, encode_set_common_header, encode_worker_frame,
};
pub use peer::{Frame, Peer};
/// The frames.
pub use procpool_proto::worker::v1 as proto;
pub use receive::receive;

/// The version of the protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// The default limit on the length of a frame, in bytes. A chunk may begin in one message of a stream and end in
/// another, of 64 MiB each by default, with up to 16 MiB of whole messages between them.
pub const DEFAULT_MAX_FRAME_BYTES: u32 = 160 << 20;

/// The default size of the journal in the progress page, in bytes.
pub const DEFAULT_JOURNAL_BYTES: u32 = 64 << 10;
