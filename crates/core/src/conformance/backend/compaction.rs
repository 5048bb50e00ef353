//! Compaction.

use super::{Subject, entry, names, pairs, read, refused};
use crate::error::Error;
use crate::key::{KeyRange, key};
use crate::txn::RangeRequest;

/// Reads from the compaction revision on work; reads before it say where to begin.
pub async fn compaction_keeps_its_own_revision_and_forgets_what_was_before(
    subject: Subject,
) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    ks.put("/gone", "1").await?;
    let second = ks.put("/a", "2").await?;
    let (third, _) = ks.delete(key("/gone")?).await?;
    ks.put("/a", "3").await?;
    ks.compact(second).await?;
    let at = |revision| RangeRequest {
        revision: Some(revision),
        ..RangeRequest::new(KeyRange::all())
    };
    let response = read(ks, at(second)).await?;
    let wanted = [("/a".into(), "2".into()), ("/gone".into(), "1".into())];
    assert_eq!(pairs(&response.kvs), wanted);
    assert_eq!(names(&read(ks, at(third)).await?.kvs), ["/a"]);
    let error = refused(ks.range(at(first)).await);
    assert!(
        matches!(error, Error::Compacted { requested, oldest } if requested == first && oldest == second),
        "{error}"
    );
    assert_eq!(ks.status().await?.oldest, second);
    Ok(())
}

/// As in etcd.
pub async fn compaction_refuses_what_was_compacted_or_is_to_come(subject: Subject) -> Result<(), Error> {
    let ks = &subject.keyspace;
    let first = ks.put("/a", "1").await?;
    let second = ks.put("/a", "2").await?;
    let error = refused(ks.compact(second.next()).await);
    assert!(matches!(error, Error::FutureRevision { .. }), "{error}");
    ks.compact(second).await?;
    for revision in [first, second] {
        let error = refused(ks.compact(revision).await);
        assert!(matches!(error, Error::Compacted { .. }), "{revision}: {error}");
    }
    assert_eq!(entry(ks, "/a").await?.version, 2);
    Ok(())
}
