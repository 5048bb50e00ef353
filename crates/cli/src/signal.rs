//! What tells a running command to stop: the person, the system, or a reader that went away.

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit;
use crate::failure::Result;

/// The first SIGINT (Ctrl-C) or SIGTERM, from now on. The second one ends the process at once, whatever
/// it hangs in.
pub(crate) struct Signals {
    first: oneshot::Receiver<&'static str>,
}

impl Signals {
    /// Takes the signals over. From now on they do not end the process by themselves.
    pub(crate) fn new() -> Result<Self> {
        let take = |kind| signal(kind).context("failed to listen for signals");
        let mut interrupt = take(SignalKind::interrupt())?;
        let mut terminate = take(SignalKind::terminate())?;
        let (tell, first) = oneshot::channel();
        tokio::spawn(async move {
            let _ = tell.send(either(&mut interrupt, &mut terminate).await);
            either(&mut interrupt, &mut terminate).await;
            std::process::exit(exit::FAILED.into());
        });
        Ok(Self { first })
    }

    /// Waits for the first signal, and tells its name. Not to be called again after that.
    ///
    /// # Cancel safety
    /// Safe: a signal is either returned or still there for the next call.
    pub(crate) async fn next(&mut self) -> &'static str {
        match (&mut self.first).await {
            Ok(name) => name,
            // Only when the runtime ends, and this with it.
            Err(_) => std::future::pending().await,
        }
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

/// Resolves when nobody reads stdout any more.
///
/// Without it a command that waits for events would notice only at the next one. A thread of its own
/// sleeps in the kernel until then; it ends with the process.
pub(crate) async fn stdout_closed() {
    let (closed, receiver) = oneshot::channel();
    let wait = move || {
        let stdout = std::io::stdout();
        loop {
            // Asking for nothing leaves the errors: a pipe without a reader, a terminal that hung up.
            let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => {}
                Ok(1..) if fds[0].revents().intersects(PollFlags::ERR | PollFlags::HUP) => break,
                // Stdout cannot be polled; a failed write will tell.
                _ => return,
            }
        }
        let _ = closed.send(());
    };
    // Without the thread the next write tells.
    let _ = std::thread::Builder::new().name("stdout".into()).spawn(wait);
    if receiver.await.is_err() {
        std::future::pending::<()>().await;
    }
}
