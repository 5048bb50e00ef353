//! The reconcilers that this server knows: those that run in it, one per Docker engine, and those of agents, as far as they
//! report to it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidewatch_core::{Clock, Keyspace};
use tidewatch_docker::ReconcilerStatus;
use tidewatch_fleet::{ContainerVerdict, HostName, HostReport, View};
use tidewatch_proto::v1;

use crate::absence::Absences;
use crate::config::Config;
use crate::part::Parts;
use crate::readiness::Readiness;
use crate::report::{Reports, ToldOf};
use crate::site::{Site, machine_name};
use crate::store::Store;

/// What this server is called among the nodes: the name of its host.
pub(crate) fn node_name(config: &Config) -> String {
    config.host_name.clone().unwrap_or_else(machine_name)
}

/// Handles on the running reconcilers, and what is told of the others.
#[derive(Debug)]
pub(crate) struct Reconcilers {
    running: Vec<Running>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) absences: Absences,
}

#[derive(Debug)]
struct Running {
    status: ReconcilerStatus,
    endpoint: String,
}

impl Running {
    /// Whether somebody else has the host: then what is known here is of another time.
    fn stands_by(&self) -> bool {
        self.status.snapshot().ours == Some(false)
    }
}

/// What reconcilers work with.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a Store,
    pub(crate) clock: &'a Arc<dyn Clock>,
    pub(crate) readiness: &'a Readiness,
}

impl Context<'_> {
    /// Starts a reconciler for each engine. They end when the server drains, and give their hosts up
    /// then.
    pub(crate) fn start(&self, sites: Vec<Site>, parts: &mut Parts) -> Reconcilers {
        let running = sites.into_iter().map(|site| self.start_one(site, parts));
        Reconcilers {
            running: running.collect(),
            reports: Arc::new(Reports::new(self.clock.clone())),
            absences: Absences::new(self.clock.clone()),
        }
    }

    fn start_one(&self, site: Site, parts: &mut Parts) -> Running {
        let endpoint = site.endpoint();
        let reconciler = site
            .reconciler(self.clock.clone())
            .keyspace(self.store.keyspace.clone())
            .instance(self.store.instance.clone())
            .description(format!("server on {}", machine_name()))
            .build();
        let status = reconciler.status();
        let readiness = self.readiness.clone();
        parts.spawn(
            "reconciler",
            reconciler.run(async move { readiness.draining().await }),
        );
        Running { status, endpoint }
    }
}

impl Reconcilers {
    /// How the reconciler of a host is: of one that runs here, or of one that has claimed the host and reports
    /// here.
    pub(crate) fn of(&self, view: &View, host: &HostName) -> Option<HostReport> {
        let running = self.running(host);
        if let Some(running) = running.filter(|running| !running.stands_by()) {
            return Some(running.status.report());
        }
        let holder = view.alive.get(host);
        let report = holder.and_then(|alive| self.reports.of(host.as_str(), alive.mod_revision));
        report.or_else(|| running.map(|running| running.status.report()))
    }

    fn running(&self, host: &HostName) -> Option<&Running> {
        self.running.iter().find(|running| running.status.host() == host)
    }

    /// The hosts that are looked after here.
    pub(crate) fn names(&self) -> impl Iterator<Item = &HostName> {
        self.running.iter().map(|running| running.status.host())
    }

    /// The hosts of the fleet, with what is known of them. Reads no rows.
    pub(crate) async fn hosts(&self, keyspace: &Keyspace) -> Result<Vec<KnownHost>, tidewatch_fleet::Error> {
        let (_, view) = View::read_hosts(keyspace).await?;
        let names: BTreeSet<_> = self.names().chain(hosts_in(&view)).cloned().collect();
        let known = names.into_iter().map(|host| {
            let running = self.running(&host);
            KnownHost {
                report: self.of(&view, &host),
                ours: running.is_some_and(|running| running.status.snapshot().ours == Some(true)),
                reachable: view.alive.contains_key(&host)
                    && view.hosts.get(&host).is_some_and(|stored| stored.value.reachable),
                host,
            }
        });
        Ok(known.collect())
    }

    /// What became of the containers of the fleet; of one host if one is named.
    pub(crate) fn verdicts(&self, view: &View, only: Option<&HostName>) -> Told {
        let mut told = Told::default();
        let is_meant = |host: &HostName| only.is_none_or(|only| only == host);
        for running in &self.running {
            let host = running.status.host();
            if !is_meant(host) || running.stands_by() {
                continue;
            }
            let verdicts = running.status.verdicts();
            let verdicts = verdicts.iter().map(|verdict| (host.clone(), verdict.told()));
            told.verdicts.extend(verdicts);
        }
        let hosts: BTreeSet<_> = hosts_in(view).filter(|host| is_meant(host)).collect();
        for host in hosts {
            if self.running(host).is_none_or(Running::stands_by) {
                self.ask_reports(view, host, &mut told);
            }
        }
        told
    }

    fn ask_reports(&self, view: &View, host: &HostName, told: &mut Told) {
        let Some(alive) = view.alive.get(host) else {
            told.unknown.push(match self.absences.since(host) {
                Some(since) => format!(
                    "nobody has reconciled host {host} since {}, so what it runs is not known",
                    humantime::format_rfc3339_seconds(since)
                ),
                None => format!("nobody reconciles host {host}, so what it runs is not known"),
            });
            return;
        };
        let verdicts = match self.reports.verdicts(host, alive.mod_revision) {
            ToldOf::Verdicts(verdicts) => verdicts,
            ToldOf::Nothing => {
                told.unknown.push(format!(
                    "instance {} reconciles host {host} and has not told this server yet what became of its \
                     containers; it tells the server it is connected to, every few seconds",
                    alive.value
                ));
                return;
            }
            ToldOf::Refused(why) => {
                told.unknown.push(format!(
                    "what became of the containers of host {host} is not known here, because {why}"
                ));
                return;
            }
        };
        if verdicts.omitted > 0 {
            let omitted = verdicts.omitted;
            told.unknown.push(format!(
                "host {host} has {omitted} more containers, which are too many to be told of"
            ));
        }
        let verdicts = verdicts
            .verdicts
            .iter()
            .map(|verdict| (host.clone(), verdict.clone()));
        told.verdicts.extend(verdicts);
    }

    /// All of them, for the status of the server.
    pub(crate) fn report(&self) -> Vec<v1::ReconcilerStatus> {
        let report = |running: &Running| {
            let snapshot = running.status.snapshot();
            // Counted in one look: between two the reconciler may have written.
            let verdicts = running.status.verdicts();
            let tracked = verdicts.iter().filter(|verdict| verdict.untracked().is_none());
            let tracked = tracked.count() as u64;
            v1::ReconcilerStatus {
                host: running.status.host().to_string(),
                endpoint: running.endpoint.clone(),
                reachable: snapshot.reachable == Some(true),
                since: snapshot.since.map(Into::into),
                error: snapshot.trouble(),
                last_sync: snapshot.last_sync.map(Into::into),
                syncs: snapshot.resyncs,
                drift: snapshot.drift,
                containers: tracked,
                untracked: verdicts.len() as u64 - tracked,
            }
        };
        self.running.iter().map(report).collect()
    }
}

/// The hosts of which a view has keys, some of them twice: one that was claimed a moment ago has no other key yet.
pub(crate) fn hosts_in(view: &View) -> impl Iterator<Item = &HostName> {
    view.hosts.keys().chain(view.alive.keys())
}

/// A host, and what is known of it here.
#[derive(Debug)]
pub(crate) struct KnownHost {
    pub(crate) host: HostName,
    /// What its reconciler tells, if that runs here or reports here.
    pub(crate) report: Option<HostReport>,
    /// Whether this server writes about it.
    pub(crate) ours: bool,
    /// Whether it is reconciled by anybody, and its Docker answers, as far as that is written.
    pub(crate) reachable: bool,
}

/// What became of containers, and what is not known about that.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) verdicts: Vec<(HostName, ContainerVerdict)>,
    /// For people.
    pub(crate) unknown: Vec<String>,
}
