//! The metric of what is expected and missing.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use tidewatch_core::Keyspace;
use tidewatch_fleet::Tally;

use crate::fleet::undisturbed;

/// The most time series. There is one for each role that a workload expects, so that operators decide how
/// many there are; but what they declare with a loop must not drown whoever scrapes. What is missing is
/// shown before what is not.
const MAX_SERIES: usize = 10_000;

/// How many containers each workload lacks, looked up at each scrape. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    tally: Arc<tokio::sync::Mutex<Tally>>,
    shown: Arc<Mutex<Vec<(Labels, u32)>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    workload: String,
    role: String,
}

impl Missing {
    /// Looks again. What cannot be read is not shown.
    pub(crate) async fn refresh(&self, keyspace: &Keyspace) {
        let read = || async { self.tally.lock().await.refresh(keyspace).await };
        if let Err(error) = undisturbed(read).await {
            tracing::debug!(%error, "expectations cannot be counted");
        }
        // Counts nothing after an error.
        let tally = self.tally.lock().await;
        let mut series: Vec<_> = tally
            .counts()
            .flat_map(|(id, counts)| {
                counts.into_iter().map(move |count| {
                    let labels = Labels {
                        workload: id.to_string(),
                        role: count.role.to_string(),
                    };
                    (labels, count.missing())
                })
            })
            .collect();
        if series.len() > MAX_SERIES {
            series.sort_by_key(|(_, missing)| *missing == 0);
            series.truncate(MAX_SERIES);
        }
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = series;
    }
}

impl Collector for Missing {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metric = encoder.encode_descriptor(
            "workload_missing",
            "Containers of a role that a workload expects and that do not run, or are unhealthy",
            None,
            MetricType::Gauge,
        )?;
        for (labels, missing) in &*shown {
            let gauge = ConstGauge::new(u64::from(*missing));
            gauge.encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[tokio::test]
    async fn what_is_missing_is_shown_first_and_there_is_a_limit() {
        let keyspace = Keyspace::memory();
        for n in 0..MAX_SERIES + 5 {
            let min = u32::from(n == MAX_SERIES + 4);
            let workload = format!(r#"{{"id":"w{n:06}","kind":"stack","expect":{{"web":{{"min":{min}}}}}}}"#);
            keyspace
                .put(format!("/workloads/w{n:06}"), workload)
                .await
                .unwrap();
        }
        let missing = Missing::default();
        missing.refresh(&keyspace).await;
        let mut registry = Registry::with_prefix("tidewatch");
        registry.register_collector(Box::new(missing));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let shown: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(shown.len(), MAX_SERIES);
        assert_eq!(
            shown[0],
            r#"tidewatch_workload_missing{workload="w010004",role="web"} 1"#
        );
        assert_eq!(
            shown[1],
            r#"tidewatch_workload_missing{workload="w000000",role="web"} 0"#
        );
    }
}
