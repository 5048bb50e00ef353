//! `tidewatch.v1.Admin`.

use std::path::Path;

use sha2::{Digest, Sha256};
use tidewatch_proto::v1;
use tidewatch_proto::v1::admin_client::AdminClient;
use tidewatch_proto::v1::backup_response::Response as Message;
use tidewatch_server::Config;
use tidewatch_sqlite::Existing;
use tonic::Code;

use crate::rig::{TestServer, config, put, within};

async fn status(server: &TestServer) -> v1::StatusResponse {
    let mut client = AdminClient::new(server.channel().await);
    client.status(v1::StatusRequest {}).await.unwrap().into_inner()
}

#[tokio::test]
async fn the_status_tells_the_keyspace_and_who_serves_it() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    let header = client.put(put("/a", "12345")).await.unwrap().into_inner().header;
    let told = status(&server).await;
    assert_eq!(told.header, header);
    assert_eq!(
        (told.backend.as_str(), told.keys, told.oldest_revision),
        ("memory", 1, 1)
    );
    assert!(
        told.bytes >= 7 && told.quota_bytes > told.bytes && told.history_bytes > 0,
        "{told:?}"
    );
    assert!(!told.version.is_empty() && told.started.is_some());
    assert!(told.warnings.is_empty());
}

#[tokio::test]
async fn a_fleet_value_that_is_none_is_a_warning_and_stops_nobody() {
    let server = TestServer::start().await;
    let mut client = server.keyspace().await;
    client.put(put("/workloads/shop", "nonsense")).await.unwrap();
    let warnings = status(&server).await.warnings;
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("/workloads/shop is ignored: "),
        "{warnings:?}"
    );
}

/// Begin, all data, and the end if there was one.
async fn download(server: &TestServer) -> (v1::backup_response::Begin, Vec<u8>, v1::backup_response::End) {
    let mut client = AdminClient::new(server.channel().await);
    let mut stream = client.backup(v1::BackupRequest {}).await.unwrap().into_inner();
    let mut next = async || {
        let message = within("a part of the backup", stream.message()).await.unwrap();
        message.map(|message| message.response.unwrap())
    };
    let Some(Message::Begin(begin)) = next().await else {
        panic!("it does not begin")
    };
    let mut data = Vec::new();
    loop {
        match next().await {
            Some(Message::Data(part)) => data.extend_from_slice(&part),
            Some(Message::End(end)) => {
                assert!(next().await.is_none());
                return (begin, data, end);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_backup_is_whole_checked_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let durable = |data: &Path| Config {
        data_dir: Some(data.into()),
        ..config()
    };
    let server = TestServer::with(durable(&data)).await;
    let mut client = server.keyspace().await;
    let mut last = 0;
    for n in 0..50 {
        let value = vec![n; 50 << 10];
        last = client
            .put(put(&format!("/big/{n}"), value))
            .await
            .unwrap()
            .into_inner()
            .header
            .unwrap()
            .revision;
    }
    let (begin, copy, end) = download(&server).await;
    assert_eq!((begin.revision, begin.format.as_str()), (last, "sqlite"));
    assert_eq!(
        (begin.size_bytes, end.size_bytes),
        (copy.len() as u64, copy.len() as u64)
    );
    assert_eq!(end.sha256, Sha256::digest(&copy).to_vec());
    let left: Vec<_> = std::fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        left.iter()
            .all(|name| !name.to_string_lossy().contains("outgoing")),
        "{left:?}"
    );

    let file = dir.path().join("backup.db");
    std::fs::write(&file, copy).unwrap();
    let restored = dir.path().join("restored");
    tidewatch_sqlite::restore(&file, &restored, Existing::Refuse).unwrap();
    let server = TestServer::with(durable(&restored)).await;
    let told = status(&server).await;
    assert_eq!(
        (told.header.unwrap().revision, told.keys, told.backend.as_str()),
        (last, 50, "sqlite")
    );
    assert_ne!(
        told.header.unwrap().keyspace_id,
        begin.keyspace_id,
        "a restore is another history"
    );
}

#[tokio::test]
async fn a_keyspace_in_memory_has_no_backup() {
    let server = TestServer::start().await;
    let mut client = AdminClient::new(server.channel().await);
    let status = client.backup(v1::BackupRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("in memory"), "{status}");
}
