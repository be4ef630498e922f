//! What requests may take, driven to its limit: as much as the budget says, whatever clients announce or send ahead, and
//! nothing of it for longer than they are there. `docs/memory.md` adds it up.

use procpool_server::ServerConfig;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::wire::{DATA, NONE, PING, Wire, frame, open_call, stream_of};
use super::{beside_a_good_client, memory};
use crate::support::scripted::Script;
use crate::support::{TestServer, config, within};

const MIB: usize = 1 << 20;
const WINDOW: usize = 256 << 10;

/// Returns a message of gRPC.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// Waits until the server has read what was sent.
async fn settled(wire: &mut Wire) {
    wire.send(&frame(PING, NONE, 0, b"all read")).await.unwrap();
    while within(wire.next_frame()).await.unwrap().kind != PING {}
}

/// Returns the bytes of address space that this process has for data: what `ulimit -d` limits.
fn data_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmData:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn what_is_announced_takes_no_memory_before_it_comes() {
    let server = TestServer::start().await;
    let attack = async {
        let mut wire = Wire::connect_and_agree(&server).await;
        let before = data_bytes();
        for nth in 0..40 {
            // 64 MiB, it says, and sends one byte of them.
            let start = frame(DATA, NONE, stream_of(nth), &[0, 4, 0, 0, 0, 10]);
            wire.send(&[open_call(nth, NONE), start].concat()).await.unwrap();
        }
        settled(&mut wire).await;
        let grown = data_bytes().saturating_sub(before);
        // Threads of the runtime may have started, with a heap of 64 MiB each at most.
        assert!(grown < 1000 * MIB, "{grown} bytes for 240");
    };
    beside_a_good_client(&server, attack).await;
    server.stop().await;
}

#[tokio::test]
async fn what_clients_send_ahead_stays_within_the_budget_and_goes_back_when_they_leave() {
    const BUDGET: u32 = 32 << 20;
    let config = ServerConfig { max_message_bytes: 1 << 20, max_request_bytes_in_flight: BUDGET, ..config() };
    let server = TestServer::start_with(config, Script::default()).await;
    let before = memory();
    let mut wires = Vec::new();
    // 80 MB in all, for workers that are busy with the first of it.
    for _ in 0..20 {
        let mut wire = Wire::connect_and_agree(&server).await;
        for nth in 0..16 {
            // IMapStreamRequest { config: { function: "gated", window: 1 } }, then items of 15 KB as far as the window goes.
            let mut sent = message(b"\x0a\x09\x0a\x05gated\x28\x01");
            let blob = [&b"\x0a\x98\x75"[..], &[7; 15_000]].concat();
            let items = message(&[&b"\x1a\x9b\x75"[..], &blob].concat());
            while sent.len() + items.len() <= WINDOW {
                sent.extend(&items);
            }
            let frames: Vec<_> =
                sent.chunks(16 << 10).flat_map(|piece| frame(DATA, NONE, stream_of(nth), piece)).collect();
            within(wire.send(&[open_call(nth, NONE), frames].concat())).await.unwrap();
        }
        settled(&mut wire).await;
        wires.push(wire);
    }
    let grown = memory().saturating_sub(before);
    assert!(grown < 2 * BUDGET as usize, "{grown} bytes");
    drop(wires);
    server.script.release(1_000_000);
    let mut health = HealthClient::new(server.channel().await);
    within(async {
        while memory() > before + 10 * MIB {
            health.check(HealthCheckRequest::default()).await.unwrap();
        }
    })
    .await;
    drop(health);
    server.stop().await;
}
