//! Two servers, and the same steps on both.

use std::fmt::Write;
use std::net::SocketAddr;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tidewatch_proto::etcdserverpb as pb;
use tidewatch_tests::etcd::RealEtcd;
use tidewatch_tests::program::ServerProgram;

use crate::scenario::{Scenario, Step, all, delete, put};
use crate::stubs::Stubs;
use crate::watching;

/// A client that takes steps.
pub(crate) trait Face {
    /// The answer as a text; none where the client has no words for the step.
    async fn answer(&mut self, step: &Step) -> Option<String>;
}

/// A real etcd, and ours.
pub(crate) struct Pair {
    pub(crate) theirs: SocketAddr,
    pub(crate) ours: SocketAddr,
    _etcd: RealEtcd,
    _tidewatch: Vec<ServerProgram>,
    _behind: Behind,
}

/// What our keyspace is in.
enum Behind {
    Dir(#[expect(dead_code, reason = "it is kept as long as the server")] TempDir),
    Etcd(#[expect(dead_code, reason = "it is kept as long as the server")] RealEtcd),
}

impl Pair {
    /// Beside the etcd in the PATH, ours: with a keyspace of its own, or with one in another etcd, so many servers away.
    /// None on a machine without an etcd.
    pub(crate) fn for_test(tiers: usize) -> anyhow::Result<Option<Self>> {
        let Some(etcd) = RealEtcd::for_test() else {
            return Ok(None);
        };
        if tiers == 0 {
            return Self::of(etcd).map(Some);
        }
        let behind = RealEtcd::for_test();
        behind
            .map(|behind| Self::through(tiers, etcd, behind))
            .transpose()
    }

    /// Beside this one, ours with a keyspace of its own.
    pub(crate) fn of(etcd: RealEtcd) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir()?;
        let tidewatch = ServerProgram::start_alone(dir.path())?;
        Ok(Self {
            theirs: etcd.address(),
            ours: tidewatch.endpoint().trim_start_matches("http://").parse()?,
            _etcd: etcd,
            _tidewatch: vec![tidewatch],
            _behind: Behind::Dir(dir),
        })
    }

    fn through(tiers: usize, etcd: RealEtcd, behind: RealEtcd) -> anyhow::Result<Self> {
        let mut tidewatch: Vec<ServerProgram> = Vec::new();
        let mut ours = behind.address();
        for _ in 0..tiers {
            let server = ServerProgram::start_on_etcd(&[ours.to_string()], &[])?;
            ours = server.endpoint().trim_start_matches("http://").parse()?;
            tidewatch.push(server);
        }
        Ok(Self {
            theirs: etcd.address(),
            ours,
            _etcd: etcd,
            _tidewatch: tidewatch,
            _behind: Behind::Etcd(behind),
        })
    }
}

/// One side of a comparison.
pub(crate) struct Side<F> {
    stubs: Stubs,
    face: F,
}

impl<F: Face> Side<F> {
    pub(crate) async fn new(address: SocketAddr, face: F) -> anyhow::Result<Self> {
        let stubs = Stubs::connect(address).await?;
        Ok(Self { stubs, face })
    }

    pub(crate) fn stubs(&self) -> &Stubs {
        &self.stubs
    }

    /// Takes a step, with the stubs where the client cannot.
    async fn take(&mut self, step: &Step) -> String {
        match self.face.answer(step).await {
            Some(text) => text,
            None => self.stubs.answer(step).await.unwrap_or_default(),
        }
    }
}

/// Runs the scenarios on both, and tells of all that went otherwise than it should.
pub(crate) async fn scenarios<F: Face>(
    table: impl Iterator<Item = &Scenario>,
    theirs: &mut Side<F>,
    ours: &mut Side<F>,
) -> anyhow::Result<()> {
    let mut wrong = String::new();
    for scenario in table {
        let base = begin(&theirs.stubs, &ours.stubs).await?;
        let difference = steps(&(scenario.steps)(base), theirs, ours).await;
        match (difference, scenario.differs) {
            (Some(text), None) => write!(wrong, "\n=== {} (from {base})\n{text}", scenario.name)?,
            (None, Some(row)) => write!(
                wrong,
                "\n=== {}: no difference, though one is listed: {row:?}",
                scenario.name
            )?,
            (Some(_), Some(_)) | (None, None) => {}
        }
    }
    ensure!(wrong.is_empty(), "not as with etcd:\n{wrong}");
    Ok(())
}

/// Takes the steps on both; what differs, if anything does.
pub(crate) async fn steps<F: Face>(
    steps: &[Step],
    theirs: &mut Side<F>,
    ours: &mut Side<F>,
) -> Option<String> {
    let mut text = String::new();
    for step in steps {
        let (expected, found) = tokio::join!(theirs.take(step), ours.take(step));
        // A wait in vain is a mistake in the scenario, if both servers make one.
        if expected != found || expected.contains(watching::IN_VAIN) {
            let shown: String = format!("{step:?}").chars().take(2000).collect();
            text.extend([format!("--- {shown}\netcd:\n{expected}\nhere:\n{found}\n")]);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Puts both into the same state: no keys, no leases, the same revision; which one.
pub(crate) async fn begin(theirs: &Stubs, ours: &Stubs) -> anyhow::Result<i64> {
    let (a, b) = (empty(theirs).await?, empty(ours).await?);
    let target = a.max(b) + 2;
    level(theirs, target).await?;
    level(ours, target).await?;
    Ok(target)
}

async fn empty(stubs: &Stubs) -> anyhow::Result<i64> {
    let leases = stubs.lease().lease_leases(pb::LeaseLeasesRequest {}).await?;
    for lease in leases.into_inner().leases {
        stubs
            .lease()
            .lease_revoke(pb::LeaseRevokeRequest { id: lease.id })
            .await?;
    }
    stubs.kv().delete_range(delete("\0", "\0")).await?;
    let left = stubs.kv().range(all()).await?.into_inner();
    ensure!(left.count == 0, "keys are left: {left:?}");
    Ok(left.header.context("no header")?.revision)
}

/// Writes until there is nothing, at this revision.
async fn level(stubs: &Stubs, target: i64) -> anyhow::Result<()> {
    loop {
        let answer = stubs.kv().put(put("level", "")).await?.into_inner();
        let revision = answer.header.context("no header")?.revision;
        ensure!(revision < target, "{revision} is past {target}");
        if revision + 1 == target {
            stubs.kv().delete_range(delete("level", "")).await?;
            return Ok(());
        }
    }
}
