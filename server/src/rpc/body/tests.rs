use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;

use http_body_util::BodyExt as _;
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;
use tonic::codegen::StdError;

use super::super::message_buffer::PREFIX_BYTES;
use super::*;

const MIB: usize = 1 << 20;

#[test]
fn the_methods_that_take_a_stream_are_those_of_the_descriptors() {
    let served = [
        procpool_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let mut num_streaming = 0;
    for file in served.iter().flat_map(|set| FileDescriptorSet::decode(*set).unwrap().file) {
        for (service, method) in
            file.service.iter().flat_map(|service| service.method.iter().map(move |method| (service, method)))
        {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            assert_eq!(takes_stream(&path), method.client_streaming(), "{path}");
            num_streaming += u32::from(method.client_streaming());
        }
    }
    assert_eq!(num_streaming, 3, "IMapStream, and reflection twice");
}

/// What a client has sent, and how much more it may send.
#[derive(Debug, Clone)]
struct Sender {
    window: Arc<AtomicUsize>,
    pieces: Arc<Mutex<VecDeque<Result<Bytes, StdError>>>>,
    is_done: Arc<AtomicBool>,
}

impl Sender {
    fn new(window: usize) -> Self {
        let window = Arc::new(AtomicUsize::new(window));
        Self { window, pieces: Arc::default(), is_done: Arc::default() }
    }

    fn window(&self) -> usize {
        self.window.load(Ordering::Relaxed)
    }

    /// Sends a frame as long as it may be and the window allows, and returns how long that was.
    fn send(&self, data: &[u8]) -> usize {
        let len = data.len().min(self.window()).min(16 << 10);
        self.window.fetch_sub(len, Ordering::Relaxed);
        self.pieces.lock().unwrap().push_back(Ok(Bytes::copy_from_slice(&data[..len])));
        len
    }
}

impl Source for Sender {
    fn poll_data(&mut self, _context: &mut Context<'_>) -> Poll<Option<Result<Bytes, StdError>>> {
        match self.pieces.lock().unwrap().pop_front() {
            Some(piece) => Poll::Ready(Some(piece)),
            None if self.is_done.load(Ordering::Relaxed) => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn open_window(&mut self, bytes: usize) {
        self.window.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Upload {
    sender: Sender,
    body: LimitedBody<Sender>,
}

impl Upload {
    fn new(window: usize, max_message_bytes: u32, budget: &Arc<ByteBudget>) -> Self {
        let sender = Sender::new(window);
        let limits = BodyLimits { max_message_bytes, stall_timeout: Duration::from_secs(60) };
        Self { sender: sender.clone(), body: LimitedBody::new(sender, limits, Arc::clone(budget), true) }
    }

    fn receive(&self) {
        self.body.intake().receive(&mut Context::from_waker(Waker::noop()));
    }

    /// Sends all of it, while the other end is received from.
    fn send(&self, mut data: &[u8]) {
        while !data.is_empty() {
            let sent = self.sender.send(data);
            assert_ne!(sent, 0, "the window is shut");
            data = &data[sent..];
            self.receive();
        }
    }

    /// Sends as much as the window lets through, and returns how much that was.
    fn send_until_shut(&self, data: &[u8]) -> usize {
        let mut sent = 0;
        while sent < data.len() {
            let now = self.sender.send(&data[sent..]);
            self.receive();
            if now == 0 {
                break;
            }
            sent += now;
        }
        sent
    }

    fn end(&self) {
        self.sender.is_done.store(true, Ordering::Relaxed);
        self.receive();
    }

    /// Returns what the handler gets now.
    fn next(&mut self) -> Poll<Option<Result<Bytes, Code>>> {
        let polled = Pin::new(&mut self.body).poll_frame(&mut Context::from_waker(Waker::noop()));
        polled
            .map(|frame| frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.code())))
    }
}

fn message(length: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(u32::try_from(length).unwrap().to_be_bytes());
    message.resize(PREFIX_BYTES + length, 7);
    message
}

#[tokio::test]
async fn messages_pass_however_they_are_cut() {
    let sent: Vec<u8> = [message(0), message(10), message(300), message(0), message(1)].concat();
    for piece_size in 1..40 {
        let budget = ByteBudget::new(1000);
        let call = Upload::new(1000, 300, &budget);
        sent.chunks(piece_size).for_each(|piece| call.send(piece));
        call.end();
        assert_eq!(call.body.collect().await.unwrap().to_bytes(), sent);
        assert_eq!(budget.used(), 0);
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_at_its_prefix() {
    let budget = ByteBudget::new(1000);
    let mut call = Upload::new(1000, 10, &budget);
    call.send(&message(10));
    assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
    call.send(&message(11)[..PREFIX_BYTES]);
    assert_eq!(call.next(), Poll::Ready(Some(Err(Code::ResourceExhausted))));
    assert_eq!(call.next(), Poll::Ready(None));
}

/// The library reserves what the prefix announces as soon as it has it.
#[tokio::test]
async fn what_a_message_announces_is_neither_counted_nor_told_before_it_has_come() {
    let budget = ByteBudget::new(256 << 20);
    let limit: u32 = 64 << 20;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut call = Upload::new(1000, limit, &budget);
            call.send(&[&[0], &limit.to_be_bytes()[..], b"x"].concat());
            assert_eq!(call.next(), Poll::Pending);
            call
        })
        .collect();
    assert_eq!(budget.used(), 600);
    drop(calls);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_message_counts_until_the_next_one_is_asked_for() {
    let budget = ByteBudget::new(1000);
    let mut call = Upload::new(1000, 100, &budget);
    call.send(&[message(95), message(45)[..25].to_vec()].concat());
    assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
    assert_eq!(budget.used(), 125);
    assert_eq!(call.next(), Poll::Pending);
    assert_eq!(budget.used(), 25);
    call.send(&message(45)[25..]);
    assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
    assert_eq!(budget.used(), 50);
    drop(call);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_large_message_counts_as_a_whole_until_all_of_it_was_taken() {
    let budget = ByteBudget::new(10 << 20);
    let mut call = Upload::new(MIB / 4, 1 << 20, &budget);
    let sent = message(MIB);
    call.send(&sent);
    let mut received = 0;
    while let Poll::Ready(Some(Ok(part))) = call.next() {
        received += part.len();
        assert_eq!(budget.used(), sent.len() as u64);
    }
    assert_eq!((received, budget.used()), (sent.len(), 0));
}

#[tokio::test]
async fn past_the_budget_a_request_is_refused_and_may_be_retried() {
    let budget = ByteBudget::new(150);
    let mut first = Upload::new(1000, 100, &budget);
    first.send(&message(95));
    assert!(matches!(first.next(), Poll::Ready(Some(Ok(_)))));
    let mut second = Upload::new(1000, 100, &budget);
    second.send(&message(95));
    let refused = second.body.frame().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().get("grpc-retry-pushback-ms").unwrap().to_str().unwrap().parse::<u32>().is_ok());
    drop(first);
    let mut third = Upload::new(1000, 100, &budget);
    third.send(&message(95));
    assert!(matches!(third.next(), Poll::Ready(Some(Ok(_)))));
}

/// The transport does not keep what has come, and the window does not open for more.
#[tokio::test]
async fn a_client_that_sends_ahead_of_its_handler_may_do_so_by_its_window_and_all_of_it_counts() {
    let budget = ByteBudget::new(10 << 20);
    let window = MIB / 4;
    let mut call = Upload::new(window, 64 << 20, &budget);
    let endless = message(13).repeat(100_000);
    let mut sent = call.send_until_shut(&endless);
    assert_eq!((sent, budget.used()), (window, window as u64));
    // Each message that the handler takes lets in as much again, once it has done with it.
    let mut taken = 0;
    while taken < 18 * 1000 {
        let Poll::Ready(Some(Ok(part))) = call.next() else { panic!("there are more") };
        // Pieces of messages are pieces of memory.
        let done = taken - taken % 18;
        taken += part.len();
        sent += call.send_until_shut(&endless[sent..]);
        assert_eq!((sent, budget.used()), (window + done, window as u64));
    }
    drop(call);
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_message_larger_than_the_window_comes_in_also_behind_others() {
    let budget = ByteBudget::new(10 << 20);
    let mut call = Upload::new(1000, 1 << 20, &budget);
    let all = [message(500), message(MIB), message(10)].concat();
    let mut sent = call.send_until_shut(&all);
    assert_eq!(sent, 1000, "the first message waits for the handler");
    let mut received = 0;
    while received < all.len() {
        if let Poll::Ready(Some(Ok(part))) = call.next() {
            received += part.len();
        }
        sent += call.send_until_shut(&all[sent..]);
    }
    assert_eq!(call.next(), Poll::Pending);
    assert_eq!((call.sender.window(), budget.used()), (1000, 0));
}

#[tokio::test]
async fn those_who_send_ahead_leave_half_of_the_budget_to_others() {
    let budget = ByteBudget::new(4 << 20);
    let mut calls: Vec<_> = (0..20).map(|_| Upload::new(MIB / 4, 1 << 20, &budget)).collect();
    for call in &mut calls {
        call.send(&message(13));
        assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
        call.send_until_shut(&message(13).repeat(20_000));
    }
    assert!(budget.used() <= (2 << 20) + 20 * FREE_AHEAD_BYTES as u64);
    let mut other = Upload::new(MIB / 4, 2 << 20, &budget);
    other.send(&message(3 * MIB / 2));
    assert!(matches!(other.next(), Poll::Ready(Some(Ok(_)))));
    // Who was refused has given back what waited, and learns of it when it asks.
    let refused = calls.iter_mut().filter(|call| call.body.shared.lock().end.is_some()).count();
    assert!((8..20).contains(&refused), "{refused}");
    drop((calls, other));
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn a_hang_up_is_not_the_end_of_a_request_and_neither_is_an_end_within_a_message() {
    let budget = ByteBudget::new(1000);
    let mut call = Upload::new(1000, 100, &budget);
    call.sender.pieces.lock().unwrap().push_back(Err(Status::cancelled("h2 protocol error").into()));
    call.receive();
    assert_eq!(call.next(), Poll::Ready(Some(Err(Code::Aborted))));

    let mut call = Upload::new(1000, 100, &budget);
    call.send(&[message(10), message(10)[..7].to_vec()].concat());
    call.end();
    assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
    assert_eq!(call.next(), Poll::Ready(Some(Err(Code::Aborted))));
    assert_eq!((call.next(), budget.used()), (Poll::Ready(None), 0));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_stops_on_its_way_ends_its_call_and_a_pause_between_messages_does_not() {
    let hour = Duration::from_secs(3600);
    for (start, is_ended) in [(vec![], true), (message(10)[..7].to_vec(), true), (message(10), false)] {
        let budget = ByteBudget::new(1000);
        let mut call = Upload::new(1000, 100, &budget);
        call.send(&start);
        if !is_ended {
            assert!(matches!(call.next(), Poll::Ready(Some(Ok(_)))));
        }
        let next = tokio::time::timeout(hour, call.body.frame()).await;
        assert_eq!(next.is_ok(), is_ended, "{start:?}");
        if let Ok(Some(next)) = next {
            assert_eq!(next.unwrap_err().code(), Code::Aborted);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_slowly_is_waited_for() {
    let budget = ByteBudget::new(1000);
    let mut call = Upload::new(1000, 100, &budget);
    for byte in message(10) {
        call.send(&[byte]);
        let waited = tokio::time::timeout(Duration::from_secs(50), call.body.frame()).await;
        if let Ok(frame) = waited {
            assert_eq!(frame.unwrap().unwrap().into_data().unwrap(), message(10));
            return;
        }
    }
    panic!("the message never came");
}
