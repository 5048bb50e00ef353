//! Reads, and the writes they show.

use bytes::Bytes;

use super::{Subject, entry, names, next_events, pairs, read, refused};
use crate::error::Error;
use crate::event::KeyValue;
use crate::key::{KeyRange, key, prefix, range};
use crate::revision::{KeyspaceId, Revision};
use crate::txn::{DeleteRequest, Op, OpResponse, PutRequest, RangeRequest, Sort, SortBy, Txn};

/// Nothing is there, and status says so.
pub async fn a_new_keyspace_is_empty(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let response = read(ks, RangeRequest::new(KeyRange::all())).await?;
    assert_eq!((response.kvs, response.count, response.more), (vec![], 0, false));
    assert_eq!(ks.get("/a").await?, None);
    let status = ks.status().await?;
    assert_eq!((status.keys, status.bytes), (0, 0));
    assert_ne!(status.keyspace, KeyspaceId(0));
    if subject.capabilities.dense_revisions {
        assert_eq!(status.revision, Revision::INITIAL);
    }
    Ok(())
}

/// A write is seen by every read after it.
pub async fn what_was_put_is_read_back(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let revision = ks.put("/a", "1").await?;
    let wanted = KeyValue {
        key: "/a".into(),
        value: "1".into(),
        create_revision: revision,
        mod_revision: revision,
        version: 1,
        lease: None,
    };
    assert_eq!(ks.get("/a").await?, Some(wanted));
    let (header, _) = ks.range(RangeRequest::new(key("/a")?)).await?;
    let status = ks.status().await?;
    assert_eq!(header.keyspace, status.keyspace);
    assert!(header.revision >= revision && status.revision >= revision);
    assert_eq!(status.keys, 1);
    Ok(())
}

/// Revisions only grow, and where they are dense, by one.
pub async fn each_change_has_a_greater_revision(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let mut last = ks.status().await?.revision;
    for round in 0..10_u32 {
        let revision = match round % 3 {
            0 | 1 => ks.put("/a", round.to_string()).await?,
            _ => ks.delete(key("/a")?).await?.0,
        };
        assert!(revision > last);
        if subject.capabilities.dense_revisions {
            assert_eq!(revision, last.next());
        }
        last = revision;
    }
    Ok(())
}

/// A deletion ends a key's life; the next write begins another one.
pub async fn versions_count_writes_since_the_creation(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let created = ks.put("/a", "1").await?;
    let changed = ks.put("/a", "2").await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!(
        (kv.version, kv.create_revision, kv.mod_revision),
        (2, created, changed)
    );
    ks.delete(key("/a")?).await?;
    let again = ks.put("/a", "3").await?;
    let kv = entry(ks, "/a").await?;
    assert_eq!(
        (kv.version, kv.create_revision, kv.mod_revision),
        (1, again, again)
    );
    Ok(())
}

/// No event, no revision.
pub async fn deleting_what_is_not_there_changes_nothing(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let before = ks.put("/b", "1").await?;
    let mut watch = ks.watch(KeyRange::all()).start().await?;
    assert_eq!(ks.delete(key("/a")?).await?, (before, 0));
    assert_eq!(ks.delete(prefix("/none/")?).await?, (before, 0));
    let after = ks.put("/b", "2").await?;
    let batch = next_events(&mut watch).await;
    assert_eq!(
        (batch.revision(), batch.len()),
        (after, 1),
        "the deletions are no events"
    );
    Ok(())
}

/// How many, and which if that was asked for.
pub async fn deletions_say_what_they_removed(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/d/c", "/d/a", "/d/b", "/e"] {
        ks.put(name, "v").await?;
    }
    let request = DeleteRequest {
        prev_kv: true,
        ..DeleteRequest::new(prefix("/d/")?)
    };
    let (_, response) = ks.apply(Op::Delete(request)).await?;
    let Some(OpResponse::Delete { deleted, prev }) = response else {
        panic!("not the answer to a deletion: {response:?}");
    };
    assert_eq!((deleted, names(&prev)), (3, vec!["/d/a", "/d/b", "/d/c"]));
    assert_eq!(ks.status().await?.keys, 1);
    Ok(())
}

/// Every revision since the last compaction can be read.
pub async fn old_revisions_read_as_they_were(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/b", "1").await?;
    let third = ks.put("/a", "2").await?;
    let (fourth, _) = ks.delete(key("/a")?).await?;
    for (revision, wanted) in [
        (first, vec![("/a", "1")]),
        (second, vec![("/a", "1"), ("/b", "1")]),
        (third, vec![("/a", "2"), ("/b", "1")]),
        (fourth, vec![("/b", "1")]),
    ] {
        let request = RangeRequest {
            revision: Some(revision),
            ..RangeRequest::new(KeyRange::all())
        };
        let (header, response) = ks.range(request).await?;
        let wanted: Vec<_> = wanted.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        assert_eq!(pairs(&response.kvs), wanted, "at {revision}");
        assert_eq!(header.revision, fourth, "the header tells the current revision");
    }
    Ok(())
}

/// A key, a prefix, an interval, from a key on, all.
pub async fn ranges_hold_what_they_should(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/a", "/a/", "/a/b", "/a0", "/b"] {
        ks.put(name, "").await?;
    }
    for (range, wanted) in [
        (key("/a")?, vec!["/a"]),
        (key("/none")?, vec![]),
        (prefix("/a/")?, vec!["/a/", "/a/b"]),
        (KeyRange::starting_with("/a"), vec!["/a", "/a/", "/a/b", "/a0"]),
        (range("/a/b", "/b")?, vec!["/a/b", "/a0"]),
        (range("/a/b", "/a/b\0")?, vec!["/a/b"]),
        (KeyRange::from_key("/a0"), vec!["/a0", "/b"]),
        (KeyRange::all(), vec!["/a", "/a/", "/a/b", "/a0", "/b"]),
    ] {
        let response = read(ks, RangeRequest::new(range.clone())).await?;
        assert_eq!(names(&response.kvs), wanted, "{range}");
        assert_eq!(response.count, wanted.len() as u64, "{range}");
    }
    Ok(())
}

/// A limit leaves the count alone; keys or counts can be had without the rest.
pub async fn limits_counts_and_partial_entries(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for name in ["/a", "/b", "/c"] {
        ks.put(name, "value").await?;
    }
    let all = || RangeRequest::new(KeyRange::all());
    for (limit, keys, more) in [(1, 1, true), (2, 2, true), (3, 3, false), (9, 3, false)] {
        let request = RangeRequest {
            limit: Some(limit),
            ..all()
        };
        let response = read(ks, request).await?;
        assert_eq!(
            (response.kvs.len(), response.more, response.count),
            (keys, more, 3)
        );
    }
    let request = RangeRequest {
        keys_only: true,
        ..all()
    };
    let response = read(ks, request).await?;
    assert!(
        response
            .kvs
            .iter()
            .all(|kv| kv.value.is_empty() && kv.version == 1)
    );
    let request = RangeRequest {
        count_only: true,
        ..all()
    };
    let response = read(ks, request).await?;
    assert_eq!((response.kvs, response.count, response.more), (vec![], 3, false));
    Ok(())
}

/// By each property, both ways.
pub async fn entries_come_in_the_order_asked_for(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    for (name, value) in [("/c", "1"), ("/b", "0"), ("/a", "2"), ("/b", "3")] {
        ks.put(name, value).await?;
    }
    for (by, ascending) in [
        (SortBy::Key, ["/a", "/b", "/c"]),
        (SortBy::Create, ["/c", "/b", "/a"]),
        (SortBy::Mod, ["/c", "/a", "/b"]),
        (SortBy::Value, ["/c", "/a", "/b"]),
    ] {
        for descending in [false, true] {
            let mut wanted = ascending.to_vec();
            if descending {
                wanted.reverse();
            }
            let request = RangeRequest {
                sort: Some(Sort { by, descending }),
                limit: Some(2),
                ..RangeRequest::new(KeyRange::all())
            };
            let response = read(ks, request).await?;
            assert_eq!(
                names(&response.kvs),
                wanted[..2],
                "{by:?}, descending: {descending}"
            );
            assert!(response.more && response.count == 3);
        }
    }
    let request = RangeRequest {
        sort: Some(Sort {
            by: SortBy::Version,
            descending: true,
        }),
        limit: Some(1),
        ..RangeRequest::new(KeyRange::all())
    };
    assert_eq!(names(&read(ks, request).await?.kvs), ["/b"]);
    Ok(())
}

/// The bounds are inclusive, and the count does not heed them.
pub async fn revision_filters_leave_out_entries(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    ks.put("/a", "1").await?;
    let b = ks.put("/b", "1").await?;
    let a = ks.put("/a", "2").await?;
    let all = RangeRequest::new(KeyRange::all());
    let cases = [
        (
            RangeRequest {
                min_mod_revision: Some(a),
                ..all.clone()
            },
            "/a",
        ),
        (
            RangeRequest {
                max_mod_revision: Some(b),
                ..all.clone()
            },
            "/b",
        ),
        (
            RangeRequest {
                min_create_revision: Some(b),
                ..all.clone()
            },
            "/b",
        ),
        (
            RangeRequest {
                max_create_revision: Some(b.prev()),
                ..all.clone()
            },
            "/a",
        ),
    ];
    for (request, wanted) in cases {
        let response = read(ks, request.clone()).await?;
        assert_eq!(names(&response.kvs), [wanted], "{request:?}");
        assert_eq!(response.count, 2);
    }
    Ok(())
}

/// By a read, and by a read within a transaction, which then does not happen.
pub async fn a_revision_in_the_future_is_refused(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let current = ks.put("/a", "1").await?;
    let request = RangeRequest {
        revision: Some(current.next()),
        ..RangeRequest::new(key("/a")?)
    };
    let error = refused(ks.range(request.clone()).await);
    assert!(matches!(error, Error::FutureRevision { requested, .. } if requested == current.next()));
    let txn = Txn::new()
        .put(PutRequest::new("/a", "2"))
        .and_then(Op::Range(request));
    let error = refused(ks.txn(txn).await);
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
    assert_eq!(entry(ks, "/a").await?.value, "1");
    Ok(())
}

/// Keys need not be text, and an empty value is a value.
pub async fn keys_and_values_may_be_any_bytes(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let names: [&'static [u8]; 4] = [b"\0", b"\0\0", b"\xff\xfe", b"\xff\xff\xff"];
    for name in names {
        ks.put(name, name).await?;
    }
    ks.put("/empty", "").await?;
    for name in names {
        let kv = ks.get(name).await?.map(|kv| kv.value);
        assert_eq!(kv, Some(Bytes::from_static(name)));
    }
    assert_eq!(entry(ks, "/empty").await?.value, "");
    let response = read(ks, RangeRequest::new(KeyRange::starting_with(&b"\xff"[..]))).await?;
    assert_eq!(response.count, 2, "a prefix of the greatest bytes has no end");
    Ok(())
}
