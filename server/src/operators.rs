//! Who may use the operators' service, decided by the other end of the connection alone.

use rustix::process::geteuid;

use crate::peer::Peer;

/// What the kernel shows for users that it cannot name in this user namespace: it may be anybody.
const OVERFLOW_UID: u32 = 65534;

/// Who may inspect and change the pools. Anybody who can connect may call functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Operators {
    /// Callers on the loopback interface, and those on a Unix socket that run as the server's user or as root.
    #[default]
    Local,
    /// All callers.
    Anyone,
    /// No caller.
    Nobody,
}

impl Operators {
    /// Returns whether a caller may use the operators' service.
    pub(crate) fn include(self, peer: Peer) -> bool {
        match (self, peer) {
            (Self::Anyone, _) => true,
            (Self::Nobody, _) => false,
            // An IPv4 client of a socket for both shows up as ::ffff:127.0.0.1.
            (Self::Local, Peer::Tcp(address)) => address.ip().to_canonical().is_loopback(),
            (Self::Local, Peer::Unix { uid }) => uid.is_some_and(|uid| is_own_user_or_root(uid, geteuid().as_raw())),
        }
    }

    /// Returns a description for error messages.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Local => {
                "operators = \"local\" takes callers on the loopback interface, and on a Unix socket those of the \
                 server's user and root; call from there, or set operators = \"anyone\""
            }
            Self::Anyone => "operators = \"anyone\" takes everybody",
            Self::Nobody => {
                "operators = \"nobody\" takes no one; set operators = \"local\" to take callers on this machine"
            }
        }
    }
}

fn is_own_user_or_root(uid: u32, own: u32) -> bool {
    uid == 0 || (uid == own && uid != OVERFLOW_UID)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> Peer {
        Peer::Tcp(address.parse().unwrap())
    }

    #[test]
    fn local_is_loopback_and_the_users_of_the_server() {
        for address in ["127.0.0.1:1", "127.8.9.10:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(Operators::Local.include(tcp(address)), "{address}");
        }
        for address in ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", "[::ffff:10.0.0.1]:1", "[fe80::1]:1"] {
            assert!(!Operators::Local.include(tcp(address)), "{address}");
        }
        let own = geteuid().as_raw();
        assert!(Operators::Local.include(Peer::Unix { uid: Some(own) }));
        assert!(Operators::Local.include(Peer::Unix { uid: Some(0) }));
        assert!(!Operators::Local.include(Peer::Unix { uid: Some(own + 1) }));
        assert!(!Operators::Local.include(Peer::Unix { uid: None }));
    }

    #[test]
    fn a_user_that_the_kernel_cannot_name_is_nobody() {
        assert!(is_own_user_or_root(1000, 1000));
        assert!(!is_own_user_or_root(OVERFLOW_UID, OVERFLOW_UID));
    }

    #[test]
    fn anyone_and_nobody_mean_it() {
        for peer in [tcp("127.0.0.1:1"), tcp("10.0.0.1:1"), Peer::Unix { uid: Some(0) }, Peer::Unix { uid: None }] {
            assert!(Operators::Anyone.include(peer));
            assert!(!Operators::Nobody.include(peer));
        }
    }
}
