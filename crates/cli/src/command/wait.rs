//! `tidewatch wait`: until a workload is as it should be.

use std::time::Duration;

use serde::Serialize;
use tidewatch_client::Client;
use tidewatch_core::watch::WatchRequest;
use tidewatch_core::{Batch, BatchKind, EndReason, Ended, Revision};
use tidewatch_fleet::expectation::{counts, is_up};
use tidewatch_fleet::{FleetKey, JoinedRow, View, Workload, WorkloadId, is_healthy, key};

use crate::connection::Connection;
use crate::exit;
use crate::failure::{Failure, Result, note};
use crate::output::Format;

/// Wait until a workload is healthy
///
/// A workload that expects something (`workload declare --expect`) is healthy while at least so many containers of each of
/// those roles run and are not unhealthy; one that expects nothing, while it has containers and all of them do.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The workload's id
    id: WorkloadId,
    /// Wait until it is healthy
    #[arg(long, required = true)]
    healthy: bool,
    /// How long to wait at most; 0s looks once
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    timeout: Duration,
}

const EXAMPLES: &str = "\
Ends with 0 when it is healthy, with 1 when the time is over, saying on stderr what is missing,
and with 5 when there is no such workload, or no longer. A connection that is lost meanwhile is
made again until the time is over; without one to begin with it ends with 3.

Examples:
  tidewatch wait shop --healthy
  tidewatch wait shop --healthy --timeout 5m && notify-send 'The shop is up'";

pub(crate) async fn run(args: &Args, connection: Connection) -> Result {
    debug_assert!(args.healthy, "there is nothing else to wait for");
    let is_one_look = args.timeout.is_zero();
    let limit = if is_one_look { ONE_LOOK } else { args.timeout };
    let mut seen = Seen::new(args.id.clone());
    let waiting = async {
        let client = connection.open().await?;
        seen.wait_on(&client, is_one_look).await
    };
    let is_healthy = tokio::time::timeout(limit, waiting).await.unwrap_or(Ok(false))?;
    let mut output = connection.output();
    match output.format() {
        Format::Json => output.json(&seen.line())?,
        Format::Text if is_healthy => output.line(format_args!("{} is healthy", args.id))?,
        Format::Text => {}
    }
    output.flush()?;
    if is_healthy {
        return Ok(());
    }
    for missing in seen.missing() {
        note(&missing);
    }
    let limit = humantime::format_duration(limit);
    let id = &args.id;
    let what = match seen.revision {
        Some(_) if is_one_look => format!("{id} is not healthy"),
        Some(_) => format!("{id} is not healthy after {limit}"),
        None => format!("nothing was heard of {id} within {limit}"),
    };
    Err(Failure::message(exit::FAILED, what))
}

/// How long a single look may take: as with any other command it is the server that ends it, unless that hangs.
const ONE_LOOK: Duration = Duration::from_secs(30);

/// A workload and its rows, as they were last heard of.
struct Seen {
    id: WorkloadId,
    view: View,
    /// Of what was heard last; none: not everything has been heard of yet.
    revision: Option<Revision>,
}

impl Seen {
    fn new(id: WorkloadId) -> Self {
        Self {
            id,
            view: View::default(),
            revision: None,
        }
    }

    /// Returns when the workload is healthy, and if one look is enough whether it is.
    async fn wait_on(&mut self, client: &Client, is_one_look: bool) -> Result<bool> {
        let request = WatchRequest {
            snapshot: true,
            ..WatchRequest::new([
                FleetKey::Workload(self.id.clone()).to_range(),
                key::deploy_rows(&self.id),
                key::container_rows(&self.id),
                // Of hosts that nobody looks after nothing is known.
                key::section(key::ALIVE),
            ])
        };
        loop {
            let mut watch = client.backend().watch(request.clone()).await?;
            let ended = loop {
                match watch.next().await {
                    Ok(batch) => match self.take(&batch)? {
                        Some(true) => return Ok(true),
                        Some(false) if is_one_look => return Ok(false),
                        _ => {}
                    },
                    Err(ended) => break ended,
                }
            };
            // What counts is how it is: where the watch cannot go on, another begins with that.
            if !begins_anew(&ended) {
                return Err(over(ended));
            }
        }
    }

    /// Takes over what was heard, and tells whether the workload is healthy now; none while that is not known.
    fn take(&mut self, batch: &Batch) -> Result<Option<bool>> {
        match batch.kind() {
            BatchKind::SnapshotBegin => {
                self.view = View::default();
                self.revision = None;
            }
            BatchKind::Snapshot => batch.iter().for_each(|event| self.view.put(&event.to_owned().kv)),
            BatchKind::SnapshotEnd => self.revision = Some(batch.revision()),
            BatchKind::Events => {
                for event in batch {
                    let event = event.to_owned();
                    self.view.apply(event.kind, &event.kv);
                }
                self.revision = self.revision.map(|_| batch.revision());
            }
            BatchKind::Progress => {}
        }
        // Half of a revision, or of a snapshot, is a state that never was.
        if self.revision.is_none() || batch.is_partial() {
            return Ok(None);
        }
        let Some(workload) = self.workload() else {
            return Err(self.absent());
        };
        Ok(Some(is_healthy(workload, &self.view.joined())))
    }

    fn workload(&self) -> Option<&Workload> {
        self.view.workloads.get(&self.id).map(|entry| &entry.value)
    }

    fn absent(&self) -> Failure {
        let name = FleetKey::Workload(self.id.clone());
        match self.view.skipped.get(&name.to_bytes()) {
            Some(skipped) => {
                let reason = &skipped.reason;
                Failure::message(exit::FAILED, format!("{name} is ignored: {reason}"))
                    .hint("declare it again with `tidewatch workload declare`")
            }
            None => Failure::message(exit::NOT_FOUND, format!("there is no workload {}", self.id))
                .hint("`tidewatch workload ls` shows those that there are"),
        }
    }

    /// What stands between the workload and its health, for people.
    fn missing(&self) -> Vec<String> {
        let Some(workload) = self.workload() else {
            return Vec::new();
        };
        let rows = self.view.joined();
        if rows.is_empty() && workload.expect.is_empty() {
            return vec![format!("{} has no containers", self.id)];
        }
        let counts = counts(workload, &rows);
        let short: Vec<_> = counts.iter().filter(|count| count.missing() > 0).collect();
        let roles = short
            .iter()
            .map(|count| format!("role {}: {} of {}", count.role, count.found, count.min));
        let matters = |row: &&JoinedRow| {
            !is_up(row) && (counts.is_empty() || short.iter().any(|count| count.role == row.role))
        };
        roles.chain(rows.iter().filter(matters).map(told)).collect()
    }

    fn line(&self) -> Line<'_> {
        let rows = self.view.joined();
        let workload = self.workload();
        let roles = workload.map(|workload| counts(workload, &rows));
        let expected = |count: tidewatch_fleet::Count| Expected {
            min: count.min,
            found: count.found,
            role: count.role.to_string(),
        };
        Line {
            id: &self.id,
            healthy: workload.is_some_and(|workload| is_healthy(workload, &rows)),
            revision: self.revision.map(|revision| revision.0),
            expect: roles.into_iter().flatten().map(expected).collect(),
            missing: self.missing(),
        }
    }
}

/// The one line for scripts.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a WorkloadId,
    healthy: bool,
    revision: Option<u64>,
    expect: Vec<Expected>,
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Expected {
    role: String,
    min: u32,
    found: u32,
}

/// A container that does not count, and why.
fn told(row: &JoinedRow) -> String {
    let mut what = match row
        .health
        .filter(|_| row.state == tidewatch_fleet::State::Running)
    {
        Some(health) => format!("{} ({health})", row.state),
        None => row.state.to_string(),
    };
    if let Some(code) = row.exit_code {
        what = format!("{what} (exit {code})");
    }
    if !row.reason.is_empty() {
        what = format!("{what}: {}", row.reason);
    }
    let place = if row.host.is_empty() {
        String::new()
    } else {
        format!(" on {}", row.host)
    };
    format!("{}/{}{place}: {what}", row.workload_id, row.row)
}

fn begins_anew(ended: &Ended) -> bool {
    matches!(
        ended.reason,
        EndReason::Compacted { .. } | EndReason::KeyspaceChanged { .. } | EndReason::Overflow
    )
}

fn over(ended: Ended) -> Failure {
    match ended.reason {
        EndReason::Failed(error) => Failure::from(error).context("the watch ended"),
        EndReason::Canceled => Failure::message(
            exit::FAILED,
            "the watch ended: an operator of the server canceled it",
        ),
        _ => Failure::new(exit::FAILED, ended),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "it looks like `30s` or `5m`".to_owned())
}
