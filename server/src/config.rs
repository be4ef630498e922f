//! The settings of the server, with their defaults. Plain data; nothing here reads the environment.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::operators::Operators;

/// The largest message that gRPC's length prefix can announce, less what an envelope may add.
const LARGEST_MESSAGE_BYTES: u32 = u32::MAX - (1 << 20);
/// A message must have room for an error's details.
const SMALLEST_MESSAGE_BYTES: u32 = 64 << 10;

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address. Port 0: any free port, told by [`crate::App::local_addresses`].
    Tcp(SocketAddr),
    /// The path of a Unix socket. Its folder must be there. A stale socket is replaced, and one whose file is removed
    /// is put back.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "http://{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Where telemetry goes. The SDK of OpenTelemetry reads its other settings from the environment itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The OTLP/gRPC collector of the traces, such as `http://localhost:4317`. `None` (the default): no traces.
    pub traces_endpoint: Option<String>,
    /// The OTLP/gRPC collector of the metrics. `None` (the default): they are sent nowhere.
    pub metrics_endpoint: Option<String>,
}

/// How the server listens, what it accepts and how it ends.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Where to listen. Default: TCP port 50051 of the loopback interface.
    pub listen: Vec<ListenAddress>,
    /// Where to serve metrics and health in plain text, apart from the calls. `None` (the default): nowhere.
    pub admin_listen: Option<SocketAddr>,
    /// Who may use the operators' service. Default: callers on this machine.
    pub operators: Operators,
    /// Where telemetry goes. Default: nowhere.
    pub telemetry: TelemetryConfig,
    /// The largest message, in bytes, either way. Default 64 MiB.
    pub max_message_bytes: u32,
    /// The most bytes of requests that are being received at a time, over all calls. Default 256 MiB.
    pub max_request_bytes_in_flight: u32,
    /// The most connections at a time; more wait. One that has had no call for `keepalive_interval` is asked to leave for
    /// them. Default 1,000.
    pub max_connections: u32,
    /// The most calls at a time on one connection. Default 256.
    pub max_concurrent_streams: u32,
    /// The most calls at a time over all connections, but for those that ask for the health and those of operators; more
    /// are refused. Default 10,000.
    pub max_calls: u32,
    /// A new connection must send the HTTP/2 preface within this time. Default 5 s.
    pub first_byte_timeout: Duration,
    /// Ping a connection that has been quiet for this long. Default 30 s.
    pub keepalive_interval: Duration,
    /// Close a connection that leaves a ping unanswered for this long. Default 20 s.
    pub keepalive_timeout: Duration,
    /// Ask a client to reconnect after this time, so that it may find another server; calls in progress go on.
    /// Spread by 10 % either way. `None`: never. Default 30 min.
    pub max_connection_age: Option<Duration>,
    /// Give up a call whose reader has taken nothing for this long while there was something to take, and a call of
    /// whose request nothing has come for this long while it was not complete. Default 60 s.
    pub stream_stall_timeout: Duration,
    /// End the server when a pool has been unable to start any worker for this long. `None`, the default: never.
    pub degraded_timeout: Option<Duration>,
    /// How long calls in progress may go on after the server was told to drain. Default 30 s.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 50051)))],
            admin_listen: None,
            operators: Operators::default(),
            telemetry: TelemetryConfig::default(),
            max_message_bytes: 64 << 20,
            max_request_bytes_in_flight: 256 << 20,
            max_connections: 1_000,
            max_concurrent_streams: 256,
            max_calls: 10_000,
            first_byte_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            max_connection_age: Some(Duration::from_secs(30 * 60)),
            stream_stall_timeout: Duration::from_secs(60),
            degraded_timeout: None,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {problem}")]
pub struct ConfigError {
    /// The name of the setting.
    pub setting: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ServerConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    ///
    /// With the first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |setting, problem: &str| Err(ConfigError { setting, problem: problem.to_owned() });
        if self.listen.is_empty() {
            return wrong("listen", "at least one address is needed");
        }
        if !(SMALLEST_MESSAGE_BYTES..=LARGEST_MESSAGE_BYTES).contains(&self.max_message_bytes) {
            return wrong("max_message_bytes", "must be from 64 KiB to 4095 MiB");
        }
        if self.max_request_bytes_in_flight < self.max_message_bytes {
            return wrong("max_request_bytes_in_flight", "must be at least max_message_bytes");
        }
        let counts = [
            ("max_connections", self.max_connections),
            ("max_concurrent_streams", self.max_concurrent_streams),
            ("max_calls", self.max_calls),
        ];
        if let Some((setting, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return wrong(setting, "must be at least 1");
        }
        let positive = [
            ("first_byte_timeout", self.first_byte_timeout),
            ("keepalive_interval", self.keepalive_interval),
            ("keepalive_timeout", self.keepalive_timeout),
            ("max_connection_age", self.max_connection_age.unwrap_or(Duration::MAX)),
            ("stream_stall_timeout", self.stream_stall_timeout),
        ];
        match positive.iter().find(|(_, duration)| duration.is_zero()) {
            Some((setting, _)) => wrong(setting, "must be longer than 0"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_valid() {
        assert_eq!(ServerConfig::default().validate(), Ok(()));
    }

    #[test]
    fn a_setting_that_cannot_work_is_named() {
        let setting_of = |change: fn(&mut ServerConfig)| {
            let mut config = ServerConfig::default();
            change(&mut config);
            config.validate().unwrap_err().setting
        };
        assert_eq!(setting_of(|config| config.listen.clear()), "listen");
        assert_eq!(setting_of(|config| config.max_message_bytes = 0), "max_message_bytes");
        assert_eq!(setting_of(|config| config.max_message_bytes = u32::MAX), "max_message_bytes");
        assert_eq!(setting_of(|config| config.max_request_bytes_in_flight = 1), "max_request_bytes_in_flight");
        assert_eq!(setting_of(|config| config.max_connections = 0), "max_connections");
        assert_eq!(setting_of(|config| config.max_concurrent_streams = 0), "max_concurrent_streams");
        assert_eq!(setting_of(|config| config.max_calls = 0), "max_calls");
        assert_eq!(setting_of(|config| config.first_byte_timeout = Duration::ZERO), "first_byte_timeout");
        assert_eq!(setting_of(|config| config.keepalive_interval = Duration::ZERO), "keepalive_interval");
        assert_eq!(setting_of(|config| config.keepalive_timeout = Duration::ZERO), "keepalive_timeout");
        assert_eq!(setting_of(|config| config.max_connection_age = Some(Duration::ZERO)), "max_connection_age");
        assert_eq!(setting_of(|config| config.stream_stall_timeout = Duration::ZERO), "stream_stall_timeout");
    }
}
