//! The fleet as it is at one revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use tidewatch_core::txn::{Header, Op, OpResponse, RangeRequest, Txn};
use tidewatch_core::{KeyRange, KeyValue, Keyspace, KeyspaceId, Revision};

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
    /// Keys that could not be read as what they should be, and why.
    pub skipped: BTreeMap<Bytes, Skipped>,
    /// The keyspace it was last read from: only within one is an entry of the same revision the same.
    keyspace: Option<KeyspaceId>,
}

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
        [
            key::WORKLOADS,
            key::DEPLOY,
            key::CONTAINERS,
            key::HOSTS,
            key::ALIVE,
        ]
        .map(key::section)
        .into()
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

    /// Reads the whole fleet again, in one transaction. What has not changed is not decoded again.
    ///
    /// # Errors
    /// Those of [`Keyspace::txn`]; the view is as it was then.
    pub async fn refresh(&mut self, keyspace: &Keyspace) -> Result<Header, Error> {
        let read = Txn {
            then: Self::ranges()
                .into_iter()
                .map(|range| Op::Range(RangeRequest::new(range)))
                .collect(),
            ..Txn::default()
        };
        let response = keyspace.txn(read).await?;
        let mut before = std::mem::take(self);
        let keyspace = Some(response.header.keyspace);
        if before.keyspace != keyspace {
            before = Self::default();
        }
        self.keyspace = keyspace;
        for answer in &response.responses {
            if let OpResponse::Range(range) = answer {
                for kv in &range.kvs {
                    self.take(&mut before, kv);
                }
            }
        }
        Ok(response.header)
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
