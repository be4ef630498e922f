//! `DumpWorker`: where a worker is, and the ways in which that cannot be told.

use procpool_proto::v1::pool_admin_service_client::PoolAdminServiceClient;
use procpool_proto::v1::{DumpWorkerRequest, GetPoolRequest};
use tonic::Code;

use crate::support::details::{fields, reason};
use crate::support::{TestServer, within};

#[tokio::test]
async fn the_stacks_of_a_worker_are_told() {
    let server = TestServer::start().await;
    let mut admin = PoolAdminServiceClient::new(server.channel().await);
    let pool = within(admin.get_pool(GetPoolRequest::default())).await.unwrap().into_inner().pool.unwrap();
    for worker in &pool.workers {
        let request = DumpWorkerRequest { worker_id: worker.worker_id, pool: String::new() };
        assert_eq!(within(admin.dump_worker(request)).await.unwrap().into_inner().stacks, "the stack");
    }
    let unknown = within(admin.dump_worker(DumpWorkerRequest { worker_id: 999, pool: String::new() })).await;
    let unknown = unknown.unwrap_err();
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "WORKER_NOT_FOUND"));
    let request = DumpWorkerRequest { worker_id: pool.workers[0].worker_id, pool: "nowhere".to_owned() };
    let elsewhere = within(admin.dump_worker(request)).await.unwrap_err();
    assert_eq!((elsewhere.code(), fields(&elsewhere)), (Code::InvalidArgument, vec!["pool".to_owned()]));
    drop(admin);
    server.stop().await;
}
