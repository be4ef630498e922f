//! When a worker is asked for a sign of life, and when it is killed for want of one: a session with a played process,
//! on a clock that the test moves.

use std::time::Duration;

use procpool_ipc::proto::server_frame::Frame as ServerFrame;
use tokio::time::{Instant, advance, sleep};

use super::puppet::{LOOK_INTERVAL, MINUTE, Worker};

#[track_caller]
fn assert_about(instant: Instant, since: Instant, expected: Duration) {
    let late_by = instant.saturating_duration_since(since).abs_diff(expected);
    assert!(late_by <= 5 * LOOK_INTERVAL, "after {:?} instead of {expected:?}", instant - since);
}

#[tokio::test(start_paused = true)]
async fn a_silent_worker_is_asked_and_killed_within_its_items_limit_and_two_seconds() {
    let millis = Duration::from_millis;
    for (limit, asked_after) in
        [(None, 1000), (Some(3_600_000), 1000), (Some(1500), 750), (Some(500), 250), (Some(50), 100), (Some(1), 100)]
    {
        let mut worker = Worker::ready(8).await;
        let given = Instant::now();
        worker.run(1, 1, limit.map(millis)).await;
        assert_about(worker.next_ping().await.unwrap(), given, millis(asked_after));
        let killed = worker.killed().await.unwrap().at;
        assert_about(killed, given, millis(asked_after + 1800));
        assert!(killed - given <= millis(limit.unwrap_or(1000) + 2000));
        worker.session.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_is_asked_again_and_let_be() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    for _ in 0..20 {
        let asked = worker.next_ping().await.unwrap();
        // As late as it may be.
        sleep(Duration::from_millis(1700)).await;
        worker.pong();
        assert!(asked.elapsed() < Duration::from_millis(1800));
    }
    worker.next_ping().await.unwrap();
    assert!(worker.killed().await.is_some(), "when it answers no more");
}

#[tokio::test(start_paused = true)]
async fn one_that_answers_and_begins_nothing_is_killed_in_the_end() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.run(2, 1, None).await;
    worker.begin(1);
    // However long the first takes.
    sleep(10 * MINUTE).await;
    worker.finish(1);
    let finished = Instant::now();
    while worker.next_ping().await.is_some() {
        worker.pong();
    }
    let killed = worker.killed().await.unwrap().at;
    assert!(
        killed - finished > MINUTE && killed - finished < MINUTE + Duration::from_secs(5),
        "{:?}",
        killed - finished
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_has_begun_an_item_is_not_asked() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.begin(1);
    // Another chunk waits behind.
    worker.run(2, 1, None).await;
    assert_eq!(worker.next_ping().await, None);
    worker.finish(1);
    let finished = Instant::now();
    // Between half a look and one and a half, as the looks fall.
    let asked = worker.next_ping().await.unwrap();
    assert!(asked - finished <= Duration::from_millis(2100), "{:?}", asked - finished);
}

#[tokio::test(start_paused = true)]
async fn one_that_has_nothing_to_run_is_not_asked_and_each_chunk_has_its_time() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.begin(1);
    worker.finish(1);
    sleep(Duration::from_millis(900)).await;
    worker.run(2, 1, None).await;
    let given = Instant::now();
    assert_about(worker.next_ping().await.unwrap(), given, Duration::from_secs(1));
    // Nor does it count against it that it was asked for a chunk that is done.
    worker.pong();
    worker.begin(2);
    worker.finish(2);
    sleep(LOOK_INTERVAL).await;
    worker.run(3, 1, None).await;
    let given = Instant::now();
    assert_about(worker.next_ping().await.unwrap(), given, Duration::from_secs(1));
    worker.begin(3);
    worker.finish(3);
    assert_eq!(worker.next_ping().await, None);
}

#[tokio::test(start_paused = true)]
async fn one_that_reads_a_large_chunk_slowly_lives() {
    let mut worker = Worker::ready(8).await;
    // Far more than the socket holds.
    worker.run(1, 8 << 20, None).await;
    let mut frames = Vec::new();
    while frames.is_empty() {
        frames = worker.read(512 << 10);
        sleep(Duration::from_millis(1500)).await;
    }
    assert!(matches!(frames[0], ServerFrame::Run(_)));
    assert!(worker.death.borrow().is_none(), "it read all the time");
    assert!(worker.killed().await.is_some(), "and then it stopped");
}

#[tokio::test(start_paused = true)]
async fn one_that_has_much_to_decode_has_longer() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 8 << 20, None).await;
    let asked = loop {
        if worker.read(1 << 20).iter().any(|frame| matches!(frame, ServerFrame::Ping(_))) {
            break Instant::now();
        }
        sleep(LOOK_INTERVAL).await;
    };
    assert_about(worker.killed().await.unwrap().at, asked, Duration::from_millis(2800));
}

#[tokio::test(start_paused = true)]
async fn one_whose_answer_nobody_had_time_to_read_lives() {
    // There is room for one event, and the second waits in the session: it reads nothing more.
    let mut worker = Worker::ready(1).await;
    for chunk in 1..=3 {
        worker.run(chunk, 1, None).await;
    }
    for chunk in 1..=2 {
        worker.begin(chunk);
        worker.finish(chunk);
    }
    assert!(worker.killed().await.is_none(), "what it says waits to be read");
    for _ in 0..2 {
        worker.events.recv().await.unwrap();
    }
    assert!(worker.killed().await.is_some(), "it was given a third chunk, and does nothing");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_killed_for_a_time_in_which_the_machine_stood_still() {
    let mut worker = Worker::ready(8).await;
    worker.run(1, 1, None).await;
    worker.next_ping().await.unwrap();
    advance(MINUTE).await;
    sleep(Duration::from_secs(1)).await;
    assert!(worker.death.borrow().is_none(), "it has another chance");
    worker.pong();
    sleep(Duration::from_secs(1)).await;
    assert!(worker.death.borrow().is_none());
    // And an answer that was there in time counts when nobody was awake to read it.
    worker.next_ping().await.unwrap();
    worker.pong();
    advance(Duration::from_millis(1900)).await;
    sleep(LOOK_INTERVAL).await;
    assert!(worker.death.borrow().is_none());
    assert!(worker.killed().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn output_does_not_hold_up_the_end_of_a_worker() {
    for closes in [true, false] {
        let mut worker = Worker::ready(8).await;
        worker.run(1, 1, None).await;
        if closes {
            worker.peer.socket().shutdown(std::net::Shutdown::Both).unwrap();
        } else {
            worker.next_ping().await.unwrap();
        }
        sleep(LOOK_INTERVAL).await;
        // All at once, the output is there and the time is up.
        let output = vec![b'x'; 32 << 10];
        assert_eq!(rustix::io::write(&*worker.stdout, &output).unwrap(), output.len());
        advance(Duration::from_millis(if closes { 550 } else { 1850 })).await;
        let death = worker.killed().await.unwrap();
        assert_eq!(death.bytes_unread, output.len() as u64, "its end came first");
    }
}
