//! A backup as a stream: the copy is made first, so that what is sent is whole.

use std::pin::Pin;

use futures_core::Stream;
use futures_util::stream;
use sha2::{Digest, Sha256};
use tidewatch_core::Error;
use tidewatch_core::error::Cause;
use tidewatch_proto::v1;
use tidewatch_proto::v1::backup_response::{Begin, End, Response as Message};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tonic::Status;

use super::status;
use crate::store::OutgoingBackup;

/// How much of the file travels in one message. The most that is promised is 1 MiB; a quarter keeps
/// the memory per download small and costs nothing in speed.
const CHUNK_BYTES: usize = 256 << 10;

/// The messages of a backup.
pub(crate) type BackupStream = Pin<Box<dyn Stream<Item = Result<v1::BackupResponse, Status>> + Send>>;

/// What is to be sent next.
enum Step {
    Begin,
    Data,
    Done,
}

struct Sender {
    step: Step,
    file: File,
    hash: Sha256,
    sent: u64,
    /// Kept until the last byte is read.
    outgoing: OutgoingBackup,
}

/// Sends a copy. The file is read only as fast as the client takes it, and is gone when the stream is
/// dropped.
pub(super) async fn send(outgoing: OutgoingBackup) -> Result<BackupStream, Status> {
    let file = File::open(&outgoing.backup.path).await.map_err(failed)?;
    let sender = Sender {
        step: Step::Begin,
        file,
        hash: Sha256::new(),
        sent: 0,
        outgoing,
    };
    Ok(Box::pin(stream::try_unfold(sender, async |mut sender| {
        let message = sender.next().await.map_err(failed)?;
        Ok(message.map(|message| {
            let response = v1::BackupResponse {
                response: Some(message),
            };
            (response, sender)
        }))
    })))
}

impl Sender {
    async fn next(&mut self) -> std::io::Result<Option<Message>> {
        match self.step {
            Step::Begin => {
                self.step = Step::Data;
                let backup = &self.outgoing.backup;
                Ok(Some(Message::Begin(Begin {
                    keyspace_id: backup.keyspace.0,
                    revision: backup.revision.0,
                    format: "sqlite".to_owned(),
                    size_bytes: backup.bytes,
                })))
            }
            Step::Data => {
                let mut chunk = Vec::with_capacity(CHUNK_BYTES);
                let mut part = (&mut self.file).take(CHUNK_BYTES as u64);
                part.read_to_end(&mut chunk).await?;
                if chunk.is_empty() {
                    self.step = Step::Done;
                    return Ok(Some(Message::End(End {
                        size_bytes: self.sent,
                        sha256: self.hash.finalize_reset().to_vec().into(),
                    })));
                }
                self.hash.update(&chunk);
                self.sent += chunk.len() as u64;
                Ok(Some(Message::Data(chunk.into())))
            }
            Step::Done => Ok(None),
        }
    }
}

/// The copy is a file of ours: if it cannot be read, the disk is to blame.
fn failed(error: std::io::Error) -> Status {
    status(Error::Journal(Cause::from(Box::<
        dyn std::error::Error + Send + Sync,
    >::from(error))))
}
