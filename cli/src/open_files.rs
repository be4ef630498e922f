//! How many files the server may have open, and what of them is for connections: not so many that none is left to start
//! a worker with.

use procpool_server::{MAX_ADMIN_CONNECTIONS, ServerConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a worker takes while it starts; afterwards it is 6.
const FILES_PER_WORKER: u64 = 10;
/// The standard streams, the runtime, listeners, the watchdog, telemetry, what is read in /proc, and a few to spare.
const OTHER_FILES: u64 = 32;

/// The limits of open files that this process has come with and has now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenFiles {
    /// The soft limit before it was raised. Workers get it back: a program that uses `select` can do with no more.
    pub(crate) soft_limit: Option<u64>,
    limit: u64,
}

impl OpenFiles {
    /// Raises the soft limit to the hard one.
    pub(crate) fn raise() -> Self {
        let Rlimit { current: soft_limit, maximum } = getrlimit(Resource::Nofile);
        let raised = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        if let Err(error) = raised {
            tracing::warn!(%error, soft_limit, maximum, "cannot raise the limit of open files");
        }
        let limit = if raised.is_ok() { maximum } else { soft_limit };
        Self { soft_limit, limit: limit.unwrap_or(u64::MAX) }
    }

    /// Lowers the limit on connections to what `num_workers` leave, if that is less; at least 1.
    pub(crate) fn limit_connections(self, config: &mut ServerConfig, num_workers: u64) {
        let admin_files = if config.admin_listen.is_some() { MAX_ADMIN_CONNECTIONS as u64 } else { 0 };
        let reserved = OTHER_FILES + admin_files + num_workers * FILES_PER_WORKER;
        let left = u32::try_from(self.limit.saturating_sub(reserved).max(1)).unwrap_or(u32::MAX);
        if left < config.max_connections {
            tracing::warn!(
                max_connections = config.max_connections,
                connections = left,
                limit = self.limit,
                reserved,
                "the limit of open files leaves room for fewer connections than max_connections; raise it (ulimit -Hn)"
            );
            config.max_connections = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections(limit: u64, num_workers: u64, has_admin_port: bool) -> u32 {
        let mut config = ServerConfig { max_connections: 1_000, ..ServerConfig::default() };
        config.admin_listen = has_admin_port.then(|| ([127, 0, 0, 1], 0).into());
        OpenFiles { soft_limit: None, limit }.limit_connections(&mut config, num_workers);
        config.max_connections
    }

    #[test]
    fn connections_get_what_workers_and_the_server_leave() {
        assert_eq!(connections(u64::MAX, 4_096, true), 1_000);
        assert_eq!(connections(1_052, 2, false), 1_000);
        assert_eq!(connections(1_051, 2, false), 999);
        assert_eq!(connections(1_051, 2, true), 935);
        assert_eq!(connections(64, 2, false), 12);
        assert_eq!(connections(64, 100, true), 1);
    }
}
