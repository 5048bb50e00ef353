//! Backups that arrive, and those that do not.

#![expect(
    clippy::unnecessary_wraps,
    reason = "it stands in lists in which others fail, or in fields"
)]

use std::pin::Pin;

use bytes::Bytes;
use futures_core::Stream;
use sha2::{Digest as _, Sha256};
use tidewatch_client::{Backup, Client, Error, ErrorKind, Revision};
use tidewatch_proto::v1;
use tidewatch_proto::v1::admin_server::AdminServer;
use tidewatch_proto::v1::backup_response::{Begin, End, Response as Said};
use tonic::{Request, Response, Status};

use crate::fake::{KEYSPACE, serve, soon};

/// A server that sends these messages as a backup, whoever asks.
struct Sender(Vec<Result<Said, Status>>);

#[tonic::async_trait]
impl v1::admin_server::Admin for Sender {
    type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

    async fn status(&self, _: Request<v1::StatusRequest>) -> Result<Response<v1::StatusResponse>, Status> {
        Ok(Response::new(v1::StatusResponse::default()))
    }

    async fn backup(&self, _: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let said = self.0.clone().into_iter().map(|said| {
            said.map(|response| v1::BackupResponse {
                response: Some(response),
            })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(said))))
    }

    async fn list_watchers(
        &self,
        _: Request<v1::ListWatchersRequest>,
    ) -> Result<Response<v1::ListWatchersResponse>, Status> {
        nobody_watches()
    }

    async fn cancel_watcher(
        &self,
        _: Request<v1::CancelWatcherRequest>,
    ) -> Result<Response<v1::CancelWatcherResponse>, Status> {
        nobody_watches()
    }
}

fn nobody_watches<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("this server sends backups"))
}

async fn client(said: Vec<Result<Said, Status>>) -> Client {
    let endpoint = serve(AdminServer::new(Sender(said))).await;
    Client::builder(endpoint).connect().await.unwrap()
}

fn begin() -> Result<Said, Status> {
    Ok(Said::Begin(Begin {
        keyspace_id: KEYSPACE,
        revision: 9,
        format: "sqlite".into(),
        size_bytes: 7,
    }))
}

fn data(text: &'static str) -> Result<Said, Status> {
    Ok(Said::Data(Bytes::from_static(text.as_bytes())))
}

fn end(text: &str) -> Result<Said, Status> {
    Ok(Said::End(End {
        size_bytes: text.len() as u64,
        sha256: Sha256::digest(text).to_vec().into(),
    }))
}

async fn read(backup: &mut Backup) -> Result<Vec<u8>, Error> {
    let mut all = Vec::new();
    while let Some(data) = soon("data", backup.next()).await? {
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[tokio::test]
async fn a_backup_that_arrives_as_it_was_sent_ends_without_an_error() {
    let client = client(vec![begin(), data("all"), data(" of it"), end("all of it")]).await;
    let mut backup = client.backup().await.unwrap();
    assert_eq!(
        (backup.revision(), backup.format(), backup.size()),
        (Revision(9), "sqlite", Some(7))
    );
    assert_eq!(read(&mut backup).await.unwrap(), b"all of it");
    assert!(backup.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_backup_that_does_not_arrive_as_it_was_sent_is_an_error() {
    for (said, why) in [
        (vec![begin(), data("all")], "the server ended it early"),
        (
            vec![begin(), data("al"), end("all")],
            "3 bytes were sent, 2 arrived",
        ),
        (vec![begin(), data("alk"), end("all")], "its checksum is wrong"),
        (
            vec![begin(), data("all"), Err(Status::unavailable("gone"))],
            "gone",
        ),
        (vec![begin(), begin()], "it holds what this version does not know"),
    ] {
        let mut backup = client(said).await.backup().await.unwrap();
        let error = read(&mut backup).await.unwrap_err();
        assert_eq!(error.to_string(), format!("the backup is incomplete: {why}"));
        assert_eq!(error.kind(), ErrorKind::Failed);
    }
    let headless = client(vec![data("all")]).await.backup().await;
    assert!(matches!(headless, Err(Error::IncompleteBackup { .. })));
}

#[tokio::test]
async fn a_status_without_a_keyspace_is_no_status() {
    let error = client(Vec::new()).await.status().await.unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error:?}");
}
