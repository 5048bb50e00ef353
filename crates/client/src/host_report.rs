//! What a reconciler tells a server about its host, while its lease is kept alive.

use tidewatch_core::{Error, LeaseId, Revision};
use tidewatch_fleet::{ContainerVerdict, HostName, HostReport, Verdicts};
use tidewatch_proto::v1;
use tidewatch_proto::v1::fleet_client::FleetClient;

use crate::client::Client;
use crate::failure::Intent;

/// A host as a reconciler has claimed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostClaim {
    /// The host.
    pub host: HostName,
    /// The lease that `/alive/<host>` is attached to.
    pub lease: LeaseId,
    /// The revision at which that key was written.
    pub claimed: Revision,
}

/// What a server answers to a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportTaken {
    /// Whether the lease lives, and `/alive/<host>` is attached to it and as it was claimed. If not, nothing was
    /// taken.
    pub held: bool,
    /// The server does not know what became of the containers.
    pub wants_verdicts: bool,
    /// Why the server did not take what became of the containers, for people; empty if it has refused nothing.
    pub refused: String,
}

impl Client {
    /// Keeps the lease of a host alive, and tells the server how its reconciler is. What became of the
    /// containers, `verdicts`, has to be told once for each number, claim and server; the answer says when
    /// it is missing. `now` is what the clock shows that the times in the report are from. `sequence` counts the reports
    /// of a claim from 1 in the order in which they were made: an older one that arrives late replaces no newer one. 0 is
    /// for who does not count.
    ///
    /// Without verdicts it is as small as any keep-alive, and goes to another server when it is not answered in
    /// [half of the time](crate::ClientBuilder::dead_after) after which a server counts as dead. With them it may take
    /// as long as any call, which no lease should have to wait for; it travels on a connection of its own, in front of no
    /// other call, and if it fails, other calls stay with their server.
    ///
    /// # Errors
    /// Those of a lease's keep-alive: [`Error::LeaseNotFound`], [`Error::Unavailable`];
    /// [`Error::Unsupported`] from a server that takes no reports.
    pub async fn report_host(
        &self,
        claim: &HostClaim,
        report: &HostReport,
        now: std::time::SystemTime,
        sequence: u64,
        (verdicts_version, verdicts): (u64, Option<&Verdicts>),
    ) -> Result<ReportTaken, Error> {
        let message = v1::ReportHostRequest {
            host: claim.host.to_string(),
            lease: claim.lease.0,
            now: Some(now.into()),
            report: Some(report_message(report)),
            verdicts_version,
            verdicts: verdicts.map(verdicts_message),
            claimed: claim.claimed.0,
            sequence,
        };
        let send = |channel, request| async move { FleetClient::new(channel).report_host(request).await };
        // To keep a lease alive twice, and to tell the same twice, does no harm.
        let answer = if verdicts.is_none() {
            self.connection().keep_alive(message, send).await
        } else {
            self.connection().upload(message, send).await
        };
        let answer = answer.map_err(|failure| failure.into_keyspace_error(Intent::Read))?;
        Ok(ReportTaken {
            held: answer.held,
            wants_verdicts: answer.wants_verdicts,
            refused: answer.refused,
        })
    }
}

fn report_message(report: &HostReport) -> v1::HostReport {
    v1::HostReport {
        reachable: report.reachable,
        since: report.since.map(Into::into),
        error: report.error.clone(),
        last_sync: report.last_sync.map(Into::into),
        lag_us: u64::try_from(report.lag.as_micros()).unwrap_or(u64::MAX),
        containers: report.containers,
        resyncs: report.resyncs,
        events: report.events,
        changes: report.changes,
        drift: report.drift,
        failures: report.failures,
    }
}

fn verdicts_message(told: &Verdicts) -> v1::ContainerVerdicts {
    let verdict = |verdict: &ContainerVerdict| v1::ContainerVerdict {
        container_id: verdict.container_id.clone(),
        name: verdict.name.clone(),
        image_ref: verdict.image_ref.clone(),
        state: verdict.state.to_string(),
        row: verdict.row.clone().unwrap_or_default(),
        reason: verdict.reason.clone(),
        message: verdict.message.clone(),
    };
    v1::ContainerVerdicts {
        verdicts: told.verdicts.iter().map(verdict).collect(),
        omitted: told.omitted,
    }
}
