//! Connecting: addresses, and the settings of a connection.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::error::{CallError, innermost};
use crate::retry::{RetryNotice, RetryPolicy};

/// The default limit on one message, either way.
pub const DEFAULT_MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address cannot be used.
    #[error("{address:?} is no address of a server: {problem}; use http://HOST:PORT, HOST:PORT or unix:PATH")]
    InvalidAddress {
        /// The address as it was given.
        address: String,
        /// What is wrong with the address, as a clause.
        problem: String,
    },
    /// No server answers at the address.
    #[error("no server answers at {address}: {problem}")]
    Unreachable {
        /// The address as it was given.
        address: String,
        /// The innermost cause, such as `Connection refused`.
        problem: String,
        /// The error of the transport, with its causes.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The socket exists, and this process lacks the permission to connect to it.
    #[error(
        "this user may not open the socket of the server at {address}: connecting needs permission to write to the \
         socket, and to search every folder above it"
    )]
    NotPermitted {
        /// The address as it was given.
        address: String,
        /// The error of the transport, with its causes.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(String),
    Unix(PathBuf),
}

impl Address {
    fn parse(address: &str) -> Result<Self, ConnectError> {
        let invalid =
            |problem: &str| ConnectError::InvalidAddress { address: address.to_owned(), problem: problem.to_owned() };
        if let Some(path) = address.strip_prefix("unix:") {
            // The gRPC name syntax knows unix:relative, unix:/absolute and unix:///absolute.
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err(invalid("the path is empty"));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let authority = match address.split_once("://") {
            None => address,
            Some(("http", rest)) => rest.trim_end_matches('/'),
            Some(("https", _)) => return Err(invalid("TLS is not supported")),
            Some(_) => return Err(invalid("the scheme is unknown")),
        };
        let parsed: http::uri::Authority = authority.parse().map_err(|_| invalid("it does not parse"))?;
        if parsed.port_u16().is_none() {
            return Err(invalid("the port is missing"));
        }
        Ok(Self::Tcp(format!("http://{authority}")))
    }
}

/// The settings of a connection.
///
/// ```
/// use std::time::Duration;
/// use procpool_client::Client;
///
/// let builder = Client::builder().connect_timeout(Duration::from_secs(2)).default_timeout(Duration::from_secs(60));
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    connect_timeout: Duration,
    keepalive_interval: Duration,
    keepalive_timeout: Duration,
    pub(crate) max_message_bytes: usize,
    pub(crate) default_timeout: Option<Duration>,
    pub(crate) retry: RetryPolicy,
    pub(crate) retry_notice: Option<RetryNotice>,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            max_message_bytes: DEFAULT_MAX_MESSAGE_BYTES,
            default_timeout: None,
            retry: RetryPolicy::default(),
            retry_notice: None,
        }
    }
}

impl ClientBuilder {
    /// Sets how long to wait for a connection. Default 5 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how often a connection with calls in progress is checked, and how long the answer may take before the
    /// connection counts as dead. Default 30 s and 20 s.
    #[must_use]
    pub fn keepalive(mut self, interval: Duration, timeout: Duration) -> Self {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// Sets the largest message, in bytes, either way. Default 64 MiB; a server has a limit of its own
    /// ([`Client::limits`](crate::Client::limits)).
    #[must_use]
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the longest time for calls that do not set their own. Default: none.
    #[must_use]
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.default_timeout = Some(timeout);
        self
    }

    /// Sets when refused calls are made again. Default: up to three times, [`RetryPolicy::default`].
    #[must_use]
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Sets what is called before a refused call is made again: with the refusal, and the wait
    /// until then. It must not block.
    #[must_use]
    pub fn on_retry(mut self, notice: impl Fn(&CallError, Duration) + Send + Sync + 'static) -> Self {
        self.retry_notice = Some(RetryNotice::new(notice));
        self
    }

    /// Checks an address.
    pub(crate) fn check(&self, address: &str) -> Result<(), ConnectError> {
        self.endpoint(address).map(|_| ())
    }

    /// Connects, and waits until somebody answers.
    pub(crate) async fn open(&self, address: &str) -> Result<Channel, ConnectError> {
        let connected = match self.endpoint(address)? {
            (endpoint, None) => endpoint.connect().await,
            (endpoint, Some(path)) => endpoint.connect_with_connector(unix_connector(path)).await,
        };
        connected.map_err(|error| {
            let address = address.to_owned();
            if is_not_permitted(&error) {
                return ConnectError::NotPermitted { address, source: error.into() };
            }
            ConnectError::Unreachable { address, problem: innermost(&error), source: error.into() }
        })
    }

    /// Returns a channel that connects with its first call.
    pub(crate) fn open_lazy(&self, address: &str) -> Result<Channel, ConnectError> {
        Ok(match self.endpoint(address)? {
            (endpoint, None) => endpoint.connect_lazy(),
            (endpoint, Some(path)) => endpoint.connect_with_connector_lazy(unix_connector(path)),
        })
    }

    /// Returns the endpoint of an address, and the path if it is a Unix socket.
    fn endpoint(&self, address: &str) -> Result<(Endpoint, Option<PathBuf>), ConnectError> {
        let (uri, path) = match Address::parse(address)? {
            Address::Tcp(uri) => (uri, None),
            // The name for the `:authority` header; grpc-go sends the same for a Unix socket.
            Address::Unix(path) => ("http://localhost".to_owned(), Some(path)),
        };
        let invalid = |error: tonic::transport::Error| ConnectError::InvalidAddress {
            address: address.to_owned(),
            problem: innermost(&error),
        };
        let endpoint = Endpoint::from_shared(uri).map_err(invalid)?;
        let endpoint = endpoint.user_agent(concat!("procpool-client/", env!("CARGO_PKG_VERSION"))).map_err(invalid)?;
        let endpoint = endpoint
            .connect_timeout(self.connect_timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(self.keepalive_interval)
            .keep_alive_timeout(self.keepalive_timeout)
            // Large items flow without waiting for the window; the server is still bounded by the items that the reader
            // takes.
            .initial_stream_window_size(4 << 20)
            .initial_connection_window_size(16 << 20);
        Ok((endpoint, path))
    }
}

/// A connector that ignores the URI and connects to a path.
fn unix_connector(
    path: PathBuf,
) -> impl tower::Service<
    http::Uri,
    Response = TokioIo<UnixStream>,
    Error = std::io::Error,
    Future: Future<Output = std::io::Result<TokioIo<UnixStream>>> + Send,
> + Send
+ 'static {
    service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { Ok(TokioIo::new(UnixStream::connect(path).await?)) }
    })
}

/// Returns whether the system says that this process may not connect.
fn is_not_permitted(error: &(dyn std::error::Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let mut kinds = causes.filter_map(|cause| Some(cause.downcast_ref::<std::io::Error>()?.kind()));
    kinds.any(|kind| kind == std::io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let tcp = |uri: &str| Some(Address::Tcp(uri.to_owned()));
        let unix = |path: &str| Some(Address::Unix(PathBuf::from(path)));
        for (address, expected) in [
            ("http://127.0.0.1:50051", tcp("http://127.0.0.1:50051")),
            ("http://127.0.0.1:50051/", tcp("http://127.0.0.1:50051")),
            ("localhost:50051", tcp("http://localhost:50051")),
            ("[::1]:50051", tcp("http://[::1]:50051")),
            ("unix:/run/procpool.sock", unix("/run/procpool.sock")),
            ("unix:///run/procpool.sock", unix("/run/procpool.sock")),
            ("unix:procpool.sock", unix("procpool.sock")),
            ("unix:", None),
            ("", None),
            ("localhost", None),
            ("https://localhost:50051", None),
            ("ftp://localhost:50051", None),
            ("a b:1", None),
        ] {
            assert_eq!(Address::parse(address).ok(), expected, "{address:?}");
        }
    }

    /// As the transport does it: the system's error is inside.
    #[derive(Debug, thiserror::Error)]
    #[error("transport error")]
    struct Transport(#[source] std::io::Error);

    #[test]
    fn a_socket_that_one_may_not_open_is_told_from_one_that_is_not_there() {
        use std::io::ErrorKind;
        for (kind, expected) in
            [(ErrorKind::PermissionDenied, true), (ErrorKind::ConnectionRefused, false), (ErrorKind::NotFound, false)]
        {
            assert_eq!(is_not_permitted(&Transport(kind.into())), expected, "{kind:?}");
        }
    }
}
