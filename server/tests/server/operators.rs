//! Whom the operators' service answers, and that nobody else is kept from calling.

use procpool_proto::google::rpc::ErrorInfo;
use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{
    CancelJobRequest, DrainPoolRequest, DumpWorkerRequest, GetPoolRequest, MapRequest, ResizePoolRequest,
    RestartWorkersRequest, WatchPoolRequest, map_request,
};
use procpool_server::{Operators, ServerConfig};
use tonic::{Code, Status};

use crate::support::details::detail;
use crate::support::scripted::Script;
use crate::support::{TestServer, blobs, config, within};

#[tokio::test]
async fn where_nobody_operates_every_method_is_refused_and_calls_are_not() {
    let server =
        TestServer::start_with(ServerConfig { operators: Operators::Nobody, ..config() }, Script::default()).await;
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    let refused: Vec<Status> = vec![
        within(admin.get_pool(GetPoolRequest::default())).await.unwrap_err(),
        within(admin.watch_pool(WatchPoolRequest::default())).await.unwrap_err(),
        within(admin.resize_pool(ResizePoolRequest { num_slots: 1, ..Default::default() })).await.unwrap_err(),
        within(admin.restart_workers(RestartWorkersRequest::default())).await.unwrap_err(),
        within(admin.dump_worker(DumpWorkerRequest::default())).await.unwrap_err(),
        within(admin.cancel_job(CancelJobRequest::default())).await.unwrap_err(),
        within(admin.drain_pool(DrainPoolRequest::default())).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
        let info = detail::<ErrorInfo>(&status, "ErrorInfo").unwrap();
        assert_eq!(info.reason, "NOT_AN_OPERATOR");
        assert!(info.metadata["peer"].starts_with("127.0.0.1:"), "{info:?}");
        assert!(status.message().contains("set operators = \"local\""), "{}", status.message());
    }
    let items = Some(map_request::Items::Blobs(blobs(["a"])));
    let request = MapRequest { function: "echo".to_owned(), items, ..MapRequest::default() };
    within(server.client().await.map(request)).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_method_that_does_not_exist_is_refused_as_well() {
    let server =
        TestServer::start_with(ServerConfig { operators: Operators::Nobody, ..config() }, Script::default()).await;
    let mut client = tonic::client::Grpc::new(server.channel().await);
    client.ready().await.unwrap();
    let path = "/procpool.v1.PoolAdminService/NoSuchMethod".parse().unwrap();
    let codec = tonic_prost::ProstCodec::<GetPoolRequest, GetPoolRequest>::default();
    let refused = within(client.unary(tonic::Request::new(GetPoolRequest::default()), path, codec)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    server.stop().await;
}
