//! Unix sockets: open to their owner alone, never in the way of the next server, and put back when their file is removed.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net as std_unix;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

const BACKLOG: i32 = 1024;
/// How often a socket's file is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A bound socket, whose file is put back if it is removed: cleaners of temporary folders do that, and nobody could
/// connect any more.
#[derive(Debug)]
pub(super) struct UnixSocket {
    // Dropped before the socket.
    file: SocketFile,
    listener: UnixListener,
    next_check: Instant,
    /// The file has a problem that was logged.
    is_troubled: bool,
}

/// The file of a socket; dropping it removes the file, unless another server has put its own there. To be dropped before
/// the socket: as long as that lives, the file's number is not given to another.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    id: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if file_id(&self.path).is_ok_and(|id| id == self.id) {
            // A socket that stays is replaced by the next server.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file_id(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

impl UnixSocket {
    /// Binds a socket at a path.
    ///
    /// # Errors
    ///
    /// If another server listens there, if something else than a socket is there, if there is no such folder, or if the
    /// system refuses.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            let problem = format!("there is no folder {}; make it first, open to whoever may call", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, problem));
        }
        remove_stale(path)?;
        let (file, listener) = bind(path)?;
        Ok(Self { file, listener, next_check: Instant::now() + CHECK_INTERVAL, is_troubled: false })
    }

    /// Accepts one connection, and checks the file meanwhile.
    pub(super) async fn accept(&mut self) -> io::Result<UnixStream> {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => return accepted.map(|(stream, _)| stream),
                () = tokio::time::sleep_until(self.next_check) => {
                    self.next_check = Instant::now() + CHECK_INTERVAL;
                    self.check_file();
                }
            }
        }
    }

    /// Puts the file back if it was removed. What others have put there is theirs.
    fn check_file(&mut self) {
        let path = self.file.path.clone();
        let found = match file_id(&path) {
            Ok(id) if id == self.file.id => {
                self.is_troubled = false;
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => bind(&path),
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else is there now")),
        };
        match found {
            Ok((file, listener)) => {
                (self.file, self.listener) = (file, listener);
                self.is_troubled = false;
                tracing::warn!(path = %path.display(), "the socket's file was removed; put it back");
            }
            Err(error) if !self.is_troubled => {
                self.is_troubled = true;
                tracing::error!(
                    %error,
                    path = %path.display(),
                    "the socket's file is gone and cannot be put back: nobody can connect; trying again"
                );
            }
            Err(_) => {}
        }
    }
}

/// Binds a socket where there is no file.
fn bind(path: &Path) -> io::Result<(SocketFile, UnixListener)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = SocketFile { path: path.to_owned(), id: file_id(path)? };
    // Nobody can connect before it listens, so nobody can be faster than this.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok((file, UnixListener::from_std(std_unix::UnixListener::from(socket))?))
}

/// Removes a socket that nobody listens on any more.
fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is not a socket"));
    }
    match std_unix::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another server listens there")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("procpool.sock");
        drop(std_unix::UnixListener::bind(&path).unwrap());
        let socket = UnixSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_folder_that_is_missing_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/procpool.sock");
        assert_eq!(UnixSocket::bind(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!path.parent().unwrap().exists());
    }

    #[tokio::test]
    async fn a_file_is_never_replaced() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(UnixSocket::bind(file.path()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(file.path().exists());
    }

    #[tokio::test]
    async fn the_socket_of_a_successor_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("procpool.sock");
        let mut socket = UnixSocket::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let _successor = UnixSocket::bind(&path).unwrap();
        socket.check_file();
        assert!(socket.is_troubled);
        drop(socket);
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_was_removed_is_put_back_as_soon_as_that_is_possible() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/procpool.sock");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let mut socket = UnixSocket::bind(&path).unwrap();
        std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
        socket.check_file();
        assert!(socket.is_troubled && !path.exists());
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        socket.check_file();
        assert!(!socket.is_troubled);
        let (connected, accepted) = tokio::join!(UnixStream::connect(&path), socket.accept());
        connected.unwrap();
        accepted.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }
}
