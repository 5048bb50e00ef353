//! Prometheus finds a container by itself, and scrapes it.

use serde_json::Value;
use tidewatch_tests::private_docker::{IMAGE, PrivateDocker};
use tidewatch_tests::program::ServerProgram;
use tidewatch_tests::prometheus::Prometheus;
use tidewatch_tests::wait::{eventually, eventually_async};

use super::observed::{CEILING, labels};

const NETWORK: &str = "tidewatch-test";

/// Serves a page with one metric.
const SERVE: &str = "busybox mkdir /www && echo 'tidewatch_test_answer 42' > /www/metrics.txt && \
                     exec busybox httpd -f -p 9100 -h /www";

/// Runs a container of the shop that publishes its metrics on a port of this machine's, in a network of its own.
fn run(docker: &PrivateDocker, name: &str) {
    let labels = labels("shop", "stack", "web");
    let network = ["run", "--detach", "--network", NETWORK, "--name", name];
    let published = ["--publish", "127.0.0.1::9100", IMAGE, "sh", "-c", SERVE];
    let labels = labels.iter().map(String::as_str);
    docker
        .docker(network.into_iter().chain(labels).chain(published))
        .unwrap();
}

/// Two ways to the same container: its published port, and its own address.
fn configuration(endpoint: &str) -> String {
    let job = |name: &str, query: &str| {
        format!(
            r"
  - job_name: {name}
    metrics_path: /metrics.txt
    http_sd_configs:
      - url: {endpoint}/api/v1/sd/prometheus?workload=shop{query}
        refresh_interval: 1s
    relabel_configs:
      - {{source_labels: [__meta_tidewatch_workload], target_label: workload}}
      - {{source_labels: [__meta_tidewatch_role], target_label: role}}
      - {{source_labels: [__meta_tidewatch_host], target_label: host}}
      - {{source_labels: [__meta_tidewatch_container_name], target_label: container}}
      - {{source_labels: [__meta_tidewatch_port], target_label: port}}"
        )
    };
    let published = job("published", "");
    let own = job("own", "&address=container&port=9100");
    format!("global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\nscrape_configs:{published}{own}\n")
}

/// The targets that Prometheus has, by job: how they are, and with which labels.
async fn targets(prometheus: &Prometheus) -> Vec<(String, Value)> {
    let Ok(answer) = prometheus.get("/api/v1/targets").await else {
        return Vec::new();
    };
    let active = answer["data"]["activeTargets"].as_array().cloned();
    let active = active.unwrap_or_default().into_iter();
    let mut targets: Vec<_> = active
        .map(|target| {
            (
                target["scrapePool"].as_str().unwrap_or_default().to_owned(),
                target,
            )
        })
        .collect();
    targets.sort_by(|a, b| a.0.cmp(&b.0));
    targets
}

/// What was scraped of the shop on this host.
async fn samples(prometheus: &Prometheus) -> Vec<Value> {
    let query = "/api/v1/query?query=tidewatch_test_answer%7Bworkload%3D%22shop%22%2Chost%3D%22h1%22%7D";
    let Ok(answer) = prometheus.get(query).await else {
        return Vec::new();
    };
    let series = answer["data"]["result"].as_array().cloned();
    series.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_discovers_and_scrapes_a_published_port_and_forgets_it_when_the_container_ends() {
    if !Prometheus::is_there() {
        return;
    }
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    docker
        .docker(["network", "create", "--driver", "bridge", NETWORK])
        .unwrap();
    let data = docker.dir().join("tidewatch");
    let here = ["--host-address", "127.0.0.1"];
    let server = ServerProgram::start_as(&data, &docker.address(), &here).unwrap();
    server
        .run(&["workload", "declare", "shop", "--kind", "stack"])
        .unwrap();
    run(&docker, "web-1");
    server.run(&["wait", "shop", "--healthy"]).unwrap();

    let prometheus = Prometheus::start(docker.dir(), &configuration(server.endpoint())).unwrap();
    let are_up = || async {
        let targets = targets(&prometheus).await;
        targets.len() == 2 && targets.iter().all(|(_, target)| target["health"] == "up")
    };
    let up = eventually_async(CEILING, are_up).await;
    let found = targets(&prometheus).await;
    assert!(up, "{found:#?}");
    for ((job, target), expected) in found.iter().zip(["own", "published"]) {
        assert_eq!(job, expected);
        let labels = &target["labels"];
        for (name, value) in [
            ("workload", "shop"),
            ("role", "web"),
            ("host", "h1"),
            ("container", "web-1"),
            ("port", "9100"),
        ] {
            assert_eq!(labels[name], value, "{target:#}");
        }
    }
    let instance = |at: usize| found[at].1["labels"]["instance"].as_str().unwrap();
    assert!(instance(1).starts_with("127.0.0.1:"), "{}", instance(1));
    assert!(!instance(0).starts_with("127."), "{}", instance(0));

    // A target is up a moment before what was scraped can be asked for.
    let are_stored = || async { samples(&prometheus).await.len() == 2 };
    let stored = eventually_async(CEILING, are_stored).await;
    let series = samples(&prometheus).await;
    assert!(stored, "{series:#?}");
    assert!(
        series.iter().all(|series| series["value"][1] == "42"),
        "{series:#?}"
    );

    docker.docker(["kill", "web-1"]).unwrap();
    let are_gone = || async { targets(&prometheus).await.is_empty() };
    assert!(
        eventually_async(CEILING, are_gone).await,
        "{:#?}",
        targets(&prometheus).await
    );
    let state = || server.run(&["ps"]).unwrap()[0]["state"].clone();
    assert!(eventually(CEILING, || state() == "stopped"));
}
