//! How what is served follows the etcd that the keyspace is in: what readiness, `tidewatch status` and the metrics say of it.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use tidewatch_core::Clock;
use tidewatch_proto::v1;

/// What a keyspace is kept in that is elsewhere.
pub(crate) trait Upstream: fmt::Debug + Send + Sync {
    /// Where it is, for people.
    fn endpoints(&self) -> &[String];
    /// How all keys of the keyspace begin there.
    fn namespace(&self) -> &[u8];
    /// How following it goes.
    fn report(&self, now: Instant) -> UpstreamReport;
    /// How long it may be interrupted until what is served counts as out of date: the end of one member is got over by then.
    fn tolerated(&self) -> Duration;
}

/// How following goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UpstreamReport {
    pub(crate) state: UpstreamState,
    /// How long ago what is served was last known to be what is there.
    pub(crate) age: Option<Duration>,
    /// Why it is not live; without keys and values.
    pub(crate) error: String,
    pub(crate) lag_revisions: u64,
    pub(crate) relists: u64,
    pub(crate) backfills: u64,
    pub(crate) backfills_begun: u64,
}

/// What following is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamState {
    /// Nothing has been read yet.
    Connecting,
    /// What is served is what is there.
    Live,
    /// What is served may be out of date.
    Interrupted,
    /// Nothing more will come.
    Stopped,
}

impl UpstreamState {
    const ALL: [Self; 4] = [Self::Connecting, Self::Live, Self::Interrupted, Self::Stopped];

    fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Interrupted => "interrupted",
            Self::Stopped => "stopped",
        }
    }
}

/// An upstream, and the time. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Followed {
    upstream: Arc<dyn Upstream>,
    clock: Arc<dyn Clock>,
}

impl Followed {
    pub(crate) fn new(upstream: Arc<dyn Upstream>, clock: Arc<dyn Clock>) -> Self {
        Self { upstream, clock }
    }

    /// Why what is served is not to be relied on; none if it is.
    pub(crate) fn obstacle(&self) -> Option<String> {
        let report = self.report();
        let UpstreamReport {
            state, age, error, ..
        } = &report;
        match (state, age) {
            (UpstreamState::Live, _) => None,
            (UpstreamState::Interrupted, Some(age)) if *age <= self.upstream.tolerated() => None,
            (UpstreamState::Interrupted, Some(age)) => {
                let age = age.as_secs();
                Some(format!(
                    "what the server has is {age} s old, because etcd does not answer: {error}"
                ))
            }
            (state, _) => Some(format!("the server is {} to etcd: {error}", state.name())),
        }
    }

    pub(crate) fn status(&self) -> v1::UpstreamStatus {
        let report = self.report();
        let millis = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        v1::UpstreamStatus {
            endpoints: self.upstream.endpoints().to_vec(),
            namespace: self.upstream.namespace().to_vec().into(),
            state: report.state.name().into(),
            age_ms: report.age.map(millis),
            error: report.error,
            lag_revisions: report.lag_revisions,
            relists: report.relists,
            backfills: report.backfills,
            backfills_begun: report.backfills_begun,
        }
    }

    fn report(&self) -> UpstreamReport {
        self.upstream.report(self.clock.now())
    }
}

/// The metrics, asked for at each scrape; there are none without an upstream. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct UpstreamMetrics(Arc<OnceLock<Followed>>);

impl UpstreamMetrics {
    /// Names what is asked. Only the first call counts.
    pub(crate) fn observe(&self, followed: Followed) {
        let _ = self.0.set(followed);
    }
}

impl Collector for UpstreamMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(followed) = self.0.get() else {
            return Ok(());
        };
        let report = followed.report();
        let mut states = encoder.encode_descriptor(
            "upstream_state",
            "What following etcd is doing: 1 for the state it is in, 0 for the others",
            None,
            MetricType::Gauge,
        )?;
        for state in UpstreamState::ALL {
            let gauge = ConstGauge::new(u64::from(state == report.state));
            gauge.encode(states.encode_family(&[("state", state.name())])?)?;
        }
        if let Some(age) = report.age {
            let age = ConstGauge::new(age.as_secs_f64());
            let help = "How long ago what is served was last known to be what etcd holds";
            one(&mut encoder, "upstream_age_seconds", help, &age)?;
        }
        for (name, help, level) in [
            (
                "upstream_lag_revisions",
                "How many revisions what is served is known to be behind etcd",
                report.lag_revisions,
            ),
            (
                "upstream_backfills",
                "Watches in etcd that fetch history from before what is in memory",
                report.backfills,
            ),
        ] {
            one(&mut encoder, name, help, &ConstGauge::new(level))?;
        }
        for (name, help, count) in [
            (
                "upstream_relists",
                "How often everything was read from etcd anew",
                report.relists,
            ),
            (
                "upstream_backfills_begun",
                "How often history from before what is in memory was fetched",
                report.backfills_begun,
            ),
        ] {
            one(&mut encoder, name, help, &ConstCounter::new(count))?;
        }
        Ok(())
    }
}

fn one(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Mutex;

    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;
    use tidewatch_core::ManualClock;

    use super::*;

    /// An upstream of which a test says how it is.
    #[derive(Debug)]
    pub(crate) struct Told(pub(crate) Mutex<UpstreamReport>);

    impl Told {
        pub(crate) fn live() -> Arc<Self> {
            Arc::new(Self(Mutex::new(UpstreamReport {
                state: UpstreamState::Live,
                age: Some(Duration::from_millis(1500)),
                error: String::new(),
                lag_revisions: 2,
                relists: 3,
                backfills: 4,
                backfills_begun: 5,
            })))
        }

        pub(crate) fn interrupt(&self, age: Duration) {
            let mut report = self.0.lock().unwrap();
            report.state = UpstreamState::Interrupted;
            report.age = Some(age);
            report.error = "no leader".into();
        }
    }

    impl Upstream for Told {
        fn endpoints(&self) -> &[String] {
            &[]
        }

        fn namespace(&self) -> &[u8] {
            b"/fleet/"
        }

        fn report(&self, _: Instant) -> UpstreamReport {
            self.0.lock().unwrap().clone()
        }

        fn tolerated(&self) -> Duration {
            Duration::from_secs(5)
        }
    }

    pub(crate) fn followed(upstream: &Arc<Told>) -> Followed {
        Followed::new(upstream.clone(), Arc::new(ManualClock::new()))
    }

    #[test]
    fn what_is_served_may_be_relied_on_until_an_interruption_is_more_than_the_end_of_a_member() {
        let upstream = Told::live();
        let followed = followed(&upstream);
        assert_eq!(followed.obstacle(), None);
        upstream.interrupt(Duration::from_secs(5));
        assert_eq!(followed.obstacle(), None);
        upstream.interrupt(Duration::from_millis(5001));
        let obstacle = followed.obstacle().unwrap();
        assert!(
            obstacle.contains("5 s old") && obstacle.contains("no leader"),
            "{obstacle}"
        );
        upstream.0.lock().unwrap().state = UpstreamState::Stopped;
        assert!(followed.obstacle().is_some());
    }

    #[test]
    fn the_metrics_are_there_with_an_upstream_and_are_documented() {
        let metrics = UpstreamMetrics::default();
        let mut registry = Registry::with_prefix("tidewatch");
        registry.register_collector(Box::new(metrics.clone()));
        let text = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        assert_eq!(text(), "# EOF\n");
        metrics.observe(followed(&Told::live()));
        let text = text();
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                r#"tidewatch_upstream_state{state="connecting"} 0"#,
                r#"tidewatch_upstream_state{state="live"} 1"#,
                r#"tidewatch_upstream_state{state="interrupted"} 0"#,
                r#"tidewatch_upstream_state{state="stopped"} 0"#,
                "tidewatch_upstream_age_seconds 1.5",
                "tidewatch_upstream_lag_revisions 2",
                "tidewatch_upstream_backfills 4",
                "tidewatch_upstream_relists_total 3",
                "tidewatch_upstream_backfills_begun_total 5",
            ]
        );
        let documented = include_str!("../../../docs/metrics.md");
        for sample in samples {
            let name = sample.split([' ', '{']).next().unwrap();
            assert!(
                documented.contains(&format!("| `{name}` |")),
                "{name} is not in docs/metrics.md"
            );
        }
    }
}
