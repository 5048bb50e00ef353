//! A hash of what is in a keyspace, to compare two of them by.

use sha2::{Digest, Sha256};
use tidewatch_core::txn::{Header, RangeRequest};
use tidewatch_core::{Error, KeyRange, KeyValue, Keyspace, Revision};

/// How many entries are read at a time.
const PAGE: usize = 1024;

/// How often it starts over because compaction overtook it.
const MAX_RESTARTS: u32 = 3;

/// A hash, and of what.
pub(super) struct Hashed {
    pub(super) hash: u32,
    /// The revision that was hashed.
    pub(super) revision: Revision,
    /// Who answered, and the revision when it began.
    pub(super) header: Header,
}

/// Hashes all entries at a revision; without one, at the current one.
///
/// # Errors
/// [`Error::Compacted`], [`Error::FutureRevision`].
pub(super) async fn of(keyspace: &Keyspace, revision: Option<Revision>) -> Result<Hashed, Error> {
    let mut restarts = 0;
    loop {
        match attempt(keyspace, revision).await {
            Err(Error::Compacted { .. }) if revision.is_none() && restarts < MAX_RESTARTS => restarts += 1,
            done => return done,
        }
    }
}

async fn attempt(keyspace: &Keyspace, revision: Option<Revision>) -> Result<Hashed, Error> {
    let mut digest = Sha256::new();
    let mut request = RangeRequest {
        revision,
        limit: Some(PAGE),
        ..RangeRequest::new(KeyRange::all())
    };
    let (header, mut page) = keyspace.range(request.clone()).await?;
    let revision = revision.unwrap_or(header.revision);
    request.revision = Some(revision);
    loop {
        page.kvs.iter().for_each(|kv| add(&mut digest, kv));
        let Some(last) = page.kvs.last().filter(|_| page.more) else {
            break;
        };
        // The next key that there can be.
        let next = [&last.key[..], b"\0"].concat();
        request.range = KeyRange::from_key(next);
        (_, page) = keyspace.range(request.clone()).await?;
    }
    let [a, b, c, d, ..] = <[u8; 32]>::from(digest.finalize());
    Ok(Hashed {
        hash: u32::from_be_bytes([a, b, c, d]),
        revision,
        header,
    })
}

fn add(digest: &mut Sha256, kv: &KeyValue) {
    for bytes in [&kv.key, &kv.value] {
        // With its length, so that no byte can move from one to the next unseen.
        digest.update((bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
    for number in [kv.create_revision.0, kv.mod_revision.0, kv.version] {
        digest.update(number.to_be_bytes());
    }
    digest.update(kv.lease.map_or(0, |lease| lease.0).to_be_bytes());
}
