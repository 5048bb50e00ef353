//! NATS over plain TCP: only what the bench needs of its protocol, so that reading is as cheap as can be.
//!
//! A watch is a subscription. A connection has one stream of messages for all of its own; a task cuts that into messages where
//! their heads say so, and copies no value. A put is `PUB` and `PING`; its answer is the `PONG`, which tells that the server has
//! taken it. It comes on the same connection as messages do, behind those that were there before.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::{Face, Watch};

/// The subject that everybody watches: writers publish below it.
const SUBJECTS: &str = "fanout.>";

/// What is read at a time, and more than any line.
const BUFFER: usize = 64 << 10;

pub(crate) struct Nats {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// Where messages come from; whoever watches takes it.
    reader: Mutex<Option<Messages>>,
    pongs: Pongs,
}

/// Who waits for which answer, in order: writers at most.
type Pongs = Arc<Mutex<VecDeque<oneshot::Sender<()>>>>;

pub(crate) struct Messages {
    from: OwnedReadHalf,
    buffer: BytesMut,
    pongs: Pongs,
}

impl Face for Nats {
    type Watch = Messages;

    async fn connect(to: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(to).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (from, mut writer) = stream.into_split();
        writer
            .write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")
            .await?;
        let pongs = Pongs::default();
        let messages = Messages {
            from,
            buffer: BytesMut::with_capacity(BUFFER),
            pongs: Arc::clone(&pongs),
        };
        Ok(Self {
            writer: writer.into(),
            reader: Mutex::new(Some(messages)),
            pongs,
        })
    }

    async fn watch(&self, count: usize) -> Result<Vec<Messages>> {
        let reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut messages = reader.context("a connection is watched once")?;
        let subscriptions: Vec<_> = (1..=count)
            .map(|number| format!("SUB {SUBJECTS} {number}\r\n"))
            .collect();
        let subscriptions = subscriptions.concat();
        let mut answered = self.ask(subscriptions.as_bytes()).await?;
        while answered.try_recv().is_err() {
            messages.next(|_| {}).await?;
        }
        Ok(vec![messages])
    }

    async fn put(&self, key: &str, value: Bytes) -> Result<()> {
        let subject = key.trim_matches('/').replace('/', ".");
        let mut message = format!("PUB {subject} {}\r\n", value.len()).into_bytes();
        message.extend_from_slice(&value);
        message.extend_from_slice(b"\r\n");
        self.ask(&message).await?.await.context("the connection is lost")
    }
}

impl Nats {
    /// Sends something, and has the server say when it has taken it.
    async fn ask(&self, what: &[u8]) -> Result<oneshot::Receiver<()>> {
        let (pong, answered) = oneshot::channel();
        let message = [what, b"PING\r\n"].concat();
        let mut writer = self.writer.lock().await;
        self.pongs
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push_back(pong);
        writer.write_all(&message).await?;
        Ok(answered)
    }
}

impl Watch for Messages {
    async fn next(&mut self, mut read: impl FnMut(&[u8]) + Send) -> Result<()> {
        self.buffer.reserve(BUFFER);
        let received = self.from.read_buf(&mut self.buffer).await?;
        ensure!(received > 0, "the server closed a connection");
        while self.take(&mut read)? {}
        Ok(())
    }
}

impl Messages {
    /// Takes one message out of the buffer. Returns whether one was there.
    fn take(&mut self, read: &mut impl FnMut(&[u8])) -> Result<bool> {
        let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') else {
            return Ok(false);
        };
        let line = self.buffer[..end].trim_ascii_end();
        if line.starts_with(b"MSG ") {
            let length = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
            let length: usize = std::str::from_utf8(length)?.parse()?;
            let value = end + 1;
            // The value, and the end of its line.
            if self.buffer.len() < value + length + 2 {
                return Ok(false);
            }
            read(&self.buffer[value..value + length]);
            self.buffer.advance(value + length + 2);
            return Ok(true);
        }
        match line {
            b"PONG" => {
                let pong = self
                    .pongs
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .pop_front();
                // Who asked may have gone.
                let _ = pong.context("an answer that nobody asked for")?.send(());
            }
            line if line.starts_with(b"INFO ") => {}
            // Asked once after two seconds and then every two minutes; a server gives up after two that were not
            // answered, and no measurement takes that long.
            b"PING" => {}
            line => bail!("the server says {}", String::from_utf8_lossy(line)),
        }
        self.buffer.advance(end + 1);
        Ok(true)
    }
}
