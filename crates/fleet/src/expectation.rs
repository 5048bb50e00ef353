//! Whether a workload has what it was declared to have.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidewatch_core::{KeyValue, Keyspace, KeyspaceId, Revision};

use crate::error::Error;
use crate::join::JoinedRow;
use crate::key::{self, FleetKey};
use crate::name::{HostName, Role, WorkloadId};
use crate::state::{Health, State};
use crate::view::View;
use crate::walk::Section;
use crate::workload::{Expect, Workload};

/// An expectation, and what there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The role.
    pub role: Role,
    /// How many there should be.
    pub min: u32,
    /// How many are running and not unhealthy.
    pub found: u32,
}

impl Count {
    /// How many there should be and are not; 0 if the expectation is met.
    pub fn missing(&self) -> u32 {
        self.min.saturating_sub(self.found)
    }
}

/// How far each expectation of a workload is met, by role. Rows of other workloads do not count.
pub fn counts<'a>(workload: &Workload, rows: impl IntoIterator<Item = &'a JoinedRow>) -> Vec<Count> {
    let own = rows.into_iter().filter(|row| row.workload_id == workload.id);
    let up: Vec<_> = own.filter(|row| is_up(row)).map(|row| &row.role).collect();
    counted(&workload.expect, &up)
}

/// What `tidewatch wait --healthy` waits for: every expectation is met; without any, there is a row
/// and all rows are running and not unhealthy.
pub fn is_healthy<'a>(workload: &Workload, rows: impl IntoIterator<Item = &'a JoinedRow>) -> bool {
    if !workload.expect.is_empty() {
        return counts(workload, rows).iter().all(|count| count.missing() == 0);
    }
    let mut own = rows
        .into_iter()
        .filter(|row| row.workload_id == workload.id)
        .peekable();
    own.peek().is_some() && own.all(is_up)
}

/// Whether a container counts: it runs and is not unhealthy.
pub fn is_up(row: &JoinedRow) -> bool {
    counts_as_up(row.state, row.health)
}

fn counts_as_up(state: State, health: Option<Health>) -> bool {
    state == State::Running && health != Some(Health::Unhealthy)
}

fn counted(expect: &BTreeMap<Role, Expect>, up: &[&Role]) -> Vec<Count> {
    let count = |(role, expect): (&Role, &Expect)| Count {
        role: role.clone(),
        min: expect.min,
        found: u32::try_from(up.iter().filter(|of| **of == role).count()).unwrap_or(u32::MAX),
    };
    expect.iter().map(count).collect()
}

/// The [`Count`]s of all workloads, kept between reads.
///
/// A read decodes what has changed since the one before it, and of the containers only those of workloads
/// that expect something; at an unchanged revision it reads nothing. It remembers a few words for each of
/// those containers.
#[derive(Debug, Default)]
pub struct Tally {
    at: Option<(KeyspaceId, Revision)>,
    alive: BTreeSet<HostName>,
    workloads: BTreeMap<WorkloadId, Declared>,
}

/// What counts of a workload.
#[derive(Debug, Default)]
struct Declared {
    mod_revision: Revision,
    expect: BTreeMap<Role, Expect>,
    rows: BTreeMap<Bytes, Row>,
}

/// What counts of a container.
#[derive(Debug)]
struct Row {
    mod_revision: Revision,
    /// Where it runs, and as what; none if it does not count, also because its row cannot be read.
    up: Option<(HostName, Role)>,
}

impl Tally {
    /// Reads what has changed.
    ///
    /// # Errors
    /// Those of [`View::read_hosts`]; nothing is counted then, and everything is read again the next time.
    pub async fn refresh(&mut self, keyspace: &Keyspace) -> Result<(), Error> {
        let status = keyspace.status().await?;
        if self.at == Some((status.keyspace, status.revision)) {
            return Ok(());
        }
        let before = std::mem::take(self);
        let (header, view) = View::read_hosts(keyspace).await?;
        // Only within one keyspace is an entry of the same revision the same.
        let mut known = match before.at {
            Some((id, _)) if id == header.keyspace => before.workloads,
            _ => BTreeMap::new(),
        };
        let mut workloads = BTreeMap::new();
        let mut rest = Section::new(0, key::section(key::WORKLOADS), header.revision);
        while let Some(kv) = rest.next(keyspace).await? {
            if let Some((id, declared)) = Declared::read(&kv, &mut known) {
                workloads.insert(id, declared);
            }
        }
        for (id, declared) in &mut workloads {
            declared.read_rows(id, keyspace, header.revision).await?;
        }
        // All at once: a workload whose rows are not read yet would seem to have none.
        *self = Self {
            at: Some((header.keyspace, header.revision)),
            alive: view.alive.into_keys().collect(),
            workloads,
        };
        Ok(())
    }

    /// What each workload that expects something has of it.
    pub fn counts(&self) -> impl Iterator<Item = (&WorkloadId, Vec<Count>)> {
        let expecting = self.workloads.iter().filter(|(_, of)| !of.expect.is_empty());
        expecting.map(|(id, declared)| {
            let up = declared.rows.values().filter_map(|row| row.up.as_ref());
            let alive = up.filter(|(host, _)| self.alive.contains(host));
            let roles: Vec<_> = alive.map(|(_, role)| role).collect();
            (id, counted(&declared.expect, &roles))
        })
    }
}

impl Declared {
    /// None: it is no workload.
    fn read(kv: &KeyValue, known: &mut BTreeMap<WorkloadId, Self>) -> Option<(WorkloadId, Self)> {
        let Some(Ok(FleetKey::Workload(id))) = FleetKey::parse(&kv.key) else {
            return None;
        };
        let before = known.remove(&id).unwrap_or_default();
        if before.mod_revision == kv.mod_revision {
            return Some((id, before));
        }
        let mut view = View::default();
        view.put(kv);
        let (id, entry) = view.workloads.pop_first()?;
        let declared = Self {
            mod_revision: entry.mod_revision,
            expect: entry.value.expect,
            rows: before.rows,
        };
        Some((id, declared))
    }

    async fn read_rows(
        &mut self,
        id: &WorkloadId,
        keyspace: &Keyspace,
        revision: Revision,
    ) -> Result<(), Error> {
        let mut before = std::mem::take(&mut self.rows);
        if self.expect.is_empty() {
            return Ok(());
        }
        let mut rest = Section::new(0, key::container_rows(id), revision);
        while let Some(kv) = rest.next(keyspace).await? {
            let row = match before.remove(&kv.key) {
                Some(known) if known.mod_revision == kv.mod_revision => known,
                _ => Row::read(&kv),
            };
            self.rows.insert(kv.key, row);
        }
        Ok(())
    }
}

impl Row {
    fn read(kv: &KeyValue) -> Self {
        let mut view = View::default();
        view.put(kv);
        let row = view.containers.pop_first().map(|(_, entry)| entry.value);
        let up = row.filter(|row| counts_as_up(row.state, row.health));
        Self {
            mod_revision: kv.mod_revision,
            up: up.map(|row| (row.host, row.role)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{kv, overtaken_after};
    use crate::view::View;
    use crate::workload::{Expect, Kind};

    fn rows(states: &[(&str, &str, &str)]) -> Vec<JoinedRow> {
        let mut view = View::default();
        view.put(&kv("/alive/h1", r#"{"instance":"i"}"#, 2));
        for (row, role, rest) in states {
            let value = format!(
                r#"{{"id":"shop:{row}","workload_id":"shop","workload_kind":"stack","role":"{role}","host":"h1",{rest}}}"#
            );
            view.put(&kv(&format!("/containers/shop/h1/{row}"), &value, 3));
        }
        assert!(view.skipped.is_empty(), "{:?}", view.skipped);
        view.joined()
    }

    fn shop(expect: &[(&str, u32)]) -> Workload {
        let mut workload = Workload::new("shop".parse().unwrap(), Kind::Stack);
        for (role, min) in expect {
            workload
                .expect
                .insert(role.parse().unwrap(), Expect { min: *min });
        }
        workload
    }

    #[test]
    fn an_expectation_counts_rows_of_the_role_that_run_and_are_not_unhealthy() {
        let rows = rows(&[
            ("web", "web", r#""state":"running","health":"healthy""#),
            ("web.2", "web", r#""state":"running","health":"unhealthy""#),
            ("web.3", "web", r#""state":"running""#),
            ("web.4", "web", r#""state":"stopped""#),
            ("db", "db", r#""state":"running","health":"starting""#),
        ]);
        assert!(is_healthy(&shop(&[("web", 2), ("db", 1)]), &rows));
        let counts = counts(&shop(&[("web", 3), ("cache", 1), ("db", 1)]), &rows);
        let counts: Vec<_> = counts
            .iter()
            .map(|count| (count.role.as_str(), count.min, count.found, count.missing()))
            .collect();
        assert_eq!(counts, [("cache", 1, 0, 1), ("db", 1, 1, 0), ("web", 3, 2, 1)]);
    }

    #[test]
    fn without_expectations_there_must_be_a_row_and_all_must_run() {
        let workload = shop(&[]);
        let running = ("web", "web", r#""state":"running""#);
        assert!(!is_healthy(&workload, &[]));
        assert!(is_healthy(&workload, &rows(&[running])));
        for rest in [
            r#""state":"missing""#,
            r#""state":"stopped""#,
            r#""state":"running","health":"unhealthy""#,
        ] {
            assert!(
                !is_healthy(&workload, &rows(&[running, ("db", "db", rest)])),
                "{rest}"
            );
        }
        let other = Workload::new("other".parse().unwrap(), Kind::Stack);
        assert!(!is_healthy(&other, &rows(&[running])));
    }

    async fn put(keyspace: &Keyspace, key: &str, value: &str) {
        keyspace.put(key.to_owned(), value.to_owned()).await.unwrap();
    }

    async fn put_row(keyspace: &Keyspace, host: &str, row: &str, rest: &str) {
        let value = format!(
            r#"{{"id":"shop:{row}","workload_id":"shop","workload_kind":"stack","role":"web","host":"{host}",{rest}}}"#
        );
        put(keyspace, &format!("/containers/shop/{host}/{row}"), &value).await;
    }

    /// What the tally says of the shop, and what the rows say as everybody else reads them.
    async fn agreed(tally: &mut Tally, keyspace: &Keyspace) -> Option<u32> {
        tally.refresh(keyspace).await.unwrap();
        let told: Vec<_> = tally.counts().collect();
        let (_, view) = View::read(keyspace).await.unwrap();
        let rows = view.joined();
        let expecting = view
            .workloads
            .iter()
            .filter(|(_, of)| !of.value.expect.is_empty());
        let expected: Vec<_> = expecting.map(|(id, of)| (id, counts(&of.value, &rows))).collect();
        assert_eq!(told, expected);
        told.first().map(|(_, counts)| counts[0].missing())
    }

    #[tokio::test]
    async fn a_tally_says_what_the_rows_say_whatever_changes() {
        let keyspace = Keyspace::memory();
        let mut tally = Tally::default();
        assert_eq!(agreed(&mut tally, &keyspace).await, None);
        let shop = r#"{"id":"shop","kind":"stack","expect":{"web":{"min":2}}}"#;
        put(&keyspace, "/workloads/shop", shop).await;
        put(&keyspace, "/workloads/wrong", "nonsense").await;
        put(&keyspace, "/workloads/blog", r#"{"id":"blog","kind":"stack"}"#).await;
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(2));
        put(&keyspace, "/alive/h1", r#"{"instance":"i"}"#).await;
        put(&keyspace, "/alive/h2", r#"{"instance":"i"}"#).await;
        put_row(&keyspace, "h1", "web", r#""state":"running""#).await;
        put_row(
            &keyspace,
            "h2",
            "web.2",
            r#""state":"running","health":"healthy""#,
        )
        .await;
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(0));
        put_row(&keyspace, "h1", "web", r#""state":"stopped""#).await;
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(1));
        keyspace
            .delete(FleetKey::Alive("h2".parse().unwrap()).to_range())
            .await
            .unwrap();
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(2));
        put(&keyspace, "/alive/h2", r#"{"instance":"j"}"#).await;
        put_row(
            &keyspace,
            "h1",
            "web",
            r#""state":"running","health":"unhealthy""#,
        )
        .await;
        put(&keyspace, "/containers/shop/h1/odd", "nonsense").await;
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(1));
        let fewer = r#"{"id":"shop","kind":"stack","expect":{"web":{"min":1}}}"#;
        put(&keyspace, "/workloads/shop", fewer).await;
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(0));
        keyspace.delete(key::section(key::CONTAINERS)).await.unwrap();
        assert_eq!(agreed(&mut tally, &keyspace).await, Some(1));
        put(&keyspace, "/workloads/shop", r#"{"id":"shop","kind":"stack"}"#).await;
        assert_eq!(agreed(&mut tally, &keyspace).await, None);
    }

    #[tokio::test]
    async fn a_tally_that_could_not_read_everything_counts_nothing() {
        let memory = Keyspace::memory();
        for id in ["blog", "shop"] {
            let workload = format!(r#"{{"id":"{id}","kind":"stack","expect":{{"web":{{"min":1}}}}}}"#);
            put(&memory, &format!("/workloads/{id}"), &workload).await;
        }
        put(&memory, "/alive/h1", r#"{"instance":"i"}"#).await;
        put_row(&memory, "h1", "web", r#""state":"running""#).await;
        // What is there of the hosts, the workloads, and the rows of each of the two.
        for reads in 1..=3 {
            let mut tally = Tally::default();
            assert_eq!(agreed(&mut tally, &memory).await, Some(1));
            put(&memory, "/config/a", "1").await;
            let overtaken = overtaken_after(&memory, reads);
            let error = tally.refresh(&overtaken).await.unwrap_err();
            assert!(error.is_compacted(), "{reads} reads: {error}");
            assert_eq!(tally.counts().count(), 0, "{reads} reads");
            assert_eq!(agreed(&mut tally, &memory).await, Some(1));
        }
        Tally::default()
            .refresh(&overtaken_after(&memory, 4))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_tally_of_one_keyspace_says_nothing_of_another() {
        let mut tally = Tally::default();
        for (min, missing) in [(2, 2), (3, 3)] {
            let keyspace = Keyspace::memory();
            let shop = format!(r#"{{"id":"shop","kind":"stack","expect":{{"web":{{"min":{min}}}}}}}"#);
            put(&keyspace, "/workloads/shop", &shop).await;
            assert_eq!(agreed(&mut tally, &keyspace).await, Some(missing));
        }
    }
}
