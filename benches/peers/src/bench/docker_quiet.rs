//! `docker_quiet_*`: what a host costs on which nothing happens.
//!
//! **How.** A private daemon with 100 containers that do not run, a server whose only way to it is through a socket of ours that
//! counts connections, of which each call takes one. After the first resync, one minute: calls, revisions, and the CPU that server
//! and daemon use.
//!
//! **Fairness.** There is no peer. The revision stands beside what it was a minute before: nothing may be written. Calls stand beside what is promised: a ping every two seconds, and one resync, which is three
//! calls. The server's CPU stands beside the daemon's in the same minute, which is what our asking costs.
//!
//! **Unit.** Calls a minute; the keyspace's revision; milliseconds of CPU a minute.

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use tidewatch_client::{Client, Revision};

use super::Bench;
use crate::alternate::Plan;
use crate::process::cpu;
use crate::row::{Better, Row};
use crate::server::{self, Dockerd};
use crate::two_workers;

const CALLS: &str = "docker_quiet_calls_per_minute";
const WRITES: &str = "docker_quiet_revision";
const CPU: &str = "docker_quiet_cpu_per_minute";

const CONTAINERS: usize = 100;

/// The bench.
pub const BENCH: Bench = Bench {
    names: &[CALLS, WRITES, CPU],
    run,
};

fn run(_: Plan) -> Result<Vec<Row>> {
    let docker = Dockerd::start()?;
    for n in 0..CONTAINERS {
        docker.create(&format!("c{n}"))?;
    }
    let dir = tempfile::tempdir()?;
    let socket = dir.path().join("counted.sock");
    let counted = count(&socket, docker.socket())?;
    let server = server::tidewatch_on(&socket)?;
    let (addr, pid, daemon) = (server.addr(), server.pid(), docker.pid());
    two_workers::run(async move {
        let client = Client::builder(format!("http://{addr}")).connect().await?;
        let keyspace = client.keyspace();
        keyspace
            .put("/workloads/bench", r#"{"id":"bench","kind":"stack"}"#)
            .await?;
        // The first resync, what is told again, and whatever a new process does.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let look = async || {
            let revision = keyspace.status().await?.revision;
            anyhow::Ok((counted.load(Ordering::SeqCst), revision, cpu(pid)?, cpu(daemon)?))
        };
        let before = look().await?;
        tokio::time::sleep(Duration::from_secs(60)).await;
        let after = look().await?;
        let ms = |used: Duration| used.as_secs_f64() * 1e3;
        let calls = (after.0 - before.0) as f64;
        let revision = |revision: Revision| revision.0 as f64;
        Ok(vec![
            Row::new(CALLS, "calls", Better::Less, calls, "33 promised", 33.0),
            Row::new(
                WRITES,
                "revision",
                Better::Less,
                revision(after.1),
                "a minute before",
                revision(before.1),
            )
            .at_least(1.0),
            Row::new(
                CPU,
                "ms",
                Better::Less,
                ms(after.2.saturating_sub(before.2)),
                "dockerd",
                ms(after.3.saturating_sub(before.3)),
            ),
        ])
    })
}

/// Listens at `socket`, hands connections on to `upstream`, and counts them.
fn count(socket: &Path, upstream: PathBuf) -> io::Result<Arc<AtomicUsize>> {
    let listener = UnixListener::bind(socket)?;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    thread::spawn(move || {
        for client in listener.incoming() {
            let Ok(client) = client else { return };
            counted.fetch_add(1, Ordering::SeqCst);
            if let Ok(engine) = UnixStream::connect(&upstream) {
                copy(&client, &engine);
                copy(&engine, &client);
            }
        }
    });
    Ok(count)
}

fn copy(from: &UnixStream, to: &UnixStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else {
        return;
    };
    thread::spawn(move || {
        io::copy(&mut from, &mut to).ok();
        to.shutdown(std::net::Shutdown::Write).ok();
    });
}
