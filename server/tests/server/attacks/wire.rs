//! HTTP/2 by hand: the few frames that attacks are made of.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::TestServer;

/// The kinds of frames.
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GO_AWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

/// The flags of frames.
pub(super) const NONE: u8 = 0;
pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// How much a peer may send in a stream before it is told that it may send more.
pub(super) const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// What a client sends first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The error code of a peer that asks for too much.
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Where an attack's calls go: a method that goes on reading what it is sent.
pub(super) const IMAP_STREAM: &str = "/procpool.v1.PoolService/IMapStream";

/// A frame that came from the server.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// What came of a flood.
#[derive(Debug, Default)]
pub(super) struct Flood {
    /// The code and the words that the server sent the client away with. They may be lost when a connection is closed
    /// that has more to read.
    pub(super) go_away: Option<(u32, String)>,
    /// How many frames of each kind came.
    pub(super) received: [usize; 10],
    /// How many frames were sent before the connection was closed.
    pub(super) sent: usize,
    /// The server closed the connection.
    pub(super) is_closed: bool,
}

/// A connection.
pub(super) struct Wire<S = TcpStream> {
    stream: S,
}

/// Returns a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Returns a field of headers, as it is: not compressed and not remembered.
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    assert!(name.len() < 127 && value.len() < 127, "longer lengths take more bytes");
    [vec![0], text(name), text(value)].concat()
}

/// Returns the fields that every call has.
pub(super) fn call_fields(path: &str) -> Vec<u8> {
    call_fields_to("test", path)
}

/// Returns the fields of a call to a server of this name.
pub(super) fn call_fields_to(authority: &str, path: &str) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// Returns the frame that opens the `nth` call of a connection, from 0.
pub(super) fn open_call(nth: u32, flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream_of(nth), &call_fields(IMAP_STREAM))
}

/// Returns the id of the `nth` stream that a client opens, from 0.
pub(super) fn stream_of(nth: u32) -> u32 {
    2 * nth + 1
}

impl Wire {
    /// Connects and says what must be said first.
    pub(super) async fn connect(server: &TestServer) -> Self {
        Self::connect_with(server, &[]).await
    }

    /// Connects, and waits for the windows that the server gives.
    pub(super) async fn connect_and_agree(server: &TestServer) -> Self {
        let mut wire = Self::connect(server).await;
        wire.next_of(SETTINGS).await.unwrap();
        wire.send(&frame(SETTINGS, ACK, 0, &[])).await.unwrap();
        wire
    }

    /// Connects with these settings.
    pub(super) async fn connect_with(server: &TestServer, settings: &[(u16, u32)]) -> Self {
        Self::on(TcpStream::connect(server.address).await.unwrap(), settings).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Says on a stream what must be said first.
    pub(super) async fn on(stream: S, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self { stream };
        let settings: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat())
            .collect();
        wire.send(&[PREFACE, &frame(SETTINGS, NONE, 0, &settings)].concat()).await.unwrap();
        wire
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    pub(super) async fn next_frame(&mut self) -> io::Result<Frame> {
        read_frame(&mut self.stream).await
    }

    /// Returns the next frame of this kind, and answers pings meanwhile.
    pub(super) async fn next_of(&mut self, kind: u8) -> io::Result<Frame> {
        loop {
            let received = self.next_frame().await?;
            if (received.kind, received.flags) == (PING, NONE) {
                self.send(&frame(PING, ACK, 0, &received.payload)).await?;
            }
            if received.kind == kind {
                return Ok(received);
            }
        }
    }

    /// Sends frames, and reads what comes; at the end, hangs up if the server has not.
    pub(super) async fn flood(self, frames: impl Iterator<Item = Vec<u8>>) -> Flood {
        let (mut reader, mut writer) = tokio::io::split(self.stream);
        let mut flood = Flood::default();
        let read = async {
            let mut received = [0; 10];
            let mut go_away = None;
            while let Ok(frame) = read_frame(&mut reader).await {
                received[usize::from(frame.kind)] += 1;
                if frame.kind == GO_AWAY {
                    let code = u32::from_be_bytes(frame.payload[4..8].try_into().unwrap());
                    go_away = Some((code, String::from_utf8_lossy(&frame.payload[8..]).into_owned()));
                }
            }
            (received, go_away)
        };
        let write = async {
            let (mut batch, mut sent, mut in_batch) = (Vec::new(), 0, 0);
            for frame in frames {
                batch.extend(frame);
                in_batch += 1;
                if batch.len() > 16 << 10 {
                    if writer.write_all(&batch).await.is_err() {
                        return (sent, true);
                    }
                    sent += in_batch;
                    (in_batch, batch) = (0, Vec::new());
                }
            }
            // An answer to this means that all before it was read.
            batch.extend(frame(PING, NONE, 0, b"the last"));
            if writer.write_all(&batch).await.is_err() {
                return (sent, true);
            }
            // Half of a hang-up: what is under way is still answered.
            let is_closed = writer.shutdown().await.is_err();
            (sent + in_batch, is_closed)
        };
        ((flood.received, flood.go_away), (flood.sent, flood.is_closed)) = tokio::join!(read, write);
        flood.is_closed |= flood.go_away.is_some();
        flood
    }
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Frame> {
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    let mut payload = vec![0; u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize];
    stream.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes(header[5..9].try_into().unwrap());
    Ok(Frame { kind: header[3], flags: header[4], stream, payload })
}
