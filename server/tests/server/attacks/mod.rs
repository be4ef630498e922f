//! Clients that mean harm, frame by frame: each is sent away or costs next to nothing, and who behaves is served beside
//! them. `docs/reliability.md` has the table.

mod authority;
mod floods;
mod head;
mod loris;
mod memory;
mod resets;
mod stalls;
mod wire;

use std::pin::pin;

use procpool_proto::v1::MapRequest;
use procpool_proto::v1::map_request::Items;
use procpool_proto::v1::pool_service_client::PoolServiceClient;
use tonic::transport::Channel;

use crate::support::{TestServer, blobs, within};

/// The most memory that an attack may cost.
const MOST_MEMORY: usize = 64 << 20;

fn echo() -> MapRequest {
    let items = Some(Items::Blobs(blobs(["a"])));
    MapRequest { function: "echo".to_owned(), items, ..MapRequest::default() }
}

async fn is_served(client: &mut PoolServiceClient<Channel>) {
    within(client.map(echo())).await.unwrap();
}

/// Carries out an attack, while another client is served before, beside and after it, and in bounded memory.
async fn beside_a_good_client<A: Future>(server: &TestServer, attack: A) -> A::Output {
    let mut client = server.client().await;
    is_served(&mut client).await;
    let before = memory();
    let mut attack = pin!(within(attack));
    let result = loop {
        tokio::select! {
            result = attack.as_mut() => break result,
            () = is_served(&mut client) => {}
        }
    };
    is_served(&mut client).await;
    let grown = memory().saturating_sub(before);
    assert!(grown < MOST_MEMORY, "the attack cost {grown} bytes of memory");
    result
}

/// Returns the bytes of memory that this process has in use.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}
