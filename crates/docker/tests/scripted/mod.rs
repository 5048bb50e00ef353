//! An engine whose every answer is written down in the test, byte by byte where it matters.

#![allow(dead_code, reason = "each test file uses some of it")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub(crate) mod heard;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tidewatch_core::ManualClock;
use tidewatch_docker::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// What is sent after the request was read.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// A proper answer with this status and body.
    Proper(u16, String),
    /// These bytes, then the end of the connection.
    Cut(Vec<u8>),
    /// These bytes, then nothing until the client leaves.
    Stall(Vec<u8>),
    /// These bytes, then more of the same letter for as long as they are taken.
    Endless(Vec<u8>),
}

impl Answer {
    pub(crate) fn ok(body: impl Into<String>) -> Self {
        Self::Proper(200, body.into())
    }
}

/// The head of an answer in chunks, as Docker sends long lists and events.
pub(crate) const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The head, and each text as a chunk.
pub(crate) fn chunks<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut bytes = CHUNKED.as_bytes().to_vec();
    for text in texts {
        bytes.extend(format!("{:x}\r\n{text}\r\n", text.len()).into_bytes());
    }
    bytes
}

/// A listening engine. It lives as long as this.
#[derive(Debug)]
pub(crate) struct ScriptedEngine {
    socket: PathBuf,
    heads: Arc<Mutex<Vec<String>>>,
    arrived: mpsc::UnboundedReceiver<()>,
    left: mpsc::UnboundedReceiver<()>,
    listener: JoinHandle<()>,
    _dir: TempDir,
}

impl ScriptedEngine {
    /// Answers each request by its path and query.
    pub(crate) fn start(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (arrived_tx, arrived) = mpsc::unbounded_channel();
        let (left_tx, left) = mpsc::unbounded_channel();
        let (script, record) = (Arc::new(script), Arc::clone(&heads));
        let listener = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, record) = (Arc::clone(&script), Arc::clone(&record));
                let (arrived, left) = (arrived_tx.clone(), left_tx.clone());
                tokio::spawn(async move {
                    serve(stream, &*script, &record, &arrived).await;
                    left.send(()).ok();
                });
            }
        });
        Self {
            socket,
            heads,
            arrived,
            left,
            listener,
            _dir: dir,
        }
    }

    /// The same answer to everything.
    pub(crate) fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone())
    }

    /// The adapter to it. Its clock stands still, so that a machine that is slow is none that does not answer.
    pub(crate) fn engine(&self) -> Engine {
        let engine = Engine::at(self.socket().to_str().unwrap()).unwrap();
        engine.with_clock(Arc::new(ManualClock::new()))
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The first lines of the requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Waits until one more request was read.
    pub(crate) async fn request_arrived(&mut self) {
        self.arrived.recv().await.unwrap();
    }

    /// Waits until one more connection has come to its end.
    pub(crate) async fn connection_ended(&mut self) {
        self.left.recv().await.unwrap();
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn serve(
    mut stream: UnixStream,
    script: &(impl Fn(&str) -> Answer + ?Sized),
    record: &Mutex<Vec<String>>,
    arrived: &mpsc::UnboundedSender<()>,
) {
    while let Some(head) = read_head(&mut stream).await {
        let first = head.lines().next().unwrap().to_owned();
        let target = first.split(' ').nth(1).unwrap().to_owned();
        record.lock().unwrap().push(first);
        arrived.send(()).ok();
        match script(&target) {
            Answer::Proper(status, body) => {
                let length = body.len();
                let answer = format!("HTTP/1.1 {status} Some\r\nContent-Length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.ok();
                // Another request may follow on the same connection.
                continue;
            }
            Answer::Cut(bytes) => {
                stream.write_all(&bytes).await.ok();
            }
            Answer::Stall(bytes) => {
                stream.write_all(&bytes).await.ok();
                stream.read_u8().await.ok();
            }
            Answer::Endless(bytes) => {
                stream.write_all(&bytes).await.ok();
                let more = vec![b'x'; 64 * 1024];
                while stream.write_all(&more).await.is_ok() {}
            }
        }
        return;
    }
}

/// The head of a request; none if the client has left.
async fn read_head(stream: &mut UnixStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}
