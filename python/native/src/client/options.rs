//! The options that calls and streams have in common.

use std::time::Duration;

use bytes::Bytes;
use procpool_client::{Call, IMap, Map};

/// How a call is made.
#[derive(Debug, Default)]
pub(crate) struct Options {
    /// The argument that all items share.
    pub(crate) common: Option<Bytes>,
    pub(crate) content_type: String,
    /// 0: the server's choice.
    pub(crate) chunk_size: u32,
    pub(crate) item_timeout: Option<Duration>,
    /// 0: the server's choice.
    pub(crate) max_attempts: u32,
    pub(crate) priority: i32,
    pub(crate) timeout: Option<Duration>,
}

impl Options {
    fn apply<V>(&self, call: Call<V>) -> Call<V> {
        let mut call = call
            .content_type(self.content_type.as_str())
            .chunk_size(self.chunk_size)
            .max_attempts(self.max_attempts)
            .priority(self.priority);
        if let Some(timeout) = self.item_timeout {
            call = call.item_timeout(timeout);
        }
        if let Some(timeout) = self.timeout {
            call = call.timeout(timeout);
        }
        call
    }

    pub(crate) fn of_map(self, call: Call<Map<Bytes>>) -> Call<Map<Bytes>> {
        let call = self.apply(call);
        if let Some(common) = self.common { call.common_bytes(common) } else { call }
    }

    pub(crate) fn of_imap(self, call: Call<IMap<Bytes>>) -> Call<IMap<Bytes>> {
        let call = self.apply(call);
        if let Some(common) = self.common { call.common_bytes(common) } else { call }
    }
}
