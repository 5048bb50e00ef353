//! The fleet as it is at one revision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tidewatch_core::txn::{Header, Op, OpResponse, RangeRequest, Txn};
use tidewatch_core::{KeyRange, KeyValue, Keyspace, Position, Revision};

use crate::container::ContainerRow;
use crate::deploy::DeployRow;
use crate::error::Error;
use crate::host::{Alive, Host};
use crate::key::{self, FleetKey};
use crate::name::{HostName, RowName, WorkloadId};
use crate::value;
use crate::workload::Workload;

/// The fleet's keys, decoded. Made from a read, and kept up to date from a watch if one likes.
///
/// A value that is not what its key needs is left out and told in [`skipped`](Self::skipped); it is
/// never a reason to stop.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The workloads.
    pub workloads: BTreeMap<WorkloadId, Entry<Workload>>,
    /// The deploy rows.
    pub deploy: BTreeMap<(WorkloadId, RowName), Entry<DeployRow>>,
    /// The container rows.
    pub containers: BTreeMap<(WorkloadId, RowName, HostName), Entry<ContainerRow>>,
    /// The hosts.
    pub hosts: BTreeMap<HostName, Entry<Host>>,
    /// Who reconciles which host.
    pub alive: BTreeMap<HostName, Entry<Alive>>,
    /// Since when nobody has reconciled a host, as far as that was told: it cannot be read.
    pub absent_since: BTreeMap<HostName, SystemTime>,
    /// Keys that could not be read as what they should be, and why.
    pub skipped: BTreeMap<Bytes, Skipped>,
    /// Where it was last read. What was written since then is all that has to be read again; in another
    /// keyspace an entry of the same revision is another one.
    read_at: Option<Position>,
}

/// The sections that hold the fleet.
const SECTIONS: [&str; 5] = [
    key::WORKLOADS,
    key::DEPLOY,
    key::CONTAINERS,
    key::HOSTS,
    key::ALIVE,
];

/// How often a view is brought up to date before it is read anew, because keys keep vanishing meanwhile.
const MAX_DELTAS: usize = 4;

/// A decoded value with the revision it was written at.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    /// The value.
    pub value: T,
    /// When it was last written.
    pub mod_revision: Revision,
}

/// A key that was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// What is wrong with its name or its value.
    pub reason: String,
    /// When it was last written.
    pub mod_revision: Revision,
}

impl View {
    /// What there is to read, or to watch, for a view of the whole fleet.
    pub fn ranges() -> Vec<KeyRange> {
        SECTIONS.map(key::section).into()
    }

    /// Reads the whole fleet at one revision.
    ///
    /// # Errors
    /// Those of [`Keyspace::txn`].
    pub async fn read(keyspace: &Keyspace) -> Result<(Header, Self), Error> {
        let mut view = Self::default();
        let header = view.refresh(keyspace).await?;
        Ok((header, view))
    }

    /// Reads the hosts and who reconciles them, at one revision, and nothing else.
    ///
    /// # Errors
    /// Those of [`Keyspace::txn`].
    pub async fn read_hosts(keyspace: &Keyspace) -> Result<(Header, Self), Error> {
        let ranges = [key::ALIVE, key::HOSTS].map(key::section);
        let (header, sections) = read_at_once(keyspace, ranges.into()).await?;
        // It is no view of the whole fleet, and is read whole when it is refreshed.
        let mut view = Self::default();
        sections.iter().flatten().for_each(|kv| view.put(kv));
        Ok((header, view))
    }

    /// Brings the view up to date, as of one revision. Of a view that was read before only what has been
    /// written since then travels, and the names of a section from which something has vanished; what is
    /// read from another keyspace is read whole.
    ///
    /// # Errors
    /// Those of [`Keyspace::txn`]. The view may then hold some of what is new; the next refresh makes it
    /// whole.
    ///
    /// # Cancel safety
    /// As with an error.
    pub async fn refresh(&mut self, keyspace: &Keyspace) -> Result<Header, Error> {
        match self.catch_up(keyspace).await? {
            Some(header) => Ok(header),
            None => self.read_all(keyspace).await,
        }
    }

    /// Reads what has changed since the last time. None if that cannot be told.
    async fn catch_up(&mut self, keyspace: &Keyspace) -> Result<Option<Header>, Error> {
        let Some(mut at) = self.read_at else {
            return Ok(None);
        };
        // The sections that hold fewer keys than this view: which ones has to be asked for by name.
        let mut shrunk: Vec<&'static str> = Vec::new();
        for _ in 0..MAX_DELTAS {
            let written = SECTIONS.map(|section| RangeRequest {
                min_mod_revision: Some(at.revision.next()),
                ..RangeRequest::new(key::section(section))
            });
            let named = shrunk.iter().map(|section| RangeRequest {
                keys_only: true,
                ..RangeRequest::new(key::section(section))
            });
            let read = Txn {
                then: written.into_iter().chain(named).map(Op::Range).collect(),
                ..Txn::default()
            };
            let response = keyspace.txn(read).await?;
            let now = response.header;
            if now.keyspace != at.keyspace || now.revision < at.revision {
                return Ok(None);
            }
            let answers = response.responses.into_iter().filter_map(|answer| match answer {
                OpResponse::Range(range) => Some(range),
                _ => None,
            });
            let mut answers: Vec<_> = answers.collect();
            let named = answers.split_off(SECTIONS.len().min(answers.len()));
            for kv in answers.iter().flat_map(|range| &range.kvs) {
                self.put(kv);
            }
            for (section, range) in shrunk.drain(..).zip(&named) {
                self.keep_only(section, &range.kvs);
            }
            let counted = SECTIONS.into_iter().zip(&answers);
            shrunk.extend(counted.filter_map(|(section, range)| {
                (self.keys_in(section) as u64 != range.count).then_some(section)
            }));
            at.revision = now.revision;
            if shrunk.is_empty() {
                self.read_at = Some(at);
                return Ok(Some(now));
            }
        }
        Ok(None)
    }

    async fn read_all(&mut self, keyspace: &Keyspace) -> Result<Header, Error> {
        let (header, sections) = read_at_once(keyspace, Self::ranges()).await?;
        let mut before = std::mem::take(self);
        self.absent_since = std::mem::take(&mut before.absent_since);
        if before.read_at.map(|at| at.keyspace) != Some(header.keyspace) {
            before = Self::default();
        }
        self.read_at = Some(Position {
            keyspace: header.keyspace,
            revision: header.revision,
        });
        for kv in sections.iter().flatten() {
            self.take(&mut before, kv);
        }
        Ok(header)
    }

    /// How many keys of a section it holds, those that could not be read included.
    fn keys_in(&self, section: &'static str) -> usize {
        let skipped = self
            .skipped
            .keys()
            .filter(|key| key.starts_with(section.as_bytes()));
        let read = match section {
            key::WORKLOADS => self.workloads.len(),
            key::DEPLOY => self.deploy.len(),
            key::CONTAINERS => self.containers.len(),
            key::HOSTS => self.hosts.len(),
            _ => self.alive.len(),
        };
        read + skipped.count()
    }

    /// Forgets the keys of a section that are not among these.
    fn keep_only(&mut self, section: &'static str, kvs: &[KeyValue]) {
        let there: BTreeSet<&Bytes> = kvs.iter().map(|kv| &kv.key).collect();
        let is_there = |key: FleetKey| there.contains(&key.to_bytes());
        match section {
            key::WORKLOADS => self
                .workloads
                .retain(|id, _| is_there(FleetKey::Workload(id.clone()))),
            key::DEPLOY => self
                .deploy
                .retain(|(id, row), _| is_there(FleetKey::Deploy(id.clone(), row.clone()))),
            key::CONTAINERS => self.containers.retain(|(id, row, host), _| {
                is_there(FleetKey::Container(id.clone(), host.clone(), row.clone()))
            }),
            key::HOSTS => self
                .hosts
                .retain(|host, _| is_there(FleetKey::Host(host.clone()))),
            _ => self
                .alive
                .retain(|host, _| is_there(FleetKey::Alive(host.clone()))),
        }
        self.skipped
            .retain(|key, _| !key.starts_with(section.as_bytes()) || there.contains(key));
    }

    /// The container rows of a workload, on all hosts.
    pub fn rows_of<'a>(
        &'a self,
        workload: &'a WorkloadId,
    ) -> impl Iterator<Item = (&'a RowName, &'a HostName, &'a Entry<ContainerRow>)> {
        let first = (workload.clone(), RowName::first(), HostName::first());
        self.containers
            .range(first..)
            .take_while(move |((of, ..), _)| of == workload)
            .map(|((_, row, host), entry)| (row, host, entry))
    }

    /// The deploy rows of a workload.
    pub fn deploy_rows_of<'a>(
        &'a self,
        workload: &'a WorkloadId,
    ) -> impl Iterator<Item = (&'a RowName, &'a Entry<DeployRow>)> {
        self.deploy
            .range((workload.clone(), RowName::first())..)
            .take_while(move |((of, _), _)| of == workload)
            .map(|((_, row), entry)| (row, entry))
    }

    /// Whether the value of a key is there and could not be read.
    pub fn is_skipped(&self, key: &FleetKey) -> bool {
        self.skipped.contains_key(&key.to_bytes())
    }

    /// Takes over a key that was written.
    pub fn put(&mut self, kv: &KeyValue) {
        self.delete(&kv.key);
        self.take(&mut Self::default(), kv);
    }

    /// Takes over that a key was deleted.
    pub fn delete(&mut self, name: &Bytes) {
        self.skipped.remove(name);
        match FleetKey::parse(name) {
            Some(Ok(FleetKey::Workload(id))) => drop(self.workloads.remove(&id)),
            Some(Ok(FleetKey::Deploy(id, row))) => drop(self.deploy.remove(&(id, row))),
            Some(Ok(FleetKey::Container(id, host, row))) => {
                self.containers.remove(&(id, row, host));
            }
            Some(Ok(FleetKey::Host(host))) => drop(self.hosts.remove(&host)),
            Some(Ok(FleetKey::Alive(host))) => drop(self.alive.remove(&host)),
            Some(Err(_)) | None => {}
        }
    }

    /// Moves an entry over from `before` if it is still the same, else decodes it.
    fn take(&mut self, before: &mut Self, kv: &KeyValue) {
        let name = match FleetKey::parse(&kv.key) {
            None => return,
            Some(Ok(name)) => name,
            Some(Err(error)) => return self.skip(kv, error.to_string()),
        };
        let taken = match name.clone() {
            FleetKey::Workload(id) => {
                let named = |value: &Workload| value.id == id;
                entry(&name, kv, before.workloads.remove(&id), named)
                    .map(|entry| drop(self.workloads.insert(id.clone(), entry)))
            }
            FleetKey::Deploy(id, row) => {
                let at = (id, row);
                entry(&name, kv, before.deploy.remove(&at), |_| true)
                    .map(|entry| drop(self.deploy.insert(at, entry)))
            }
            FleetKey::Container(id, host, row) => {
                let at = (id, row, host);
                let named = |value: &ContainerRow| value.workload_id == at.0 && value.host == at.2;
                entry(&name, kv, before.containers.remove(&at), named)
                    .map(|entry| drop(self.containers.insert(at.clone(), entry)))
            }
            FleetKey::Host(host) => entry(&name, kv, before.hosts.remove(&host), |_| true)
                .map(|entry| drop(self.hosts.insert(host, entry))),
            FleetKey::Alive(host) => entry(&name, kv, before.alive.remove(&host), |_| true)
                .map(|entry| drop(self.alive.insert(host, entry))),
        };
        if let Err(reason) = taken {
            self.skip(kv, reason);
        }
    }

    fn skip(&mut self, kv: &KeyValue, reason: String) {
        let skipped = Skipped {
            reason,
            mod_revision: kv.mod_revision,
        };
        self.skipped.insert(kv.key.clone(), skipped);
    }
}

/// The keys of some ranges in one transaction: nothing can come between them, and no compaction overtakes it.
async fn read_at_once(
    keyspace: &Keyspace,
    ranges: Vec<KeyRange>,
) -> Result<(Header, Vec<Vec<KeyValue>>), Error> {
    let read = |range| Op::Range(RangeRequest::new(range));
    let read = Txn {
        then: ranges.into_iter().map(read).collect(),
        ..Txn::default()
    };
    let response = keyspace.txn(read).await?;
    let kvs = |answer| match answer {
        OpResponse::Range(range) => Some(range.kvs),
        _ => None,
    };
    let sections = response.responses.into_iter().filter_map(kvs);
    Ok((response.header, sections.collect()))
}

fn entry<T: DeserializeOwned>(
    name: &FleetKey,
    kv: &KeyValue,
    before: Option<Entry<T>>,
    named: impl Fn(&T) -> bool,
) -> Result<Entry<T>, String> {
    if let Some(before) = before.filter(|before| before.mod_revision == kv.mod_revision) {
        return Ok(before);
    }
    let value = match value::decode(name, &kv.value) {
        Ok(value) => value,
        Err(Error::InvalidValue { reason, .. }) => return Err(reason),
        Err(error) => return Err(error.to_string()),
    };
    if !named(&value) {
        return Err("its ids are not those of its key".to_owned());
    }
    Ok(Entry {
        value,
        mod_revision: kv.mod_revision,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::kv;

    const ROW: &str = r#"{"id":"a:web","workload_id":"a","workload_kind":"stack","role":"web","host":"h1","state":"running"}"#;

    /// What the view says beyond where it was read.
    fn content(view: &View) -> View {
        View {
            read_at: None,
            ..view.clone()
        }
    }

    async fn is_as_if_read_anew(view: &mut View, ks: &Keyspace) {
        let header = view.refresh(ks).await.unwrap();
        let (now, fresh) = View::read(ks).await.unwrap();
        assert_eq!(header.revision, now.revision);
        assert_eq!(format!("{:?}", content(view)), format!("{:?}", content(&fresh)));
    }

    #[tokio::test]
    async fn a_view_that_is_brought_up_to_date_is_what_one_that_is_read_anew_is() {
        let ks = Keyspace::memory();
        let mut view = View::default();
        is_as_if_read_anew(&mut view, &ks).await;
        for (name, value) in [
            ("/workloads/a", r#"{"id":"a","kind":"stack"}"#),
            ("/workloads/bad", "{"),
            ("/containers/a/h1/web", ROW),
            ("/containers/a/h1/odd", "[]"),
            ("/deploy/a/web", r#"{"role":"web"}"#),
            ("/hosts/h1", r#"{"reachable":true}"#),
            ("/alive/h1", r#"{"instance":"i"}"#),
            ("/elsewhere", "x"),
        ] {
            ks.put(name, value).await.unwrap();
            is_as_if_read_anew(&mut view, &ks).await;
        }
        // A deletion and a new key at once leave the count as it was, and so do two of each.
        for name in [
            "/workloads/bad",
            "/alive/h1",
            "/containers/a/h1/odd",
            "/elsewhere",
        ] {
            ks.delete(tidewatch_core::key(name).unwrap()).await.unwrap();
            ks.put("/workloads/c", r#"{"id":"c","kind":"stack"}"#)
                .await
                .unwrap();
            is_as_if_read_anew(&mut view, &ks).await;
        }
        ks.delete(KeyRange::starting_with("/")).await.unwrap();
        ks.put("/containers/a/h1/web", ROW).await.unwrap();
        is_as_if_read_anew(&mut view, &ks).await;
        assert_eq!(view.containers.len(), 1);
    }

    #[tokio::test]
    async fn a_view_of_one_keyspace_is_none_of_another() {
        let (first, second) = (Keyspace::memory(), Keyspace::memory());
        first
            .put("/workloads/a", r#"{"id":"a","kind":"stack"}"#)
            .await
            .unwrap();
        second
            .put("/workloads/a", r#"{"id":"a","kind":"image"}"#)
            .await
            .unwrap();
        let mut view = View::default();
        is_as_if_read_anew(&mut view, &first).await;
        is_as_if_read_anew(&mut view, &second).await;
    }

    #[test]
    fn a_value_that_is_not_what_its_key_needs_is_skipped_and_told() {
        let mut view = View::default();
        for (key, value, reason) in [
            ("/workloads/a", "{", "EOF while parsing"),
            ("/workloads/b", r#"{"id":"b"}"#, "missing field `kind`"),
            (
                "/workloads/c",
                r#"{"id":"c","kind":"pod"}"#,
                "unknown variant `pod`",
            ),
            (
                "/workloads/d",
                r#"{"id":"x","kind":"stack"}"#,
                "its ids are not those of its key",
            ),
            ("/workloads/d/e", "{}", "it is not of the form /workloads/<id>"),
            ("/deploy/shop/web", "[]", "invalid"),
            ("/containers/shop/h1/web", "{}", "missing field"),
        ] {
            view.put(&kv(key, value, 5));
            let skipped = &view.skipped[key.as_bytes()];
            assert!(skipped.reason.contains(reason), "{key}: {}", skipped.reason);
        }
        view.put(&kv("/workloads/a", r#"{"id":"a","kind":"stack"}"#, 6));
        assert!(!view.skipped.contains_key(&b"/workloads/a"[..]));
        assert_eq!(view.workloads.len(), 1);
        view.delete(&"/workloads/a".into());
        view.delete(&"/workloads/b".into());
        assert!(view.workloads.is_empty() && !view.skipped.contains_key(&b"/workloads/b"[..]));
    }

    #[test]
    fn unknown_fields_survive_a_rewrite() {
        for (key, value) in [
            (
                "/workloads/a",
                r#"{"id":"a","kind":"stack","owner":{"team":"x"},"expect":{"web":{"min":2}}}"#,
            ),
            (
                "/deploy/a/web",
                r#"{"container_id":"c1","role":"web","color":"blue","npm_proxy_id":7}"#,
            ),
            (
                "/containers/a/h1/web",
                r#"{"id":"a:web","workload_id":"a","workload_kind":"stack","role":"web","host":"h1","state":"running","gpu":[1]}"#,
            ),
        ] {
            let mut view = View::default();
            view.put(&kv(key, value, 2));
            assert!(view.skipped.is_empty(), "{:?}", view.skipped);
            let written = view
                .workloads
                .values()
                .map(|entry| value::encode(&entry.value))
                .chain(view.deploy.values().map(|entry| value::encode(&entry.value)))
                .chain(view.containers.values().map(|entry| value::encode(&entry.value)))
                .next()
                .unwrap();
            let before: value::Extra = serde_json::from_str(value).unwrap();
            let after: value::Extra = serde_json::from_slice(&written).unwrap();
            for (field, content) in before {
                assert_eq!(after.get(&field), Some(&content), "{key} {field}");
            }
        }
    }
}
