//! What tells a running command to stop: the person, the system, or a reader that went away.

use anyhow::Context as _;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpid};
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use crate::disposition::Dispositions;
use crate::exit;
use crate::failure::Result;

/// SIGINT (Ctrl-C) and SIGTERM, from now on.
pub(crate) struct Signals {
    told: mpsc::UnboundedReceiver<&'static str>,
}

impl Signals {
    /// Takes the signals over. From now on the first one does not end the process by itself; the second one does, at once,
    /// whatever it hangs in.
    pub(crate) fn new() -> Result<Self> {
        let mut taken = Taken::new()?;
        let (tell, told) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let _ = tell.send(taken.next().await);
            taken.next().await;
            std::process::exit(exit::FAILED.into());
        });
        Ok(Self { told })
    }

    /// Waits for the next signal, and tells its name.
    ///
    /// # Cancel safety
    /// Safe: a signal is either returned or still there for the next call.
    pub(crate) async fn next(&mut self) -> &'static str {
        match self.told.recv().await {
            Some(name) => name,
            // Only when the runtime ends, and this with it.
            None => std::future::pending().await,
        }
    }
}

struct Taken {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Taken {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: take(SignalKind::interrupt())?,
            terminate: take(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

/// What asks a command to end that has started a program, which must not be left behind: SIGINT, SIGTERM, and from a
/// terminal also SIGQUIT (Ctrl-\) and SIGHUP (it goes away). None of them ends the process.
pub(crate) struct ParentSignals {
    taken: Taken,
    quit: Option<unix::Signal>,
    hangup: Option<unix::Signal>,
}

impl ParentSignals {
    /// Takes the signals over. A SIGQUIT or SIGHUP that was ignored, as under `nohup`, still is.
    pub(crate) fn new() -> Result<Self> {
        let own = Dispositions::of(getpid());
        let unless_ignored = |signal, kind| {
            let is_ignored = own.as_ref().is_some_and(|own| own.ignores(signal));
            if is_ignored {
                Ok(None)
            } else {
                take(kind).map(Some)
            }
        };
        Ok(Self {
            quit: unless_ignored(Signal::QUIT, SignalKind::quit())?,
            hangup: unless_ignored(Signal::HUP, SignalKind::hangup())?,
            taken: Taken::new()?,
        })
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// Safe: a signal is either returned or still there for the next call.
    pub(crate) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.taken.interrupt.recv() => Signal::INT,
            _ = self.taken.terminate.recv() => Signal::TERM,
            () = received(&mut self.quit) => Signal::QUIT,
            () = received(&mut self.hangup) => Signal::HUP,
        }
    }
}

async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

fn take(kind: SignalKind) -> Result<unix::Signal> {
    Ok(signal(kind).context("failed to listen for signals")?)
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
