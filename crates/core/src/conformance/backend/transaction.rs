//! Transactions, and what is refused.

use std::time::Duration;

use bytes::Bytes;

use super::{Subject, assert_holds, entry, holds, names, refused};
use crate::conformance::both;
use crate::error::Error;
use crate::key::{KeyRange, key, prefix};
use crate::lease::{LeaseGrant, LeaseId};
use crate::limits::{MAX_KEY_BYTES, MAX_TXN_OPS, MAX_VALUE_BYTES};
use crate::revision::Revision;
use crate::txn::{
    Compare, CompareOp, CompareTarget, Op, OpResponse, PutRequest, RangeRequest, RangeResponse, Txn,
};

/// Each property, each relation, for a key that is there and one that is not.
pub async fn compares_hold_or_not(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, LeaseGrant { id, .. }) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    let create = ks.put("/a", "m").await?;
    let last = ks
        .txn(PutRequest::new("/a", "m").lease(id).into())
        .await?
        .header
        .revision;
    let none = Revision(0);
    // Targets that are less than, equal to and greater than what is there.
    let present = [
        [1, 2, 3].map(CompareTarget::Version),
        [create.prev(), create, create.next()].map(CompareTarget::Create),
        [last.prev(), last, last.next()].map(CompareTarget::Mod),
        ["l", "m", "n"].map(|value| CompareTarget::Value(value.into())),
        [None, Some(id), Some(LeaseId(id.0.saturating_add(1)))].map(CompareTarget::Lease),
    ];
    for [less, equal, greater] in present {
        for (target, holding) in [
            (less, [CompareOp::Greater, CompareOp::NotEqual]),
            (equal, [CompareOp::Equal, CompareOp::Equal]),
            (greater, [CompareOp::Less, CompareOp::NotEqual]),
        ] {
            assert_holds(ks, "/a", &target, &holding).await?;
        }
    }
    for target in [
        CompareTarget::Version(0),
        CompareTarget::Create(none),
        CompareTarget::Mod(none),
        CompareTarget::Lease(None),
    ] {
        assert_holds(ks, "/none", &target, &[CompareOp::Equal]).await?;
    }
    // The value of what is not there compares with nothing.
    assert_holds(ks, "/none", &CompareTarget::Value(Bytes::new()), &[]).await
}

/// A range passes if each key in it does; an empty one is an absent key.
pub async fn compares_of_ranges_hold_for_every_key(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/r/a", "1").await?;
    ks.put("/r/b", "1").await?;
    let value_is = |value: &'static str| Compare::value(prefix("/r/").expect("a prefix"), value);
    assert!(holds(ks, value_is("1")).await?);
    ks.put("/r/b", "2").await?;
    assert!(!holds(ks, value_is("1")).await?);
    assert!(holds(ks, Compare::exists(prefix("/r/")?)).await?);
    assert!(!holds(ks, Compare::absent(prefix("/r/")?)).await?);
    assert!(holds(ks, Compare::absent(prefix("/none/")?)).await?);
    Ok(())
}

/// All that a transaction writes has one revision, which is its answer's.
pub async fn a_transaction_is_one_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/old", "1").await?;
    let txn = Txn::new()
        .put(PutRequest::new("/b", "1"))
        .put(PutRequest::new("/a", "1"))
        .delete(key("/old")?);
    let response = ks.txn(txn).await?;
    assert!(response.succeeded);
    assert_eq!(response.responses.len(), 3);
    for name in ["/a", "/b"] {
        assert_eq!(entry(ks, name).await?.mod_revision, response.header.revision);
    }
    assert_eq!(ks.get("/old").await?, None);
    Ok(())
}

/// Neither its writes nor its failures.
pub async fn the_branch_not_taken_does_not_happen(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let txn = |compare| {
        Txn::new()
            .when(compare)
            .put(PutRequest::new("/then", "1"))
            .or_else(Op::Put(PutRequest::new("/else", "1").lease(LeaseId(4711))))
    };
    assert!(ks.txn(txn(Compare::absent(key("/a")?))).await?.succeeded);
    assert!(ks.get("/then").await?.is_some());
    let error = refused(ks.txn(txn(Compare::exists(key("/a")?))).await);
    assert!(matches!(error, Error::LeaseNotFound { .. }), "{error}");
    let txn = Txn::new()
        .when(Compare::exists(key("/a")?))
        .put(PutRequest::new("/then", "2"))
        .or_else(Op::Range(RangeRequest::new(key("/then")?)));
    let response = ks.txn(txn).await?;
    assert!(!response.succeeded);
    assert_eq!(entry(ks, "/then").await?.value, "1");
    Ok(())
}

/// A read within a transaction sees what was written before it, and not what comes after.
pub async fn a_transaction_sees_its_own_writes(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/a", "1").await?;
    let look = |revision| -> Result<Op, Error> {
        Ok(Op::Range(RangeRequest {
            revision,
            ..RangeRequest::new(KeyRange::all())
        }))
    };
    let txn = Txn::new()
        .and_then(look(None)?)
        .put(PutRequest::new("/b", "2"))
        .and_then(look(None)?)
        .delete(key("/a")?)
        .and_then(look(None)?)
        .and_then(look(Some(before))?);
    let response = ks.txn(txn).await?;
    let seen: Vec<_> = response
        .responses
        .iter()
        .filter_map(|response| match response {
            OpResponse::Range(RangeResponse { kvs, .. }) => Some(names(kvs)),
            _ => None,
        })
        .collect();
    assert_eq!(seen, [vec!["/a"], vec!["/a", "/b"], vec!["/b"], vec!["/a"]]);
    Ok(())
}

/// As in etcd: no compare sees what an operation of the same transaction wrote.
pub async fn nested_transactions_are_decided_before_anything_happens(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let nested = |name: &'static str| -> Result<Op, Error> {
        let inner = Txn::new()
            .when(Compare::absent(key("/a")?))
            .put(PutRequest::new(name, "absent"))
            .or_else(Op::Put(PutRequest::new(name, "present")));
        Ok(Op::Txn(inner))
    };
    let outer = Txn::new()
        .put(PutRequest::new("/a", "1"))
        .and_then(nested("/b")?)
        .and_then(Op::Txn(Txn::new().and_then(nested("/c")?)));
    let response = ks.txn(outer).await?;
    let [
        _,
        OpResponse::Txn { succeeded: true, .. },
        OpResponse::Txn { responses, .. },
    ] = &response.responses[..]
    else {
        panic!("not what was asked for: {response:?}");
    };
    assert!(matches!(
        &responses[..],
        [OpResponse::Txn { succeeded: true, .. }]
    ));
    for name in ["/b", "/c"] {
        let kv = entry(ks, name).await?;
        assert_eq!(
            (kv.value, kv.mod_revision),
            ("absent".into(), response.header.revision)
        );
    }
    Ok(())
}

/// Also if it could have written.
pub async fn a_transaction_that_only_reads_makes_no_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/a", "1").await?;
    let read = Op::Range(RangeRequest::new(key("/a")?));
    let response = ks.txn(Txn::new().and_then(read.clone())).await?;
    assert_eq!(response.header.revision, before);
    let txn = Txn::new()
        .when(Compare::absent(key("/a")?))
        .put(PutRequest::new("/a", "2"))
        .or_else(read);
    let response = ks.txn(txn).await?;
    assert_eq!((response.succeeded, response.header.revision), (false, before));
    Ok(())
}

/// An operation that cannot be done takes those before it back, keys and leases alike.
pub async fn a_transaction_that_fails_changes_nothing(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    ks.txn(PutRequest::new("/leased", "1").lease(lease.id).into())
        .await?;
    let before = ks.status().await?;
    let keep_value = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/none", "")
    };
    let txn = Txn::new()
        .put(PutRequest::new("/a", "1").lease(lease.id))
        .delete(key("/leased")?)
        .put(keep_value);
    let error = refused(ks.txn(txn).await);
    assert!(
        matches!(&error, Error::KeyNotFound { key } if key == "/none"),
        "{error}"
    );
    let after = ks.status().await?;
    assert_eq!(
        (after.revision, after.keys, after.bytes),
        (before.revision, before.keys, before.bytes)
    );
    assert_eq!(ks.lease_info(lease.id).await?.1.keys, ["/leased"]);
    assert_eq!(entry(ks, "/leased").await?.value, "1");
    Ok(())
}

/// `ignore_value` and `ignore_lease`, and the entry before.
pub async fn writes_can_keep_the_value_or_the_lease(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let (_, lease) = ks.lease_grant(None, Duration::from_secs(60)).await?;
    ks.put("/a", "1").await?;
    let attach = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/a", "").lease(lease.id)
    };
    ks.txn(attach.into()).await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!((kv.value, kv.lease, kv.version), ("1".into(), Some(lease.id), 2));
    let change = PutRequest {
        ignore_lease: true,
        prev_kv: true,
        ..PutRequest::new("/a", "2")
    };
    let (_, response) = ks.apply(Op::Put(change)).await?;
    let Some(OpResponse::Put { prev: Some(prev) }) = response else {
        panic!("the entry before was asked for: {response:?}");
    };
    assert_eq!((prev.value, prev.version), ("1".into(), 2));
    let kv = entry(ks, "/a").await?;
    assert_eq!((kv.value, kv.lease), ("2".into(), Some(lease.id)));
    ks.put("/a", "3").await?;
    assert_eq!(entry(ks, "/a").await?.lease, None, "a plain write detaches");
    let missing = PutRequest {
        ignore_lease: true,
        ..PutRequest::new("/none", "")
    };
    let error = refused(ks.txn(missing.into()).await);
    assert!(matches!(error, Error::KeyNotFound { .. }), "{error}");
    Ok(())
}

/// Each limit has an error of its own, and nothing is written.
pub async fn what_is_too_large_or_wrong_is_refused_by_name(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.status().await?.revision;
    let put = |name: Bytes, value: Bytes| Txn::from(PutRequest::new(name, value));
    let large = || Bytes::from(vec![b'v'; MAX_VALUE_BYTES]);
    let many = (0..=MAX_TXN_OPS).fold(Txn::new(), |txn, at| {
        txn.put(PutRequest::new(format!("/{at}"), ""))
    });
    let twice = Txn::new()
        .put(PutRequest::new("/a", "1"))
        .put(PutRequest::new("/a", "2"));
    let two_large = Txn::new()
        .put(PutRequest::new("/a", large()))
        .put(PutRequest::new("/b", large()));
    let both_values = PutRequest {
        ignore_value: true,
        ..PutRequest::new("/a", "1")
    };
    let error = refused(ks.txn(put(Bytes::new(), "1".into())).await);
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    let error = refused(
        ks.txn(put(vec![b'k'; MAX_KEY_BYTES + 1].into(), "1".into()))
            .await,
    );
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    let error = refused(
        ks.txn(put("/a".into(), vec![b'v'; MAX_VALUE_BYTES + 1].into()))
            .await,
    );
    assert!(matches!(error, Error::ValueTooLarge { .. }), "{error}");
    let error = refused(ks.txn(many).await);
    assert!(matches!(error, Error::TooManyOps { .. }), "{error}");
    let error = refused(ks.txn(two_large).await);
    assert!(matches!(error, Error::TxnTooLarge { .. }), "{error}");
    let error = refused(ks.txn(twice).await);
    assert!(matches!(error, Error::DuplicateKey { .. }), "{error}");
    let error = refused(ks.txn(both_values.into()).await);
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    let error = refused(ks.get("").await);
    assert!(matches!(error, Error::InvalidKey { .. }), "{error}");
    assert_eq!(ks.status().await?.revision, before);
    ks.put(vec![b'k'; MAX_KEY_BYTES], large()).await?;
    Ok(())
}

/// Two who count with compare and swap count together.
pub async fn concurrent_compare_and_swaps_lose_nothing(subject: Subject) -> Result<(), Error> {
    const ROUNDS: u32 = 20;
    let ks = &subject.keyspace;
    let count = async || -> Result<(), Error> {
        for _ in 0..ROUNDS {
            loop {
                let now = ks.get("/n").await?;
                let (seen, count) = now.map_or((Revision(0), 0), |kv| {
                    let text = String::from_utf8_lossy(&kv.value).into_owned();
                    (kv.mod_revision, text.parse::<u32>().expect("a number"))
                });
                let txn = Txn::new()
                    .when(Compare::mod_revision(key("/n")?, seen))
                    .put(PutRequest::new("/n", (count + 1).to_string()));
                if ks.txn(txn).await?.succeeded {
                    break;
                }
            }
        }
        Ok(())
    };
    let (first, second) = both(count(), count()).await;
    first.and(second)?;
    assert_eq!(entry(ks, "/n").await?.value, (2 * ROUNDS).to_string());
    Ok(())
}
