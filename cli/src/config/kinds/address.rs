//! Addresses to listen on.

use std::net::{Ipv4Addr, SocketAddr};

use procpool_server::ListenAddress;

use crate::config::kind::{Kind, Names};
use crate::config::value::{Shown, Value};

/// Where to listen for calls.
pub(crate) struct Addresses;

impl Kind for Addresses {
    type Value = Vec<ListenAddress>;

    fn names(&self) -> Names {
        Names::list("ADDRESS", "list of addresses")
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        value.as_list()?.iter().map(|text| parse_listen_address(text)).collect()
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::List(value.iter().map(show_address).collect()))
    }
}

/// An address of this machine; none by default.
pub(crate) struct TcpAddress;

impl Kind for TcpAddress {
    type Value = Option<SocketAddr>;

    fn names(&self) -> Names {
        Names::one("ADDRESS", "address")
    }

    fn read(&self, value: &Value) -> Result<Self::Value, String> {
        let address = parse_tcp_address(value.as_text()?);
        Ok(Some(address.ok_or("not an address: use IP:PORT or localhost:PORT")?))
    }

    fn show(&self, value: &Self::Value) -> Option<Shown> {
        Some(Shown::Text(value.as_ref()?.to_string()))
    }
}

/// Writes an address as [`parse_listen_address`] reads it.
pub(crate) fn show_address(address: &ListenAddress) -> String {
    match address {
        ListenAddress::Tcp(address) => address.to_string(),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

pub(super) fn parse_listen_address(text: &str) -> Result<ListenAddress, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err("the path is empty".to_owned())
        } else {
            Ok(ListenAddress::Unix(path.into()))
        };
    }
    match parse_tcp_address(text) {
        Some(address) => Ok(ListenAddress::Tcp(address)),
        None => Err("not an address: use IP:PORT, localhost:PORT or unix:PATH".to_owned()),
    }
}

/// Parses an address of this machine. Other names could be any machine's, and more than one address.
pub(super) fn parse_tcp_address(text: &str) -> Option<SocketAddr> {
    let address = text.strip_prefix("http://").unwrap_or(text);
    match address.strip_prefix("localhost:") {
        Some(port) => Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into()),
        None => address.parse().ok(),
    }
}
