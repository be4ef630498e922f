//! Both ends of a connection, played by hand.

use std::io;
use std::os::unix::net::UnixStream;

use procpool_ipc::page::PageWriter;
use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use procpool_ipc::proto::worker_frame::Frame as WorkerFrame;
use procpool_ipc::proto::{Ping, Pong, Run, Welcome};
use procpool_ipc::{PROTOCOL_VERSION, Peer};

fn welcome(journal_bytes: u32) -> Welcome {
    let protocol_version = PROTOCOL_VERSION;
    Welcome { protocol_version, max_frame_bytes: 4 << 20, journal_bytes, ..Welcome::default() }
}

#[test]
fn a_worker_gets_the_page_that_it_was_promised() {
    let (server, worker) = UnixStream::pair().unwrap();
    let (mut server, page) = Peer::welcome(server, welcome(64)).unwrap();
    server.send(ServerFrame::Ping(Ping { nonce: 7 })).unwrap();
    let (mut worker, said, descriptors) = Peer::connect(worker).unwrap();
    assert_eq!(said, welcome(64));
    let [memory] = &descriptors[..] else { panic!("one page was sent") };
    PageWriter::map(memory, 64).unwrap().begin(3);
    assert_eq!(page.unwrap().begun().unwrap(), 3);
    assert_eq!(worker.next_frame().unwrap(), Some(ServerFrame::Ping(Ping { nonce: 7 })));
    worker.send(WorkerFrame::Pong(Pong { nonce: 7 })).unwrap();
    assert_eq!(server.next_frame().unwrap(), Some(WorkerFrame::Pong(Pong { nonce: 7 })));
    drop(worker);
    assert_eq!(server.next_frame().unwrap(), None);
    assert_eq!(server.send(ServerFrame::Ping(Ping { nonce: 8 })).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_worker_may_be_promised_no_page() {
    let (server, worker) = UnixStream::pair().unwrap();
    let (_server, page) = Peer::welcome(server, welcome(0)).unwrap();
    let (_worker, _, descriptors) = Peer::connect(worker).unwrap();
    assert_eq!((page.is_none(), descriptors.is_empty()), (true, true));
}

#[test]
fn an_end_that_does_not_wait_keeps_what_the_socket_does_not_take() {
    let (server, worker) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    worker.set_nonblocking(true).unwrap();
    let mut server = Peer::<ServerFrame>::new(server, 4 << 20);
    let mut worker = Peer::<WorkerFrame>::new(worker, 4 << 20);
    let run = ServerFrame::Run(Run { chunk: 1, items: vec![b'x'; 2 << 20].into(), ..Run::default() });
    server.send(run.clone()).unwrap();
    assert!(server.has_queued(), "no socket takes so much");
    let mut received = None;
    while received.is_none() {
        match worker.next_frame() {
            Ok(frame) => received = frame,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
        server.flush().unwrap();
    }
    assert_eq!((received, server.has_queued()), (Some(run), false));
}

#[test]
fn an_end_within_a_frame_and_what_is_no_frame_are_errors() {
    for (bytes, expected) in
        [(&b"\0\0\0\x09\x22"[..], io::ErrorKind::UnexpectedEof), (&b"\xff\xff\xff\xff"[..], io::ErrorKind::InvalidData)]
    {
        let (server, worker) = UnixStream::pair().unwrap();
        let mut worker = Peer::<WorkerFrame>::new(worker, 1024);
        worker.send_bytes(bytes).unwrap();
        drop(worker);
        assert_eq!(Peer::<ServerFrame>::new(server, 1024).next_frame().unwrap_err().kind(), expected);
    }
    let (server, worker) = UnixStream::pair().unwrap();
    Peer::new(server, 1024).send(ServerFrame::Ping(Ping { nonce: 1 })).unwrap();
    assert!(Peer::connect(worker).is_err(), "Welcome comes first");
}
