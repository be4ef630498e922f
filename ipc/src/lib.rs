//! Frames between the server and its workers, and the progress page that they share.
//!
//! This crate encodes and decodes frames and the progress page. Only [`Peer`] blocks. The crate knows nothing about
//! processes, nor the meaning of the frames, which is in `proto/procpool/worker/v1/worker.proto`.
//!
//! # Theory of operation
//!
//! - [`FrameDecoder`] takes bytes and yields frames. It checks a length before it allocates. [`decode_server_frame`]
//!   and [`decode_worker_frame`] keep user data as slices of the frame.
//! - [`encode_run_header`], [`encode_set_common_header`] and [`encode_results_header`] encode everything except the
//!   user data, which follows in a vectored write without a copy.
//! - [`page`] is the progress page: the server reads it ([`page::PageReader`]), the worker writes it
//!   ([`page::PageWriter`]).
//! - [`send_with_fds`] and [`recv_with_fds`] pass the page's file descriptor with the Welcome frame; with
//!   [`take_inherited_socket`] a worker takes its end of the connection.
//! - [`Peer`] is one end of a connection, for tests and tools.

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
/// The messages of the protocol.
pub use procpool_proto::worker::v1 as proto;
pub use receive::receive;

/// The protocol version that this crate implements.
pub const PROTOCOL_VERSION: u32 = 1;

/// The default limit on the length of a frame, in bytes. A chunk may begin in one message of a stream and end in
/// another, of 64 MiB each by default, with up to 16 MiB of whole messages between them.
pub const DEFAULT_MAX_FRAME_BYTES: u32 = 160 << 20;

/// The default size of the journal in the progress page, in bytes.
pub const DEFAULT_JOURNAL_BYTES: u32 = 64 << 10;
