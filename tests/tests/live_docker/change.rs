//! What changes about a container while it is there: its runs, image, networks, and which one it is.

use tidewatch_fleet::{Kind, State};
use tidewatch_tests::private_docker::{IMAGE, PrivateDocker};

use super::observed::{Observed, labels};

/// Runs a container with our labels in a network.
fn run_in(seen: &Observed, network: &str, name: &str) -> String {
    let labels = labels("shop", "stack", name);
    let mut words = vec!["run", "--detach", "--network", network, "--name", name];
    words.extend(labels.iter().map(String::as_str));
    words.push(IMAGE);
    seen.docker(&words)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_again_and_again_shows_as_restarting_with_its_count() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    let labels = labels("shop", "stack", "web");
    let options: Vec<_> = labels
        .iter()
        .map(String::as_str)
        .chain(["--restart=always"])
        .collect();
    let id = seen.docker.run_command("web", &options, &["false"]).unwrap();
    let row = seen
        .row("shop", "web", |row| {
            row.state == State::Restarting && row.restart_count >= 3
        })
        .await;
    assert_eq!((row.container_id, row.exit_code), (id, Some(1)));
    // Stopping one that waits for its next start is a `stop` without a `die`.
    seen.docker(&["stop", "web"]);
    seen.state("shop", "web", State::Stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_to_another_image_changes_no_row_but_is_noticed() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    seen.run_labelled("web", "shop", "web", &[]);
    let before = seen.state("shop", "web", State::Running).await;
    assert_eq!(before.image_ref, IMAGE);

    seen.docker(&["commit", "web", "other:1"]);
    let resyncs = seen.status.snapshot().resyncs;
    seen.docker(&["tag", "other:1", IMAGE]);
    seen.until_status("everything was listed because of it", |status| {
        status.snapshot().resyncs > resyncs
    })
    .await;
    // From the same name, and yet of another image.
    seen.run_labelled("next", "shop", "next", &[]);
    let next = seen.state("shop", "next", State::Running).await;
    assert_eq!(next.image_ref, IMAGE);
    assert_ne!(next.image_id, before.image_id);
    let after = seen.row("shop", "web", |_| true).await;
    assert_eq!(
        (after.image_ref, after.image_id),
        (before.image_ref, before.image_id)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_is_connected_and_disconnected_shows_with_its_address() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    seen.declare("shop", Kind::Stack).await;
    seen.docker(&["network", "create", "--subnet", "10.213.79.0/24", "front"]);
    seen.docker(&["network", "create", "--subnet", "10.213.80.0/24", "back"]);
    run_in(&seen, "front", "web");
    let names = |row: &tidewatch_fleet::ContainerRow| -> Vec<String> {
        row.networks.iter().map(|network| network.name.clone()).collect()
    };
    seen.row("shop", "web", |row| names(row) == ["front"]).await;
    seen.docker(&["network", "connect", "back", "web"]);
    let both = seen
        .row("shop", "web", |row| {
            names(row) == ["back", "front"] && !row.networks[0].ip.is_empty()
        })
        .await;
    assert!(both.networks[0].ip.starts_with("10.213.80."), "{both:?}");
    assert!(both.networks[1].ip.starts_with("10.213.79."), "{both:?}");
    seen.docker(&["network", "disconnect", "back", "web"]);
    seen.row("shop", "web", |row| names(row) == ["front"]).await;
}

/// Step by step as Compose does it: the new container is there before the old one is gone, and under another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_compose_recreates_keeps_its_row() {
    let Some(docker) = PrivateDocker::for_test() else {
        return;
    };
    let mut seen = Observed::new(docker).await;
    let labels = [
        "--label=com.docker.compose.project=blog",
        "--label=com.docker.compose.service=web",
        "--label=com.docker.compose.container-number=1",
    ];
    let old = seen.docker.run("blog-web-1", &labels).unwrap();
    seen.state("compose-blog", "web", State::Running).await;

    let replaces = format!("--label=com.docker.compose.replace={old}");
    let mut create = vec![
        "create",
        "--network",
        "none",
        "--name",
        "0123_blog-web-1",
        &replaces,
    ];
    create.extend(labels);
    create.push(IMAGE);
    let new = seen.docker(&create);
    seen.docker(&["stop", "blog-web-1"]);
    seen.docker(&["rm", "blog-web-1"]);
    seen.docker(&["rename", "0123_blog-web-1", "blog-web-1"]);
    seen.docker(&["start", "blog-web-1"]);
    let row = seen
        .row("compose-blog", "web", |row| {
            row.state == State::Running && row.container_id == new && row.name == "blog-web-1"
        })
        .await;
    assert_eq!(row.role.as_str(), "web");
    assert_eq!(seen.rows().len(), 1, "{:#?}", seen.rows());
}
