//! What the worker's side writes to the page, the server's side reads, also after the worker's death.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use procpool_ipc::page::{PageReader, PageWriter, monotonic_ns};
use procpool_ipc::{recv_with_fds, send_with_fds};

#[test]
fn a_new_page_is_blank() {
    let (reader, _page) = PageReader::create(1000).unwrap();
    assert_eq!(reader.begun().unwrap(), 0);
    assert_eq!(reader.begun_at_ns().unwrap(), 0);
    assert_eq!(reader.journal().unwrap(), None);
}

#[test]
fn the_reader_sees_what_the_writer_writes() {
    let (reader, page) = PageReader::create(1000).unwrap();
    let mut writer = PageWriter::map(&page, 1000).unwrap();
    drop(page);
    let now = monotonic_ns();

    writer.stamp_start(now);
    writer.begin(41);
    assert_eq!(reader.begun().unwrap(), 41);
    assert_eq!(reader.begun_at_ns().unwrap(), now);
    assert_eq!(reader.journal().unwrap(), None);

    assert!(writer.append(41, b"he", b"llo"));
    writer.begin(42);
    assert!(writer.append(42, b"", b" world"));
    assert_eq!(writer.journal(), b"hello world");
    assert_eq!(reader.journal().unwrap(), Some((41, "hello world".into())));

    writer.clear();
    assert_eq!(reader.journal().unwrap(), None);
    assert!(writer.append(43, b"", b"next"));
    assert_eq!(reader.journal().unwrap(), Some((43, "next".into())));
    // The page outlives the mapping.
    drop(writer);
    assert_eq!(reader.journal().unwrap(), Some((43, "next".into())));
    assert_eq!(reader.begun().unwrap(), 42);
}

#[test]
fn the_journal_takes_what_fits_and_no_byte_more() {
    let (reader, page) = PageReader::create(10).unwrap();
    let mut writer = PageWriter::map(&page, 10).unwrap();
    assert!(!writer.append(1, b"12345", b"123456"));
    assert_eq!(reader.journal().unwrap(), None);
    assert!(writer.append(1, b"12345", b"12345"));
    assert!(!writer.append(2, b"", b"x"));
    assert!(writer.append(2, b"", b""));
    assert_eq!(reader.journal().unwrap(), Some((1, "1234512345".into())));
}

#[test]
fn a_page_may_have_no_journal() {
    let (reader, page) = PageReader::create(0).unwrap();
    let mut writer = PageWriter::map(&page, 0).unwrap();
    writer.begin(5);
    assert!(!writer.append(5, b"", b"x"));
    assert_eq!(reader.begun().unwrap(), 5);
}

#[test]
fn a_file_that_is_too_small_or_could_shrink_is_refused() {
    let (_reader, page) = PageReader::create(100).unwrap();
    let error = PageWriter::map(&page, 101).unwrap_err();
    assert!(error.to_string().contains("4196 bytes instead of 4197"), "{error}");

    let memory = rustix::fs::memfd_create("plain", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&memory, 4196).unwrap();
    assert!(PageWriter::map(&memory, 100).unwrap_err().to_string().contains("shrink"));
}

#[test]
fn nobody_can_resize_a_page() {
    let (_reader, page) = PageReader::create(100).unwrap();
    assert_eq!(rustix::fs::ftruncate(&page, 0), Err(rustix::io::Errno::PERM));
    assert_eq!(rustix::fs::ftruncate(&page, 1 << 20), Err(rustix::io::Errno::PERM));
}

#[test]
fn a_journal_that_lies_about_its_length_is_an_error() {
    let (reader, page) = PageReader::create(100).unwrap();
    for length in [101, u64::MAX] {
        rustix::io::pwrite(&page, &u64::to_ne_bytes(length), 8).unwrap();
        assert_eq!(reader.journal().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    }
}

#[test]
fn the_page_travels_with_the_first_byte() {
    let (server, worker) = UnixStream::pair().unwrap();
    let (reader, page) = PageReader::create(64).unwrap();
    assert_eq!(send_with_fds(&server, b"welcome", &[page.as_fd()]).unwrap(), 7);
    drop(page);
    rustix::net::send(&server, b" more", rustix::net::SendFlags::empty()).unwrap();

    let mut buffer = [0; 4];
    let (count, received) = recv_with_fds(&worker, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"welc");
    let [received] = &received[..] else { panic!("the descriptor comes with the first byte") };
    assert!(rustix::io::fcntl_getfd(received).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    PageWriter::map(received, 64).unwrap().begin(9);
    assert_eq!(reader.begun().unwrap(), 9);

    let (count, received) = recv_with_fds(&worker, &mut buffer).unwrap();
    assert_eq!(&buffer[..count], b"ome ");
    assert!(received.is_empty());
    drop(server);
    assert_eq!(recv_with_fds(&worker, &mut buffer).unwrap().0, 4);
    let (count, received) = recv_with_fds(&worker, &mut buffer).unwrap();
    assert_eq!((count, received.is_empty()), (0, true));
}

#[test]
fn sending_to_a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (server, worker) = UnixStream::pair().unwrap();
    let (_reader, page) = PageReader::create(64).unwrap();
    drop(worker);
    let error = send_with_fds(&server, b"x", &[page.as_fd()]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}
