//! Servers whose etcd is not there, does not answer, or does not want them.

use anyhow::{Context as _, ensure};
use etcd_client::Client;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use rustix::process::Signal;
use tidewatch_core::watch::BatchKind;
use tidewatch_core::{EndReason, Revision, Watch, prefix};
use tidewatch_tests::etcd_cluster::EtcdCluster;
use tidewatch_tests::port::HeldPort;
use tidewatch_tests::program::{Running, tidewatch};
use tidewatch_tests::tcp_proxy::TcpProxy;
use tidewatch_tests::wait::eventually_async;

use super::{CEILING, PREFIX, Server, key, lines, next, next_events};

/// What the probe is told.
async fn readiness(endpoint: &str) -> anyhow::Result<(StatusCode, String)> {
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .build_http::<http_body_util::Empty<bytes::Bytes>>();
    let answer = client.get(format!("{endpoint}/readyz").parse()?).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Waits until the probe is told that, in these words.
async fn comes_to(endpoint: &str, status: StatusCode, words: &str) -> bool {
    eventually_async(CEILING, async || {
        let told = readiness(endpoint).await;
        told.is_ok_and(|(told, body)| told == status && body.contains(words))
    })
    .await
}

fn serve(members: &[String], options: &[&str]) -> anyhow::Result<(HeldPort, Running)> {
    let port = HeldPort::new()?;
    let mut command = tidewatch()?;
    command
        .args(["serve", "--no-docker", "--listen", &port.address().to_string()])
        .args(["--etcd", &members.join(",")])
        .args(options);
    Ok((port, Running::start(&mut command)?))
}

/// What a start says that ends by itself.
pub(super) fn refusal(members: &[String], options: &[&str]) -> anyhow::Result<String> {
    let (_port, running) = serve(members, options)?;
    // What is logged before may have errors in it too.
    let mut told = String::new();
    while !told.starts_with("error: ") {
        told = running.told("error: ")?;
    }
    ensure!(running.end(Signal::TERM)? == Some(1), "{told}");
    Ok(told)
}

#[tokio::test]
async fn a_server_waits_for_its_etcd_and_is_ready_when_it_has_caught_up() -> anyhow::Result<()> {
    let Some(mut etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    etcd.kill(0);
    let (port, running) = serve(&etcd.endpoints(), &[])?;
    running.told("waiting for etcd")?;
    let endpoint = format!("http://{}", port.address());
    let (status, told) = readiness(&endpoint).await?;
    ensure!(
        status == StatusCode::SERVICE_UNAVAILABLE && told.contains("recovering"),
        "{status}: {told}"
    );
    etcd.restart(0)?;
    running.told("serving on ")?;
    ensure!(comes_to(&endpoint, StatusCode::OK, "ok").await);
    assert_eq!(running.end(Signal::TERM)?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_cut_off_says_so_goes_on_showing_what_it_has_and_is_ready_again()
-> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let server = Server::on(etcd.endpoints()).await?;
    let endpoint = server.program.endpoint();
    server.ks.put(key("k"), "v").await?;
    ensure!(comes_to(endpoint, StatusCode::OK, "ok").await);
    etcd.pause(0);
    ensure!(comes_to(endpoint, StatusCode::SERVICE_UNAVAILABLE, "etcd does not answer").await);
    let status = server.status()?;
    let upstream = &status["upstream"];
    assert_eq!(upstream["state"], "interrupted", "{status}");
    ensure!(
        upstream["age_seconds"].as_f64().context("no age")? > 5.0,
        "{status}"
    );
    ensure!(
        upstream["error"].as_str().is_some_and(|error| !error.is_empty()),
        "{status}"
    );
    let here = server.ks.with_stale_reads();
    assert_eq!(here.get(key("k")).await?.context("it is gone")?.value, "v");
    etcd.resume(0);
    ensure!(comes_to(endpoint, StatusCode::OK, "ok").await);
    let is_live = || async {
        server
            .status()
            .is_ok_and(|status| status["upstream"]["state"] == "live")
    };
    ensure!(eventually_async(CEILING, is_live).await, "{}", server.status()?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_is_compacted_during_an_outage_ends_who_needs_it_and_nobody_else() -> anyhow::Result<()>
{
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let proxy = TcpProxy::start(etcd.address(0)).await?;
    let cut_off = Server::on([proxy.address()]).await?;
    let other = Server::on(etcd.endpoints()).await?;
    cut_off.ks.put(key("gone"), "1").await?;
    let begun = cut_off.ks.put(key("k"), "1").await?;
    let after = Revision(begun.0 + 20);
    let watch = |server: &Server| anyhow::Ok(server.ks.watch(prefix(PREFIX)?));
    let mut needs_it = watch(&cut_off)?.start().await?;
    let mut comes_later = watch(&cut_off)?.from_revision(after).start().await?;
    let mut has_it = watch(&other)?.from_revision(begun.next()).start().await?;
    let mut with_snapshot = watch(&cut_off)?.with_snapshot().start().await?;
    while next(&mut with_snapshot).await?.kind() != BatchKind::SnapshotEnd {}

    proxy.refuse(true);
    proxy.cut();
    let mut direct = Client::connect(etcd.endpoints(), None).await?;
    direct.delete(key("gone"), None).await?;
    let mut kv = direct.kv_client();
    let mut put = async |value: &str| {
        let answer = kv.put(key("k"), value, None).await?;
        let revision = u64::try_from(answer.header().context("no header")?.revision())?;
        anyhow::Ok((revision, vec![format!("k={value}")]))
    };
    let mut made = Vec::new();
    while made.last().is_none_or(|(revision, _)| revision + 1 < after.0) {
        made.push(put(&made.len().to_string()).await?);
    }
    let (last, there) = made.last().cloned().context("nothing was written")?;
    direct.compact(i64::try_from(last)?, None).await?;
    proxy.refuse(false);

    // What was in its snapshot may be gone since, and the watch cannot tell.
    for watch in [&mut needs_it, &mut with_snapshot] {
        let ended = ended(watch).await?;
        let is_right = matches!(ended, EndReason::Compacted { oldest, .. } if oldest.0 == last);
        ensure!(is_right, "{ended:?}");
    }
    let mut anew = watch(&cut_off)?.with_snapshot().start().await?;
    assert_eq!(next(&mut anew).await?.kind(), BatchKind::SnapshotBegin);
    assert_eq!(lines(&next(&mut anew).await?), there);
    assert_eq!(next(&mut anew).await?.kind(), BatchKind::SnapshotEnd);
    assert_eq!(next_events(&mut has_it).await?.1, ["gone deleted"]);
    for event in made {
        assert_eq!(next_events(&mut has_it).await?, event);
    }
    let event = put("after").await?;
    for watch in [&mut anew, &mut has_it, &mut comes_later] {
        assert_eq!(next_events(watch).await?, event);
    }
    Ok(())
}

/// Why the watch ends.
async fn ended(watch: &mut Watch) -> anyhow::Result<EndReason> {
    let ended = tokio::time::timeout(CEILING, async {
        loop {
            if let Err(ended) = watch.next().await {
                return ended.reason;
            }
        }
    });
    ended.await.context("it does not end")
}

#[tokio::test]
async fn who_is_not_let_in_and_what_overlaps_ends_the_start_with_the_reason() -> anyhow::Result<()> {
    let Some(etcd) = EtcdCluster::for_test(1) else {
        return Ok(());
    };
    let _fleet = Server::with(etcd.endpoints(), &["--etcd-namespace", "/fleet/"]).await?;
    let refused = |options: &[&str], words: &str| {
        let told = refusal(&etcd.endpoints(), options)?;
        ensure!(told.contains(words), "no {words:?} in {told:?}");
        anyhow::Ok(())
    };
    refused(&["--etcd-namespace", "/fleet/inner/"], "one inside the other")?;
    let mut root = Client::connect(etcd.endpoints(), None).await?;
    root.role_add("root").await?;
    root.user_add("root", "the password", None).await?;
    root.user_grant_role("root", "root").await?;
    root.auth_enable().await?;
    let dir = tempfile::tempdir()?;
    let wrong = dir.path().join("wrong");
    std::fs::write(&wrong, "another password\n")?;
    let wrong = wrong.to_str().context("a path")?;
    refused(
        &["--etcd-user", "root", "--etcd-password-file", wrong],
        "refuses to let user \"root\"",
    )?;
    refused(&[], "refuses to let a client without a user")?;
    let right = dir.path().join("right");
    std::fs::write(&right, "the password\n")?;
    let right = right.to_str().context("a path")?;
    let options = [
        "--etcd-namespace",
        "/fleet/",
        "--etcd-user",
        "root",
        "--etcd-password-file",
        right,
    ];
    let server = Server::with(etcd.endpoints(), &options).await?;
    server.ks.put(key("k"), "v").await?;
    Ok(())
}
