//! What the reconcilers of agents tell: held in memory for as long as their leases live.

mod message;
mod table;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidewatch_core::{Clock, Error, KeyValue, Keyspace, LeaseId, Revision};
use tidewatch_fleet::{FleetKey, HostName, HostReport, Verdicts};
use tidewatch_proto::v1;

use self::message::Shift;
use self::table::{Held, Known, MAX_HOSTS, MAX_VERDICTS_BYTES, Table};

/// The reports that servers hold of hosts that others reconcile.
pub(crate) struct Reports {
    clock: Arc<dyn Clock>,
    table: Mutex<Table>,
}

/// What is told of the containers of a host.
pub(crate) enum ToldOf {
    /// This.
    Verdicts(Arc<Verdicts>),
    /// Nothing yet.
    Nothing,
    /// What its reconciler tells is refused, and why.
    Refused(String),
}

impl Reports {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self::bounded(clock, MAX_HOSTS, MAX_VERDICTS_BYTES)
    }

    fn bounded(clock: Arc<dyn Clock>, max_hosts: usize, max_verdicts_bytes: usize) -> Self {
        Self {
            clock,
            table: Mutex::new(Table::new(max_hosts, max_verdicts_bytes)),
        }
    }

    /// Keeps the lease of a report alive, and takes the report.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::LeaseNotFound`].
    pub(crate) async fn take(
        &self,
        keyspace: &Keyspace,
        request: v1::ReportHostRequest,
    ) -> Result<v1::ReportHostResponse, Error> {
        let host = HostName::new(&request.host).map_err(|error| Error::InvalidArgument {
            what: "host",
            reason: error.to_string(),
        })?;
        let lease = LeaseId(request.lease);
        let (header, ttl) = keyspace.lease_keep_alive(lease).await?;
        let stored = keyspace.get(FleetKey::Alive(host.clone()).to_bytes()).await?;
        let mut answer = v1::ReportHostResponse {
            header: Some(header.into()),
            ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
            ..v1::ReportHostResponse::default()
        };
        // Whoever overwrites the key may leave it to its lease; it is another claim all the same.
        let is_as_claimed = |alive: &KeyValue| {
            alive.lease == Some(lease) && (request.claimed == 0 || alive.mod_revision.0 == request.claimed)
        };
        if let Some(alive) = stored.filter(is_as_claimed) {
            answer.held = true;
            self.hold(host, &alive, ttl, request, &mut answer);
        }
        Ok(answer)
    }

    /// Holds a report, if there is room for one of another host, and answers whether the verdicts of its number are
    /// missing or refused. What is refused is not asked for until as much as it last was has room.
    fn hold(
        &self,
        host: HostName,
        alive: &KeyValue,
        ttl: Duration,
        request: v1::ReportHostRequest,
        answer: &mut v1::ReportHostResponse,
    ) {
        let now = self.clock.now();
        let shift = Shift::new(request.now, self.clock.system_time());
        let lease = LeaseId(request.lease);
        let mut table = self.table(now);
        if !table.has_place(&host) {
            // Its lease is kept alive all the same; that nothing is known of it is said to who asks.
            answer.refused = table.why_there_is_no_place();
            return;
        }
        let number = request.verdicts_version;
        let mut report = message::report(&request.report.unwrap_or_default(), &shift);
        let mut sequence = request.sequence;
        let mut known = Known::Nothing;
        let is_of_the_claim = |held: &Held| held.lease == lease && held.claimed == alive.mod_revision;
        if let Some(before) = table.remove(&host).filter(is_of_the_claim) {
            known = before.verdicts;
            // A large one may have been overtaken by one without verdicts.
            if sequence != 0 && before.sequence > sequence {
                (sequence, report) = (before.sequence, before.report);
            }
        }
        if let Some(told) = request.verdicts {
            known = table.admit(number, message::verdicts(told));
        }
        match known {
            Known::Told(of, _) => answer.wants_verdicts = of != number,
            Known::Nothing => answer.wants_verdicts = true,
            // Since then others have gone.
            Known::NoRoom(bytes) | Known::Reserved(bytes) if table.has_room_for(bytes) => {
                answer.wants_verdicts = true;
                known = Known::Reserved(bytes);
            }
            Known::NoRoom(bytes) | Known::Reserved(bytes) => {
                answer.refused = table.why_there_is_no_room();
                known = Known::NoRoom(bytes);
            }
        }
        let held = Held {
            lease,
            claimed: alive.mod_revision,
            ends: now + ttl,
            sequence,
            report,
            verdicts: known,
        };
        table.insert(host, held);
    }

    /// What is told of a host whose key was last written at this revision.
    pub(crate) fn of(&self, host: &str, claimed: Revision) -> Option<HostReport> {
        let now = self.clock.now();
        let table = self.table(now);
        let held = table.get(host, now)?;
        (held.claimed == claimed).then(|| held.report.clone())
    }

    /// What became of the containers of a host whose key was last written at this revision.
    pub(crate) fn verdicts(&self, host: &HostName, claimed: Revision) -> ToldOf {
        let now = self.clock.now();
        let table = self.table(now);
        match table
            .get(host.as_str(), now)
            .filter(|held| held.claimed == claimed)
        {
            Some(held) => match &held.verdicts {
                Known::Told(_, verdicts) => ToldOf::Verdicts(verdicts.clone()),
                Known::NoRoom(_) | Known::Reserved(_) => ToldOf::Refused(table.why_there_is_no_room()),
                Known::Nothing => ToldOf::Nothing,
            },
            None if !table.has_place(host) => ToldOf::Refused(table.why_there_is_no_place()),
            None => ToldOf::Nothing,
        }
    }

    /// The reports. Those whose leases have ended go whenever anybody asks or tells.
    fn table(&self, now: Instant) -> MutexGuard<'_, Table> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.expire(now);
        table
    }
}

impl std::fmt::Debug for Reports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reports")
            .field("hosts", &self.table(self.clock.now()).len())
            .finish_non_exhaustive()
    }
}
