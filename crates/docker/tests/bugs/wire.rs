//! Answers that are not what they should be, byte by byte.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tidewatch_core::ManualClock;
use tidewatch_docker::{DockerEvents, DockerInspect, DockerLister, ListError, Scope};
use tidewatch_fleet::{Health, State};

use crate::scripted::heard::{DIE, START, action, actions, ends_and_goes_on};
use crate::scripted::{Answer, ScriptedEngine, chunks};

#[tokio::test]
async fn bug_04_a_daemon_that_came_back_with_another_socket_is_found() {
    let scripted = ScriptedEngine::always(Answer::ok("[]"));
    let engine = scripted.engine();
    engine.list(Scope::All).await.unwrap();
    let socket = scripted.socket().to_owned();
    std::fs::remove_file(&socket).unwrap();
    let away = engine.list(Scope::All).await;
    assert!(matches!(away, Err(ListError::Unreachable { .. })), "{away:?}");
    let again = ScriptedEngine::always(Answer::ok(r#"[{"Id":"a"}]"#));
    std::os::unix::fs::symlink(again.socket(), &socket).unwrap();
    assert_eq!(engine.list(Scope::All).await.unwrap().containers.len(), 1);
}

#[tokio::test]
async fn bug_09_it_asks_with_get_alone_on_five_paths_and_never_for_sizes() {
    let scripted = ScriptedEngine::start(|target| {
        Answer::ok(match target.split('?').next().unwrap() {
            "/_ping" => "OK",
            "/containers/json" => "[]",
            "/info" => r#"{"ID":"d1"}"#,
            "/version" => r#"{"Version":"28.0"}"#,
            "/containers/c1/json" => r#"{"State":{}}"#,
            "/events" => "",
            other => panic!("asked for {other}"),
        })
    });
    let engine = scripted.engine();
    engine.ping().await.unwrap();
    assert_eq!(engine.daemon().await.unwrap().id, "d1");
    engine.list(Scope::All).await.unwrap();
    engine.list(Scope::Ids(&["c1".to_owned()])).await.unwrap();
    engine.inspect("c1").await.unwrap();
    engine.subscribe(None).await.unwrap();
    let requests = scripted.requests();
    assert_eq!(requests.len(), 7);
    for request in requests {
        assert!(request.starts_with("GET /"), "{request}");
        assert!(!request.contains("size"), "{request}");
    }
}

#[tokio::test]
async fn bug_10_a_word_that_is_newer_than_this_code_costs_one_container_its_state() {
    let body = r#"[{"Id":"a","State":"hibernating"},{"Id":"b","State":"running"},{"State":"running"}]"#;
    let scripted = ScriptedEngine::always(Answer::ok(body));
    let listing = scripted.engine().list(Scope::All).await.unwrap();
    let states: Vec<_> = listing
        .containers
        .iter()
        .map(|container| container.state)
        .collect();
    assert_eq!(states, [State::Unknown, State::Running]);
    assert_eq!(listing.undecodable, 1);
}

#[tokio::test]
async fn bug_11_a_malformed_event_is_counted_and_told_and_the_next_is_read() {
    let (start, cut) = START.split_at(20);
    let mut answer = chunks([start, cut, "{\"Type\":\n", "\u{1}\n", DIE]);
    answer.extend(b"0\r\n\r\n");
    let (seen, doubts) = actions(Answer::Cut(answer)).await;
    assert_eq!(seen, ["start", "doubt", "doubt", "die"]);
    assert_eq!(doubts, 2);
}

#[tokio::test]
async fn bug_11_an_event_of_an_unknown_type_ends_nothing() {
    let unknown = "{\"Type\":\"wormhole\",\"Action\":\"open\"}\n";
    let mut answer = chunks([unknown, DIE]);
    answer.extend(b"0\r\n\r\n");
    assert_eq!(actions(Answer::Cut(answer)).await.0, ["die"]);
}

#[tokio::test]
async fn bug_14_a_connection_that_is_cut_after_a_while_is_made_anew_once_and_replays() {
    let whole = [chunks([START]), b"0\r\n\r\n".to_vec()].concat();
    for (first, reason) in [(whole, "ended"), (chunks([START, &DIE[..9]]), "were cut off")] {
        let scripted = ends_and_goes_on(Answer::Cut(first));
        let clock = ManualClock::new();
        let engine = scripted.engine().with_clock(Arc::new(clock.clone()));
        let mut events = engine.subscribe(None).await.unwrap();
        clock.advance(Duration::from_secs(30));
        assert_eq!(action(events.next().await), "start");
        assert_eq!(
            action(events.next().await),
            format!("the events {reason}; subscribed anew")
        );
        assert_eq!(action(events.next().await), "die");
    }
}

/// Its newest form alone is served without a version, and older ones are refused, as engines do from some version on.
#[tokio::test]
async fn bug_api_version_an_engine_that_refuses_older_paths_answers_every_call() {
    let scripted = ScriptedEngine::start(|target| {
        if target.starts_with("/v1.") {
            let message = "client version 1.41 is too old. Minimum supported API version is 1.44";
            return Answer::Proper(400, format!(r#"{{"message":"{message}"}}"#));
        }
        Answer::ok(match target.split('?').next().unwrap() {
            "/_ping" => "OK",
            "/containers/json" => r#"[{"Id":"c1","State":"running","Health":{"Status":"healthy"}}]"#,
            "/info" => r#"{"ID":"d1"}"#,
            "/version" => r#"{"Version":"29.0","ApiVersion":"1.52","MinAPIVersion":"1.44"}"#,
            "/containers/c1/json" => r#"{"State":{"Running":true}}"#,
            _ => "",
        })
    });
    let engine = scripted.engine();
    engine.ping().await.unwrap();
    assert_eq!(engine.daemon().await.unwrap().versions["api"], "1.52");
    let listing = engine.list(Scope::All).await.unwrap();
    assert_eq!(listing.containers[0].health, Some(Health::Healthy));
    engine.inspect("c1").await.unwrap().unwrap();
    engine.subscribe(None).await.unwrap();
}
