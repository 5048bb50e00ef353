//! The fleet read piece by piece, all of it at one revision.
//!
//! A [`View`] holds everything at once, which is right for those who keep it up to date. Who reads once
//! and sends on what was read needs no more than a workload at a time, however large the fleet is, and
//! holds nothing up meanwhile: the revision is in the history.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use tidewatch_core::key::RangeEnd;
use tidewatch_core::txn::{Header, RangeRequest};
use tidewatch_core::{KeyRange, KeyValue, Keyspace, Revision};

use crate::error::Error;
use crate::host::Host;
use crate::join::JoinedRow;
use crate::key::{self, FleetKey};
use crate::name::{HostName, WorkloadId};
use crate::view::{Entry, View};
use crate::workload::Workload;

/// How many keys are read at a time. A read counts all keys that are still to come, whatever its
/// limit, so that smaller chunks make a long walk slower; of larger ones it would hold more at a time.
const CHUNK: usize = 4096;

/// The [`JoinedRow`]s of a fleet at one revision, a workload at a time.
///
/// It holds the hosts, two chunks of keys, and the rows of one workload. The rows of a workload are in
/// the order of [`View::joined`], and workloads in that of their keys.
///
/// # Errors
/// Each step can fail as [`Keyspace::range`] does: with `Compacted` if the history was compacted beyond
/// the walk's revision. What was returned before is right, but it is not all.
#[derive(Debug)]
pub struct Walk {
    keyspace: Keyspace,
    header: Header,
    view: View,
    containers: Section,
    deploy: Section,
}

impl Walk {
    /// Begins at the current revision; with `only` those of one workload.
    ///
    /// # Errors
    /// Those of [`View::read_hosts`].
    pub async fn start(keyspace: &Keyspace, only: Option<&WorkloadId>) -> Result<Self, Error> {
        let (header, view) = View::read_hosts(keyspace).await?;
        let section = |prefix: &'static str, of: fn(&WorkloadId) -> KeyRange| {
            let range = only.map_or_else(|| key::section(prefix), of);
            Section::new(prefix.len(), range, header.revision)
        };
        Ok(Self {
            keyspace: keyspace.clone(),
            header,
            view,
            containers: section(key::CONTAINERS, key::container_rows),
            deploy: section(key::DEPLOY, key::deploy_rows),
        })
    }

    /// The keyspace, and the revision that everything is read at.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The hosts.
    pub fn hosts(&self) -> &BTreeMap<HostName, Entry<Host>> {
        &self.view.hosts
    }

    /// What is known of the hosts, for those who know more of them than can be read.
    pub fn about_hosts(&mut self) -> &mut View {
        &mut self.view
    }

    /// The rows of the next workload that has any. None: that was all.
    ///
    /// # Errors
    /// Those of [`Keyspace::range`].
    ///
    /// # Cancel safety
    /// Not safe: rows that were read already may be missing afterwards.
    pub async fn next(&mut self) -> Result<Option<Vec<JoinedRow>>, Error> {
        loop {
            self.containers.fill(&self.keyspace).await?;
            self.deploy.fill(&self.keyspace).await?;
            let nearest = [self.containers.group(), self.deploy.group()];
            let Some(group) = nearest.into_iter().flatten().min() else {
                return Ok(None);
            };
            self.view.workloads.clear();
            self.view.deploy.clear();
            self.view.containers.clear();
            self.view.skipped.clear();
            self.containers
                .take(&self.keyspace, &group, &mut self.view)
                .await?;
            self.deploy.take(&self.keyspace, &group, &mut self.view).await?;
            // Of use for rows that have no container row to say of which kind the workload is.
            if let Some((id, _)) = self.view.deploy.keys().next() {
                let declaration = FleetKey::Workload(id.clone()).to_range();
                let read = self.keyspace.range(at(self.header.revision, declaration));
                read.await?.1.kvs.iter().for_each(|kv| self.view.put(kv));
            }
            let joined = self.view.joined();
            if !joined.is_empty() {
                return Ok(Some(joined));
            }
        }
    }
}

/// The declared workloads at one revision, some at a time, by id.
#[derive(Debug)]
pub struct Workloads {
    keyspace: Keyspace,
    header: Header,
    rest: Option<Section>,
}

impl Workloads {
    /// Begins at the current revision.
    ///
    /// # Errors
    /// Those of [`Keyspace::range`].
    pub async fn start(keyspace: &Keyspace) -> Result<Self, Error> {
        // A read of next to nothing, which tells the revision that is current for all the same.
        let nothing = RangeRequest::new(tidewatch_core::key(key::WORKLOADS)?);
        let (header, _) = keyspace.range(nothing).await?;
        let range = key::section(key::WORKLOADS);
        Ok(Self {
            keyspace: keyspace.clone(),
            header,
            rest: Some(Section::new(key::WORKLOADS.len(), range, header.revision)),
        })
    }

    /// The keyspace, and the revision that everything is read at.
    pub fn header(&self) -> Header {
        self.header
    }

    /// The next ones. None: that was all. What is no workload is left out.
    ///
    /// # Errors
    /// Those of [`Keyspace::range`].
    ///
    /// # Cancel safety
    /// Safe: what was not returned is read again.
    pub async fn next(&mut self) -> Result<Option<Vec<(WorkloadId, Entry<Workload>)>>, Error> {
        let Some(rest) = &mut self.rest else {
            return Ok(None);
        };
        rest.fill(&self.keyspace).await?;
        let mut view = View::default();
        rest.read.drain(..).for_each(|kv| view.put(&kv));
        if rest.unread.is_none() {
            self.rest = None;
        }
        Ok(Some(view.workloads.into_iter().collect()))
    }
}

/// The keys of a range at one revision, a chunk at a time.
#[derive(Debug)]
pub(crate) struct Section {
    /// Where the part of a key begins that tells its group.
    skip: usize,
    revision: Revision,
    unread: Option<KeyRange>,
    read: VecDeque<KeyValue>,
}

impl Section {
    pub(crate) fn new(skip: usize, range: KeyRange, revision: Revision) -> Self {
        Self {
            skip,
            revision,
            unread: Some(range),
            read: VecDeque::new(),
        }
    }

    /// The next key. None: that was all.
    pub(crate) async fn next(&mut self, keyspace: &Keyspace) -> Result<Option<KeyValue>, Error> {
        self.fill(keyspace).await?;
        Ok(self.read.pop_front())
    }

    /// Reads the next chunk if nothing is left of the last one.
    async fn fill(&mut self, keyspace: &Keyspace) -> Result<(), Error> {
        let Some(unread) = self.unread.clone().filter(|_| self.read.is_empty()) else {
            return Ok(());
        };
        let request = RangeRequest {
            limit: Some(CHUNK),
            ..at(self.revision, unread.clone())
        };
        let (_, chunk) = keyspace.range(request).await?;
        self.unread = match chunk.kvs.last() {
            Some(last) if chunk.more => after(&unread, &last.key),
            _ => None,
        };
        self.read = chunk.kvs.into();
        Ok(())
    }

    /// What the next keys have in common: the workload, with the slash that ends it. With it, groups are in
    /// the order of their keys: `a-b/` comes before `a/`.
    fn group(&self) -> Option<Bytes> {
        let key = &self.read.front()?.key;
        let rest = key.slice(self.skip..);
        let end = rest.iter().position(|byte| *byte == b'/');
        Some(rest.slice(..end.map_or(rest.len(), |slash| slash + 1)))
    }

    /// Moves the keys of a group into the view.
    async fn take(&mut self, keyspace: &Keyspace, group: &Bytes, view: &mut View) -> Result<(), Error> {
        while self.group().as_ref() == Some(group) {
            self.read.pop_front().iter().for_each(|kv| view.put(kv));
            self.fill(keyspace).await?;
        }
        Ok(())
    }
}

fn at(revision: Revision, range: KeyRange) -> RangeRequest {
    RangeRequest {
        revision: Some(revision),
        ..RangeRequest::new(range)
    }
}

/// What is left of a range behind one of its keys.
fn after(range: &KeyRange, key: &Bytes) -> Option<KeyRange> {
    let next = [key, &b"\0"[..]].concat();
    match range.end() {
        RangeEnd::Before(end) => tidewatch_core::range(next, end.clone()).ok(),
        RangeEnd::Single | RangeEnd::Unbounded => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::overtaken_after;

    async fn put(keyspace: &Keyspace, key: &str, value: &str) {
        keyspace.put(key.to_owned(), value.to_owned()).await.unwrap();
    }

    async fn container(keyspace: &Keyspace, workload: &str, row: &str) {
        let key = format!("/containers/{workload}/h1/{row}");
        let value = format!(
            r#"{{"id":"{workload}:{row}","workload_id":"{workload}","workload_kind":"stack","role":"web","host":"h1","state":"running"}}"#
        );
        put(keyspace, &key, &value).await;
    }

    /// A fleet with everything that makes a row: a dead host, placeholders, and what cannot be read.
    async fn fleet() -> Keyspace {
        let keyspace = Keyspace::memory();
        put(&keyspace, "/alive/h1", r#"{"instance":"i"}"#).await;
        put(&keyspace, "/hosts/h1", r#"{"address":"10.0.0.1"}"#).await;
        for workload in ["a", "a-b", "a.b", "b"] {
            for row in ["web", "web.2", "db"] {
                container(&keyspace, workload, row).await;
            }
        }
        put(&keyspace, "/workloads/c", r#"{"id":"c","kind":"image"}"#).await;
        put(&keyspace, "/deploy/c/web", r#"{"role":"web"}"#).await;
        put(&keyspace, "/deploy/a/web", r#"{"image_tag":"7"}"#).await;
        put(&keyspace, "/deploy/a/extra", "{}").await;
        put(&keyspace, "/deploy/b", "{}").await;
        put(&keyspace, "/containers/zzz", "{}").await;
        put(&keyspace, "/containers/a/h2/web", "nonsense").await;
        keyspace
    }

    async fn all(walk: &mut Walk) -> Vec<JoinedRow> {
        let mut rows = Vec::new();
        while let Some(some) = walk.next().await.unwrap() {
            assert!(some.iter().all(|row| row.workload_id == some[0].workload_id));
            rows.extend(some);
        }
        rows
    }

    #[tokio::test]
    async fn a_walk_shows_what_a_view_shows() {
        let keyspace = fleet().await;
        let (header, view) = View::read(&keyspace).await.unwrap();
        let mut walk = Walk::start(&keyspace, None).await.unwrap();
        assert_eq!(walk.header(), header);
        assert_eq!(walk.hosts(), &view.hosts);
        // Later writes are not seen.
        container(&keyspace, "b", "late").await;
        keyspace.delete(key::section(key::ALIVE)).await.unwrap();
        let mut walked = all(&mut walk).await;
        walked.sort_by(|a, b| (&a.workload_id, &a.row).cmp(&(&b.workload_id, &b.row)));
        assert_eq!(walked, view.joined());
        let id = "a".parse().unwrap();
        let mut one = Walk::start(&keyspace, Some(&id)).await.unwrap();
        let rows = all(&mut one).await;
        assert_eq!(rows.len(), 4);
        assert!(rows.iter().all(|row| row.workload_id == id));
    }

    #[tokio::test]
    async fn a_workload_that_is_larger_than_a_chunk_comes_whole() {
        let keyspace = Keyspace::memory();
        container(&keyspace, "before", "web").await;
        for n in 0..CHUNK + 10 {
            container(&keyspace, "large", &format!("web.{n}")).await;
        }
        container(&keyspace, "later", "web").await;
        let mut walk = Walk::start(&keyspace, None).await.unwrap();
        let mut sizes = Vec::new();
        while let Some(rows) = walk.next().await.unwrap() {
            sizes.push(rows.len());
        }
        assert_eq!(sizes, [1, CHUNK + 10, 1]);
    }

    #[tokio::test]
    async fn a_walk_that_compaction_overtakes_fails_and_does_not_leave_rows_out() {
        let keyspace = fleet().await;
        let mut walk = Walk::start(&keyspace, None).await.unwrap();
        container(&keyspace, "b", "late").await;
        let now = keyspace.status().await.unwrap().revision;
        keyspace.compact(now).await.unwrap();
        let error = walk.next().await.unwrap_err();
        assert!(error.is_compacted(), "{error}");
    }

    #[tokio::test]
    async fn a_walk_begins_whatever_is_compacted_meanwhile() {
        let keyspace = fleet().await;
        let walk = Walk::start(&overtaken_after(&keyspace, 1), None).await.unwrap();
        assert_eq!(walk.hosts().len(), 1);
    }

    #[tokio::test]
    async fn the_workloads_come_in_chunks_and_all() {
        let keyspace = Keyspace::memory();
        for n in 0..=CHUNK {
            let (key, value) = (
                format!("/workloads/w{n}"),
                format!(r#"{{"id":"w{n}","kind":"stack"}}"#),
            );
            put(&keyspace, &key, &value).await;
        }
        put(&keyspace, "/workloads/wrong", "{}").await;
        let mut workloads = Workloads::start(&keyspace).await.unwrap();
        let mut found = Vec::new();
        while let Some(some) = workloads.next().await.unwrap() {
            assert!(some.len() <= CHUNK);
            found.extend(some.into_iter().map(|(id, _)| id));
        }
        assert_eq!(found.len(), CHUNK + 1);
        assert!(found.is_sorted());
    }
}
