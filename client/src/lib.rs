//! The verbs of Python's `multiprocessing.Pool`, run by a procpool server.
//!
//! ```no_run
//! use procpool_client::Client;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let client = Client::connect("http://127.0.0.1:50051").await?;
//!     let results: Vec<String> = client.map("analyze_match", 1..=10).await?;
//!     assert_eq!(results[0], "Result for Match #1: Analysis Clear");
//!     Ok(())
//! }
//! ```
//!
//! Items may be a stream without end:
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = procpool_client::Client::connect("http://127.0.0.1:50051").await?;
//! // Endless input, bounded memory; dropping the stream cancels the job on the server.
//! let mut primes = client.imap_stream::<bool>("is_prime", procpool_client::iter(1_u64..)).await?;
//! while let Some(item) = primes.try_next().await? { /* item.index, item.result */ }
//! # Ok(()) }
//! ```
//!
//! Items are anything that serde can serialize, results anything that it can deserialize; `serde_json::Value` takes
//! what comes. The `_bytes` verbs send and return bytes as they are. `examples/tour.rs` shows every verb at work.
//!
//! # Options
//!
//! Every verb returns a [`Call`], which is awaited with or without options:
//!
//! ```no_run
//! # async fn example(client: procpool_client::Client) -> Result<(), procpool_client::CallError> {
//! use std::time::Duration;
//!
//! let results = client
//!     .map::<u64>("fibonacci", [10, 20, 90])
//!     .item_timeout(Duration::from_secs(1))
//!     .timeout(Duration::from_secs(10))
//!     .collect_errors()
//!     .await?;
//! for result in results {
//!     match result {
//!         Ok(number) => println!("{number}"),
//!         Err(error) => eprintln!("{error}"),
//!     }
//! }
//! # Ok(()) }
//! ```
//!
//! # Errors
//!
//! Three things can go wrong, and they are never mixed. The function failed on an item, or the worker that ran it died:
//! an [`ItemError`], data of that one item, with the remote traceback. The server refused the call or gave it up: a
//! [`CallError`]. [`CallError::ItemFailed`] is the first failed item of a call that was to fail with it.
//!
//! # Refused calls
//!
//! A server that is full, shutting down or without workers refuses calls. Such a call is made again by itself, up to
//! three times, when the server says or with growing random waits, and within the deadline: [`RetryPolicy`]. What may
//! have started is never made again.
//!
//! # Cancellation
//!
//! Dropping a future or a [`ResultStream`] cancels the call on the server: queued items never run, running ones are
//! told to stop. [`Call::timeout`] bounds a call as a whole, streams included.

#![warn(missing_docs)]

pub mod admin;
mod call;
mod client;
mod connect;
mod connection;
mod encoded;
mod encoded_calls;
mod error;
mod item_sender;
mod payload;
mod retry;
mod run;
mod status;
mod stream;
mod transport;

pub use call::{Apply, Call, CollectMap, IMap, Map};
pub use client::{Client, Health};
pub use connect::{ClientBuilder, ConnectError, DEFAULT_MAX_MESSAGE_BYTES};
pub use encoded::{EncodedBatch, EncodedList};
pub use error::{CallError, FieldViolation, ItemError, ItemErrorKind, WorkerUsage};
pub use futures_util::Stream;
/// Makes a stream of an iterator, for [`Client::imap_stream`].
pub use futures_util::stream::iter;
pub use payload::Encoding;
/// A function that the workers registered, and what a server accepts, as `proto/procpool/v1/pool.proto` documents them.
pub use procpool_proto::v1::{Function as FunctionInfo, Limits};
pub use retry::RetryPolicy;
pub use stream::{ItemResult, ResultStream, TakenReporter};
