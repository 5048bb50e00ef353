//! Servers, members of their etcd, and what is in it, which go away.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions};
use rustix::process::Signal;
use tidewatch_tests::etcd_cluster::{EtcdCluster, Setup};
use tidewatch_tests::program::ServerProgram;
use tidewatch_tests::wait::{eventually, eventually_async};
use tidewatch_tests::watch_check::{Counts, KINDS, WatchCheck};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::CEILING;

/// Transactions that are acknowledged between two disturbances, at least: everybody is in the middle of things.
const BETWEEN: u64 = 100;

/// How much the members hold: more than the checks write, and little enough to be filled soon.
const QUOTA_BYTES: i64 = 64 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_is_kept_by_two_servers_whatever_becomes_of_members_and_servers() -> anyhow::Result<()>
{
    let setup = Setup {
        members: 3,
        args: vec![format!("--quota-backend-bytes={QUOTA_BYTES}")],
        ..Setup::default()
    };
    let Some(etcd) = EtcdCluster::set_up(&setup) else {
        return Ok(());
    };
    let start = || ServerProgram::start_on_etcd(&etcd.endpoints(), &["--etcd-namespace", "/fleet/"]);
    let servers = [start()?, start()?];
    let endpoints = servers.each_ref().map(|server| server.endpoint().to_owned());
    let (done, stop) = watch::channel(false);
    let checks = [0, 1].map(|at| {
        let mut check = WatchCheck::new(fastrand::u64(..));
        check.writers = 2;
        check.watchers = KINDS;
        let (one, other) = (endpoints[at].clone(), endpoints[1 - at].clone());
        let (counts, mut stop) = (check.counts.clone(), stop.clone());
        let running = tokio::spawn(async move {
            let stop = async move {
                let _ = stop.wait_for(|is_done| *is_done).await;
            };
            check.run_at(&[&one, &other], stop).await
        });
        (counts, running)
    });
    let counts: Vec<_> = checks.iter().map(|(counts, _)| counts.clone()).collect();
    let disturbing = tokio::task::spawn_blocking(move || {
        let disturbed = Disturbance {
            etcd,
            servers,
            counts,
        }
        .run(&Handle::current());
        done.send_replace(true);
        disturbed
    });
    // It goes when all is judged.
    let _rig = disturbing.await??;
    for (_, running) in checks {
        let report = running.await??;
        ensure!(report.found.is_empty(), "{report}");
        ensure!(
            report.counts.reconnected() > 0,
            "nobody had to go elsewhere: {report}"
        );
        ensure!(report.counts.events() > 1000, "{report}");
    }
    Ok(())
}

/// What happens meanwhile.
struct Disturbance {
    etcd: EtcdCluster,
    servers: [ServerProgram; 2],
    counts: Vec<Arc<Counts>>,
}

impl Disturbance {
    fn run(mut self, runtime: &Handle) -> anyhow::Result<Self> {
        self.some_more("the begin")?;
        let leader = (0..3).find(|&member| self.etcd.is_leader(member));
        let leader = leader.context("nobody leads")?;
        // All have to wait for an election, and whoever hangs on it has to go elsewhere.
        self.etcd.kill(leader);
        self.some_more("the end of the leader")?;
        self.etcd.restart(leader)?;
        let sleeper = (leader + 1) % 3;
        self.etcd.pause(sleeper);
        self.some_more("the sleep of a member")?;
        self.etcd.resume(sleeper);
        let counts = self.counts.clone();
        self.servers[0].stop_for(|| some_more(&counts, "the end of a server").expect("one goes on"))?;
        self.some_more("its return")?;
        let code = self.servers[1].restart(Signal::TERM)?;
        ensure!(code == Some(0), "it does not drain: {code:?}");
        self.some_more("the restart of a server")?;
        runtime.block_on(self.fill_and_empty())?;
        self.some_more("a full etcd")?;
        Ok(self)
    }

    fn some_more(&self, what: &str) -> anyhow::Result<()> {
        some_more(&self.counts, what)
    }

    /// Fills etcd until it takes nothing more, and makes room again, by forgetting all history.
    async fn fill_and_empty(&self) -> anyhow::Result<()> {
        let mut client = Client::connect(self.etcd.endpoints(), None).await?;
        let refusal = loop {
            if let Err(error) = client.put("elsewhere", vec![b'x'; 1 << 20], None).await {
                break error.to_string();
            }
        };
        ensure!(refusal.contains("database space exceeded"), "{refusal}");
        let header = client.get("elsewhere", None).await?;
        let now = header.header().context("no header")?.revision();
        client
            .compact(now, Some(CompactionOptions::new().with_physical()))
            .await?;
        // Each member forgets in its own time, and raises the alarm again as long as it has not.
        ensure!(
            eventually_async(CEILING, || async { Box::pin(self.make_room()).await.is_ok() }).await,
            "there is no room again: {:?}",
            Box::pin(self.make_room()).await
        );
        Ok(())
    }

    async fn make_room(&self) -> anyhow::Result<()> {
        for member in self.etcd.endpoints() {
            let mut member = Client::connect([member], None).await?;
            member.defragment().await?;
            let size = member.status().await?.db_size();
            ensure!(size < QUOTA_BYTES / 2, "a member still has {size} bytes");
        }
        let mut client = Client::connect(self.etcd.endpoints(), None).await?;
        let alarms = client.alarm(AlarmAction::Get, AlarmType::None, None).await?;
        for alarm in alarms.alarms() {
            let mut member = AlarmOptions::new();
            member.with_member(alarm.member_id());
            let quiet = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(member));
            quiet.await?;
        }
        client.put("elsewhere", "", None).await?;
        Ok(())
    }
}

/// Waits until every check has gone on.
fn some_more(counts: &[Arc<Counts>], after: &str) -> anyhow::Result<()> {
    for counts in counts {
        let goal = counts.acknowledged() + BETWEEN;
        ensure!(
            eventually(CEILING, || counts.acknowledged() >= goal),
            "after {after} only {} of {goal} were acknowledged",
            counts.acknowledged()
        );
    }
    Ok(())
}
