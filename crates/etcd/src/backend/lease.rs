//! Leases, which are etcd's.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewatch_core::lease::check_grant;
use tidewatch_core::txn::Header;
use tidewatch_core::{Error, LeaseGrant, LeaseId, LeaseInfo};

use super::Inner;
use crate::calls::{CallFailure, Refusal};
use crate::failure::{Failure, FailureKind};

impl Inner {
    pub(super) async fn lease_grant(
        &self,
        id: Option<LeaseId>,
        ttl: Duration,
    ) -> Result<(Header, LeaseGrant), Error> {
        let ttl = check_grant(id, ttl)?;
        let _under_way = self.begin()?;
        let secs = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        match self
            .shared
            .upstream
            .write(|calls| calls.lease_grant(id, secs))
            .await
        {
            Ok((header, (id, secs))) => {
                let ttl = seconds(secs);
                Ok((self.header(header.revision), LeaseGrant { id, ttl }))
            }
            // It may have been granted for all that. One without a name that anybody knows just expires.
            Err(failure @ CallFailure::Refused(Refusal::NoSpace, _)) => match id {
                Some(id) if !matches!(self.lease_info(id).await, Err(Error::LeaseNotFound { .. })) => {
                    let text = failure.text().to_owned();
                    Err(self.write_error(CallFailure::Lost(Failure::new(FailureKind::Refused, text))))
                }
                _ => Err(self.write_error(failure)),
            },
            Err(failure) => Err(self.lease_failed(failure, id.unwrap_or(LeaseId(0)))),
        }
    }

    pub(super) async fn lease_revoke(&self, id: LeaseId) -> Result<Header, Error> {
        let _under_way = self.begin()?;
        let revoked = self.shared.upstream.write(|calls| calls.lease_revoke(id)).await;
        let (header, ()) = revoked.map_err(|failure| self.lease_failed(failure, id))?;
        // It is done, whether or not the watch shows its deletions, if there were any, soon.
        let _ = self.catch_up_to(header.revision).await;
        Ok(self.header(header.revision))
    }

    pub(super) async fn lease_keep_alive(&self, id: LeaseId) -> Result<(Header, Duration), Error> {
        let _under_way = self.begin()?;
        let kept = self
            .shared
            .upstream
            .read(|calls| calls.lease_keep_alive(id))
            .await;
        let (header, secs) = kept.map_err(|failure| self.lease_read_failed(failure, id))?;
        Ok((self.header(header.revision), seconds(secs)))
    }

    pub(super) async fn lease_info(&self, id: LeaseId) -> Result<(Header, LeaseInfo), Error> {
        let info = self.shared.upstream.read(|calls| calls.lease_info(id)).await;
        let (header, details) = info.map_err(|failure| self.lease_read_failed(failure, id))?;
        if details.remaining < 0 {
            return Err(Error::LeaseNotFound { id });
        }
        // Those of other namespaces are not ours to tell about.
        let mut keys: Vec<_> = details
            .keys
            .iter()
            .filter_map(|key| self.shared.namespace.local(key))
            .collect();
        keys.sort_unstable();
        let info = LeaseInfo {
            id,
            granted: seconds(details.granted),
            remaining: seconds(details.remaining),
            keys,
        };
        Ok((self.header(header.revision), info))
    }

    pub(super) async fn lease_list(&self) -> Result<(Header, Vec<LeaseId>), Error> {
        let listed = self.shared.upstream.read(|calls| calls.leases()).await;
        let (header, mut ids) = listed.map_err(|failure| self.lease_read_failed(failure, LeaseId(0)))?;
        ids.sort_unstable();
        self.leases.store(ids.len() as u64, Ordering::Relaxed);
        Ok((self.header(header.revision), ids))
    }

    fn lease_failed(&self, failure: CallFailure, id: LeaseId) -> Error {
        match failure {
            CallFailure::Refused(Refusal::LeaseNotFound, _) => Error::LeaseNotFound { id },
            CallFailure::Refused(Refusal::LeaseExists, _) => Error::LeaseExists { id },
            failure => self.write_error(failure),
        }
    }

    /// It may be asked again.
    fn lease_read_failed(&self, failure: CallFailure, id: LeaseId) -> Error {
        let failure = match failure {
            CallFailure::Lost(failure) => CallFailure::NotDone(failure),
            CallFailure::Refused(Refusal::AnswerTooLarge, text) => CallFailure::Refused(Refusal::Other, text),
            failure => failure,
        };
        self.lease_failed(failure, id)
    }
}

fn seconds(secs: i64) -> Duration {
    Duration::from_secs(u64::try_from(secs).unwrap_or_default())
}
