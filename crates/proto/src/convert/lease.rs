//! Leases.

use std::time::Duration;

use tidewatch_core::txn::Header;
use tidewatch_core::{LeaseGrant, LeaseId, LeaseInfo};

use super::key::millis;
use crate::v1;

impl From<(Header, LeaseGrant)> for v1::LeaseGrantResponse {
    fn from((header, lease): (Header, LeaseGrant)) -> Self {
        Self {
            header: Some(header.into()),
            id: lease.id.0,
            ttl_ms: millis(lease.ttl),
        }
    }
}

impl From<v1::LeaseGrantResponse> for LeaseGrant {
    fn from(message: v1::LeaseGrantResponse) -> Self {
        Self {
            id: LeaseId(message.id),
            ttl: Duration::from_millis(message.ttl_ms),
        }
    }
}

impl From<(Header, LeaseInfo)> for v1::LeaseTimeToLiveResponse {
    fn from((header, lease): (Header, LeaseInfo)) -> Self {
        Self {
            header: Some(header.into()),
            id: lease.id.0,
            granted_ms: millis(lease.granted),
            remaining_ms: millis(lease.remaining),
            keys: lease.keys,
        }
    }
}

impl From<v1::LeaseTimeToLiveResponse> for LeaseInfo {
    fn from(message: v1::LeaseTimeToLiveResponse) -> Self {
        Self {
            id: LeaseId(message.id),
            granted: Duration::from_millis(message.granted_ms),
            remaining: Duration::from_millis(message.remaining_ms),
            keys: message.keys,
        }
    }
}

impl From<(Header, Vec<LeaseId>)> for v1::LeaseListResponse {
    fn from((header, leases): (Header, Vec<LeaseId>)) -> Self {
        Self {
            header: Some(header.into()),
            ids: leases.into_iter().map(|lease| lease.0).collect(),
        }
    }
}
