//! An item that calls the pool that it runs in is refused: it would wait for a slot while it holds one.

use std::num::NonZeroU32;
use std::sync::Arc;

use procpool_pool::PoolConfig;
use procpool_proto::google::rpc::ErrorInfo;
use procpool_proto::v1::{MapRequest, map_request};
use procpool_server::NamedPool;
use tonic::{Code, Request};

use crate::support::details::detail;
use crate::support::scripted::{Script, ScriptedSpawner};
use crate::support::{TestServer, blobs, config, within};

fn call(caller_pool: &str) -> Request<MapRequest> {
    let items = Some(map_request::Items::Blobs(blobs(["a"])));
    let mut request = Request::new(MapRequest { function: "echo".to_owned(), items, ..MapRequest::default() });
    request.metadata_mut().insert("procpool-caller-pool", caller_pool.parse().unwrap());
    request
}

#[tokio::test]
async fn a_call_of_the_own_pool_is_refused_and_one_from_another_is_not() {
    let spawner = Arc::new(ScriptedSpawner::new(Script::default()));
    let pool = NamedPool {
        caller_id: "this/default".to_owned(),
        ..NamedPool::new("default", PoolConfig::new(NonZeroU32::MIN), spawner)
    };
    let server = TestServer::start_named(config(), vec![pool]).await;
    let mut client = server.client().await;
    let refused = within(client.map(call("this/default"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let info = detail::<ErrorInfo>(&refused, "ErrorInfo").unwrap();
    assert_eq!((info.reason.as_str(), info.metadata["pool"].as_str()), ("NESTED_CALL", "default"));
    for other in ["other/default", "this/other", ""] {
        within(client.map(call(other))).await.unwrap();
    }
    server.stop().await;
}
