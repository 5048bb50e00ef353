//! How a keyspace is.

use tidewatch_core::txn::Header;
use tidewatch_core::{Revision, Status};

use super::{Malformed, header};
use crate::v1;

impl From<&Status> for v1::StatusResponse {
    /// The part that the keyspace knows; the server fills in the rest.
    fn from(status: &Status) -> Self {
        let header = Header {
            keyspace: status.keyspace,
            revision: status.revision,
        };
        Self {
            header: Some(header.into()),
            oldest_revision: status.oldest.0,
            backend: status.backend.into(),
            keys: status.keys,
            bytes: status.bytes,
            quota_bytes: status.quota,
            history_bytes: status.history_bytes,
            leases: status.leases,
            watchers: status.watchers,
            dispatched_revision: status.dispatched.0,
            ..Self::default()
        }
    }
}

impl TryFrom<&v1::StatusResponse> for Status {
    type Error = Malformed;

    /// The keyspace of a server as seen from here: its backend is `remote`, whatever it is there.
    fn try_from(message: &v1::StatusResponse) -> Result<Self, Malformed> {
        let header = header(message.header)?;
        Ok(Self {
            keyspace: header.keyspace,
            revision: header.revision,
            oldest: Revision(message.oldest_revision),
            backend: "remote",
            keys: message.keys,
            bytes: message.bytes,
            quota: message.quota_bytes,
            history_bytes: message.history_bytes,
            leases: message.leases,
            watchers: message.watchers,
            dispatched: Revision(message.dispatched_revision),
        })
    }
}
