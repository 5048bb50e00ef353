//! A connection through `ssh`, as Docker's own tools make one: `docker system dial-stdio` is run on the engine's
//! machine, and carries bytes between its pipes and the engine's socket.
//!
//! The user's own `ssh` is run, with its configuration, keys and known hosts. It never asks anybody anything, since
//! there is nobody to answer. The process lives as long as the connection and is ended with it; what it wrote to stderr
//! is the reason that is given when it ends by itself.

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidewatch_core::BoxFuture;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use super::address::Login;
use super::transport::shorten;

/// How long `ssh` may take to reach the machine, in its own words. The call's own deadline is shorter, where it matters.
const CONNECT_TIMEOUT: &str = "ConnectTimeout=15";

/// How much is kept of what `ssh` says: its last words, which are the reason, as far as they fit an error's text.
const MAX_SAID_BYTES: usize = 300;

/// How long is waited for last words once the process has ended. They are there at once, unless some other process that
/// it has left behind (a multiplexing master) holds the pipe open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Starts `ssh`. Whether it gets through shows when something is read.
pub(super) fn dial(program: &Path, login: &Login) -> io::Result<SshConnection> {
    let mut child = command(program, login).spawn().map_err(|error| {
        let text = format!("{} cannot be started: {error}", program.display());
        io::Error::new(error.kind(), text)
    })?;
    let piped = || io::Error::other("ssh has no pipes");
    Ok(SshConnection {
        stdin: child.stdin.take().ok_or_else(piped)?,
        stdout: child.stdout.take().ok_or_else(piped)?,
        running: Some((child.stderr.take().ok_or_else(piped)?, child)),
        said: Vec::new(),
        end: None,
    })
}

fn command(program: &Path, login: &Login) -> Command {
    let mut command = Command::new(program);
    command.args(["-T", "-o", "BatchMode=yes", "-o", CONNECT_TIMEOUT]);
    if let Some(user) = &login.user {
        command.args(["-l", user]);
    }
    if let Some(port) = login.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &login.host, "docker"]);
    if let Some(socket) = &login.socket {
        command.args(["--host", &format!("unix://{socket}")]);
    }
    command
        .args(["system", "dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// The pipes of a running `ssh`. Dropping it ends the process.
pub(super) struct SshConnection {
    stdin: ChildStdin,
    stdout: ChildStdout,
    /// None once its end is waited for.
    running: Option<(ChildStderr, Child)>,
    said: Vec<u8>,
    end: Option<BoxFuture<'static, io::Result<()>>>,
}

impl SshConnection {
    /// Takes what has been said, so that the process never waits for somebody to listen.
    fn listen(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some((stderr, _)) = &mut self.running else {
            return Ok(());
        };
        let mut bytes = [0; 512];
        let mut buf = ReadBuf::new(&mut bytes);
        while let Poll::Ready(read) = Pin::new(&mut *stderr).poll_read(cx, &mut buf) {
            read?;
            if buf.filled().is_empty() {
                break;
            }
            keep_last(&mut self.said, buf.filled());
            buf.clear();
        }
        Ok(())
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some((stderr, child)) = self.running.take() {
            let said = std::mem::take(&mut self.said);
            self.end = Some(Box::pin(last_words(child, stderr, said)));
        }
        match &mut self.end {
            None => Poll::Ready(Ok(())),
            Some(end) => {
                let result = ready!(end.as_mut().poll(cx));
                self.end = None;
                Poll::Ready(result)
            }
        }
    }
}

/// How it ended: an error, unless it was its wish.
async fn last_words(mut child: Child, mut stderr: ChildStderr, mut said: Vec<u8>) -> io::Result<()> {
    let status = child.wait().await?;
    if status.success() {
        return Ok(());
    }
    let rest = async {
        let mut bytes = [0; 512];
        while let Ok(read @ 1..) = stderr.read(&mut bytes).await {
            keep_last(&mut said, &bytes[..read]);
        }
    };
    // What comes too late is not told; that it has ended is.
    let _ = tokio::time::timeout(LAST_WORDS, rest).await;
    let text = shorten(String::from_utf8_lossy(&said).trim());
    Err(io::Error::other(SshEnded { status, text }))
}

fn keep_last(said: &mut Vec<u8>, more: &[u8]) {
    said.extend_from_slice(more);
    let excess = said.len().saturating_sub(MAX_SAID_BYTES);
    said.drain(..excess);
}

/// `ssh`, or what it ran, has ended by itself.
#[derive(Debug)]
struct SshEnded {
    status: ExitStatus,
    text: String,
}

impl fmt::Display for SshEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ssh ended with {}", self.status)?;
        if self.text.is_empty() {
            f.write_str(" and said nothing")
        } else {
            write!(f, ": {}", self.text)
        }
    }
}

impl std::error::Error for SshEnded {}

impl AsyncRead for SshConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.listen(cx)?;
        if self.running.is_some() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.stdout).poll_read(cx, buf))?;
            if buf.filled().len() > before || buf.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
        }
        self.poll_end(cx)
    }
}

/// A process that has gone takes no more bytes. Why it has gone is told to whoever reads, so a write only says that it did
/// its part.
fn or_told_later<T>(written: Poll<io::Result<T>>, done: T) -> Poll<io::Result<T>> {
    match written {
        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Poll::Ready(Ok(done)),
        other => other,
    }
}

impl AsyncWrite for SshConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        or_told_later(Pin::new(&mut self.stdin).poll_write(cx, buf), buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        or_told_later(Pin::new(&mut self.stdin).poll_flush(cx), ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        or_told_later(Pin::new(&mut self.stdin).poll_shutdown(cx), ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(user: Option<&str>, port: Option<u16>, socket: Option<&str>) -> String {
        let login = Login {
            user: user.map(str::to_owned),
            host: "web1".to_owned(),
            port,
            socket: socket.map(str::to_owned),
        };
        let command = command(Path::new("ssh"), &login);
        let words: Vec<_> = command
            .as_std()
            .get_args()
            .map(|word| word.to_string_lossy())
            .collect();
        words.join(" ")
    }

    #[test]
    fn ssh_is_told_what_dockers_own_tools_tell_it_and_never_asks() {
        assert_eq!(
            words(None, None, None),
            "-T -o BatchMode=yes -o ConnectTimeout=15 -- web1 docker system dial-stdio"
        );
        let all = words(Some("me"), Some(2222), Some("/run/podman.sock"));
        assert!(
            all.ends_with("-l me -p 2222 -- web1 docker --host unix:///run/podman.sock system dial-stdio"),
            "{all}"
        );
    }
}
