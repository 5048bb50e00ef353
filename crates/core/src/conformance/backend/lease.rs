//! Leases.

use std::time::Duration;

use bytes::Bytes;

use super::{Subject, next_events, refused};
use crate::error::Error;
use crate::event::EventKind;
use crate::key::{KeyRange, key, prefix};
use crate::lease::LeaseId;
use crate::txn::PutRequest;
use crate::watch::Prev;

/// Revoked: one revision, as many deletions as there were keys.
pub async fn a_lease_takes_its_keys_along_at_one_revision(subject: Subject) -> Result<(), Error> {
    const KEYS: usize = 300;
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    for at in 0..KEYS {
        ks.txn(
            PutRequest::new(format!("/leased/{at:03}"), "v")
                .lease(lease.id)
                .into(),
        )
        .await?;
    }
    ks.put("/stays", "v").await?;
    let info = ks.lease_info(lease.id).await?.1;
    assert_eq!((info.keys.len(), info.granted), (KEYS, lease.ttl));
    assert!(ks.lease_list().await?.1.contains(&lease.id));
    let mut watch = ks.watch(prefix("/leased/")?).with_prev_kv().start().await?;
    let revoked = ks.lease_revoke(lease.id).await?.revision;
    let mut deleted = 0;
    while deleted < KEYS {
        let batch = next_events(&mut watch).await;
        assert_eq!(batch.revision(), revoked);
        for event in &batch {
            assert_eq!(event.kind(), EventKind::Delete);
            assert!(matches!(event.prev(), Prev::Entry(kv) if kv.lease == Some(lease.id)));
            deleted += 1;
        }
    }
    assert_eq!(deleted, KEYS);
    assert_eq!(ks.status().await?.keys, 1);
    assert!(!ks.lease_list().await?.1.contains(&lease.id));
    for error in [
        refused(ks.lease_info(lease.id).await),
        refused(ks.lease_keep_alive(lease.id).await),
        refused(ks.lease_revoke(lease.id).await),
    ] {
        assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    }
    Ok(())
}

/// Kept alive it stays; else its keys go, with events.
pub async fn a_lease_that_nobody_keeps_alive_expires(mut subject: Subject) -> Result<(), Error> {
    let ks = subject.keyspace.clone();
    let ttl = Duration::from_secs(15);
    let (_, kept) = ks.lease_grant(None, ttl).await?;
    let (_, lost) = ks.lease_grant(None, ttl).await?;
    for (name, lease) in [("/kept", kept), ("/lost/a", lost), ("/lost/b", lost)] {
        ks.txn(PutRequest::new(name, "v").lease(lease.id).into()).await?;
    }
    let mut watch = ks.watch(KeyRange::all()).start().await?;
    // Often, so that a subject with a real clock may come late by most of a life.
    let step = Duration::from_millis(500);
    for _ in 0..=ttl.as_millis() / step.as_millis() {
        subject.advance(step).await;
        assert_eq!(ks.lease_keep_alive(kept.id).await?.1, kept.ttl);
    }
    let batch = next_events(&mut watch).await;
    let events: Vec<_> = batch
        .iter()
        .map(|event| (event.kind(), event.key().clone()))
        .collect();
    let wanted = ["/lost/a", "/lost/b"].map(|key| (EventKind::Delete, Bytes::from(key)));
    assert_eq!(events, wanted, "one revision of deletions");
    let error = refused(ks.lease_keep_alive(lost.id).await);
    assert!(
        matches!(error, Error::LeaseNotFound { id } if id == lost.id),
        "{error}"
    );
    assert!(ks.get("/kept").await?.is_some());
    assert!(ks.lease_info(kept.id).await?.1.remaining <= kept.ttl);
    Ok(())
}

/// The end of a lease it was once attached to is nothing to it.
pub async fn a_key_belongs_to_its_last_lease(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, first) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    let (_, second) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    for name in ["/moved", "/freed", "/deleted"] {
        ks.txn(PutRequest::new(name, "v").lease(first.id).into()).await?;
    }
    ks.txn(PutRequest::new("/moved", "v").lease(second.id).into())
        .await?;
    ks.put("/freed", "v").await?;
    ks.delete(key("/deleted")?).await?;
    assert_eq!(ks.lease_info(first.id).await?.1.keys, [""; 0]);
    assert_eq!(ks.lease_info(second.id).await?.1.keys, ["/moved"]);
    let before = ks.status().await?.revision;
    let after = ks.lease_revoke(first.id).await?.revision;
    assert_eq!(after, before, "a lease without keys ends without a revision");
    assert!(ks.get("/moved").await?.is_some() && ks.get("/freed").await?.is_some());
    Ok(())
}

/// Unknown, existing, too short, too long, not positive.
pub async fn leases_are_refused_by_name(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let minute = Duration::from_secs(60);
    let id = LeaseId(0x7465_7374);
    let (_, granted) = ks.lease_grant(Some(id), minute).await?;
    assert_eq!((granted.id, granted.ttl), (id, minute));
    let error = refused(ks.lease_grant(Some(id), minute).await);
    assert!(matches!(error, Error::LeaseExists { .. }), "{error}");
    for (id, ttl) in [
        (Some(LeaseId(0)), minute),
        (Some(LeaseId(-1)), minute),
        (None, Duration::ZERO),
        (None, Duration::from_millis(999)),
        (None, Duration::from_secs(9_000_000_001)),
    ] {
        let error = refused(ks.lease_grant(id, ttl).await);
        assert!(error.is_invalid_argument(), "{id:?} {ttl:?}: {error}");
    }
    let before = ks.status().await?.revision;
    let unknown = PutRequest::new("/a", "1").lease(LeaseId(id.0 + 1));
    let error = refused(ks.txn(unknown.into()).await);
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    assert_eq!(ks.status().await?.revision, before);
    let ids = ks.lease_list().await?.1;
    assert!(ids.is_sorted() && ids.contains(&id));
    Ok(())
}
