//! The adapter against engines that misbehave.

use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use proptest::prelude::*;
use tidewatch_core::ManualClock;
use tidewatch_fleet::State;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::scripted::{Answer, CHUNKED, ScriptedEngine, chunks};
use super::*;
use crate::event::DockerEvent;

fn engine_at(scripted: &ScriptedEngine) -> Engine {
    Engine::at(scripted.socket().to_str().unwrap()).unwrap()
}

async fn list(answer: Answer) -> Result<Listing, ListError> {
    let scripted = ScriptedEngine::always(answer);
    engine_at(&scripted).list(Scope::All).await
}

fn is_unreachable<T>(result: &Result<T, ListError>) -> bool {
    matches!(result, Err(ListError::Unreachable { .. }))
}

fn malformed<T: fmt::Debug>(result: Result<T, ListError>) -> String {
    match result {
        Err(ListError::Malformed { reason }) => reason,
        other => panic!("not malformed: {other:?}"),
    }
}

#[tokio::test]
async fn it_asks_with_get_on_five_paths_without_a_version_and_never_for_sizes() {
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
    let engine = engine_at(&scripted);
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
async fn a_list_of_no_ids_asks_nobody() {
    let scripted = ScriptedEngine::always(Answer::ok("[]"));
    let listing = engine_at(&scripted).list(Scope::Ids(&[])).await.unwrap();
    assert_eq!(listing, Listing::default());
    assert!(scripted.requests().is_empty());
}

#[tokio::test]
async fn a_word_that_is_newer_than_this_code_costs_one_container_its_state() {
    let body = r#"[{"Id":"a","State":"hibernating"},{"Id":"b","State":"running"},{"State":"running"}]"#;
    let listing = list(Answer::ok(body)).await.unwrap();
    let states: Vec<_> = listing
        .containers
        .iter()
        .map(|container| container.state)
        .collect();
    assert_eq!(states, [State::Unknown, State::Running]);
    assert_eq!(listing.undecodable, 1);
}

#[tokio::test]
async fn an_error_of_dockers_is_told_in_its_words() {
    let error = list(Answer::Proper(
        500,
        r#"{"message":"the disk is gone"}"#.to_owned(),
    ))
    .await
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "docker answered with status 500: the disk is gone"
    );
    let page = format!("<html>\n{}</html>", "bad gateway ".repeat(100));
    let error = list(Answer::Proper(502, page)).await.unwrap_err().to_string();
    assert!(
        error.starts_with("docker answered with status 502: <html> bad gateway"),
        "{error}"
    );
    assert!(error.len() < 400, "{error}");
}

#[tokio::test]
async fn an_error_is_the_same_from_every_call() {
    let scripted = ScriptedEngine::always(Answer::Proper(503, r#"{"message":"later"}"#.to_owned()));
    let engine = engine_at(&scripted);
    for error in [
        engine.ping().await.unwrap_err(),
        engine.daemon().await.unwrap_err(),
        engine.inspect("a").await.unwrap_err(),
        engine.list(Scope::All).await.unwrap_err(),
        engine.subscribe(None).await.unwrap_err(),
    ] {
        assert!(matches!(error, ListError::Refused { status: 503, .. }), "{error}");
    }
}

#[tokio::test]
async fn a_container_that_is_not_there_has_no_facts_and_is_no_error() {
    let scripted = ScriptedEngine::always(Answer::Proper(
        404,
        r#"{"message":"No such container"}"#.to_owned(),
    ));
    assert_eq!(engine_at(&scripted).inspect("a").await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_that_is_cut_is_no_list() {
    let whole = r#"[{"Id":"a"}]"#;
    for cut in [
        Vec::new(),
        b"HTTP/1.1 200 OK\r\nContent-Le".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n[]".to_vec(),
        chunks([&whole[..5]]),
        // All of it came, but not the word that it is all.
        chunks([whole]),
    ] {
        let text = String::from_utf8_lossy(&cut).into_owned();
        let result = list(Answer::Cut(cut)).await;
        assert!(is_unreachable(&result), "{text}: {result:?}");
    }
}

#[tokio::test]
async fn nonsense_is_called_nonsense() {
    malformed(list(Answer::Cut(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())).await);
    malformed(list(Answer::ok("OK")).await);
    let scripted = ScriptedEngine::always(Answer::ok("nonsense"));
    let engine = engine_at(&scripted);
    malformed(engine.daemon().await);
    malformed(engine.inspect("a").await);
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up_at_its_bound() {
    for head in [b"HTTP/1.1 200 OK\r\n\r\n[".as_slice(), b"HTTP/1.1 200 OK\r\nX: "] {
        let scripted = ScriptedEngine::always(Answer::Endless(head.to_vec()));
        let engine = engine_at(&scripted);
        for result in [
            engine.ping().await,
            engine.inspect("a").await.map(drop),
            engine.list(Scope::All).await.map(drop),
        ] {
            malformed(result);
        }
    }
}

#[tokio::test]
async fn where_nobody_listens_the_error_says_where_that_is() {
    let scripted = ScriptedEngine::always(Answer::ok("[]"));
    let nowhere = scripted.socket().with_file_name("none.sock");
    let engine = Engine::at(nowhere.to_str().unwrap()).unwrap();
    for error in [
        engine.list(Scope::All).await.map(drop).unwrap_err(),
        engine.ping().await.unwrap_err(),
        engine.subscribe(None).await.map(drop).unwrap_err(),
    ] {
        let text = error.to_string();
        assert!(text.starts_with("docker cannot be reached at unix:///"), "{text}");
        assert!(text.ends_with("none.sock"), "{text}");
    }
}

/// Runs a call against an engine that stalls, and moves the clock past the deadline once the request is there.
async fn after_its_deadline<T: Send + 'static>(
    stall: &[u8],
    after: Duration,
    call: impl AsyncFnOnce(Engine) -> Result<T, ListError>,
) -> (Duration, ScriptedEngine) {
    let mut scripted = ScriptedEngine::always(Answer::Stall(stall.to_vec()));
    let clock = ManualClock::new();
    let engine = engine_at(&scripted).with_clock(Arc::new(clock.clone()));
    let call = call(engine);
    tokio::pin!(call);
    tokio::select! {
        _ = &mut call => panic!("nobody has answered"),
        () = scripted.request_arrived() => {}
    }
    let nearly = after.saturating_sub(Duration::from_millis(1));
    clock.advance(nearly);
    assert!(futures_util::poll!(&mut call).is_pending());
    clock.advance(Duration::from_millis(1));
    match call.await {
        Err(ListError::Timeout { after }) => (after, scripted),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("nobody has answered"),
    }
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline_and_takes_its_connection_along() {
    let Deadlines { ping, call, list, .. } = Deadlines::default();
    let mid_body = chunks([r#"[{"Id":"a"},"#]);
    for stall in [b"".as_slice(), &mid_body] {
        let (after, mut scripted) =
            after_its_deadline(stall, list, async |engine| engine.list(Scope::All).await).await;
        assert_eq!(after, list);
        scripted.connection_ended().await;
        let (after, mut scripted) = after_its_deadline(stall, ping, async |engine| engine.ping().await).await;
        assert_eq!(after, ping);
        scripted.connection_ended().await;
        let (after, mut scripted) =
            after_its_deadline(stall, call, async |engine| engine.inspect("a").await).await;
        assert_eq!(after, call);
        scripted.connection_ended().await;
    }
    let (after, mut scripted) =
        after_its_deadline(b"", call, async |engine| engine.subscribe(None).await).await;
    assert_eq!(after, call);
    scripted.connection_ended().await;
}

#[tokio::test]
async fn an_engine_behind_tcp_and_a_base_path_is_asked_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
            .await
            .unwrap();
        String::from_utf8(head).unwrap()
    });
    let engine = Engine::at(&format!("tcp://127.0.0.1:{port}/docker")).unwrap();
    assert_eq!(engine.list(Scope::All).await.unwrap(), Listing::default());
    let head = served.await.unwrap();
    assert!(
        head.starts_with("GET /docker/containers/json?all=1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{head}");
}

#[tokio::test]
async fn a_daemon_that_came_back_with_another_socket_is_found() {
    let scripted = ScriptedEngine::always(Answer::ok("[]"));
    let engine = engine_at(&scripted);
    engine.list(Scope::All).await.unwrap();
    let socket = scripted.socket().to_owned();
    std::fs::remove_file(&socket).unwrap();
    assert!(is_unreachable(&engine.list(Scope::All).await));
    let again = ScriptedEngine::always(Answer::ok(r#"[{"Id":"a"}]"#));
    std::os::unix::fs::symlink(again.socket(), &socket).unwrap();
    assert_eq!(engine.list(Scope::All).await.unwrap().containers.len(), 1);
}

const START: &str = "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"c1\"},\"time\":7}\n";
const DIE: &str = "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"c1\"}}\n";

/// What happened, in a word; the reason of a doubt.
fn action(event: Option<Result<DockerEvent, ListError>>) -> String {
    match event.unwrap().unwrap() {
        DockerEvent::Container { action, .. } => action,
        DockerEvent::Doubt { reason } => reason,
    }
}

async fn actions(answer: Answer) -> (Vec<String>, u64) {
    let scripted = ScriptedEngine::always(answer);
    let mut events = engine_at(&scripted).subscribe(None).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(match event {
            Ok(DockerEvent::Container { action, .. }) => action,
            Ok(DockerEvent::Doubt { .. }) => "doubt".to_owned(),
            Err(error) => error.to_string().chars().take(24).collect(),
        });
    }
    assert!(events.next().await.is_none(), "it ends once");
    (seen, events.doubts())
}

#[tokio::test]
async fn a_malformed_event_is_counted_and_told_and_the_next_is_read() {
    let (start, cut) = START.split_at(20);
    let mut answer = chunks([start, cut, "{\"Type\":\n", "\u{1}\n", DIE]);
    answer.extend(b"0\r\n\r\n");
    let (seen, doubts) = actions(Answer::Cut(answer)).await;
    assert_eq!(seen, ["start", "doubt", "doubt", "die"]);
    assert_eq!(doubts, 2);
}

#[tokio::test]
async fn an_event_of_an_unknown_type_ends_nothing() {
    let unknown = "{\"Type\":\"wormhole\",\"Action\":\"open\"}\n";
    let mut answer = chunks([unknown, DIE]);
    answer.extend(b"0\r\n\r\n");
    assert_eq!(actions(Answer::Cut(answer)).await.0, ["die"]);
}

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_after_what_came_before() {
    let (seen, _) = actions(Answer::Cut(chunks([START, &DIE[..30]]))).await;
    assert_eq!(seen, ["start", "docker cannot be reached"]);
}

/// An engine whose first answer is this one, and whose second stays open after a `die`.
fn ends_and_goes_on(first: Answer) -> ScriptedEngine {
    let answers = Mutex::new(vec![Answer::Stall(chunks([DIE])), first]);
    ScriptedEngine::start(move |_| answers.lock().unwrap().pop().unwrap())
}

#[tokio::test]
async fn a_connection_in_which_nothing_comes_for_long_is_made_anew_without_an_end() {
    let scripted = ends_and_goes_on(Answer::Stall(chunks([START])));
    let clock = ManualClock::new();
    let engine = engine_at(&scripted).with_clock(Arc::new(clock.clone()));
    let idle = Deadlines::default().idle;
    let mut events = engine.subscribe(None).await.unwrap();
    clock.advance(idle / 2);
    assert_eq!(action(events.next().await), "start");
    // It was heard of in between, so that the time counts anew.
    clock.advance(idle / 2);
    assert!(futures_util::poll!(events.next()).is_pending());
    clock.advance((idle / 2).saturating_sub(Duration::from_millis(1)));
    assert!(futures_util::poll!(events.next()).is_pending());
    clock.advance(Duration::from_millis(1));
    assert_eq!(
        action(events.next().await),
        "no event came for 540 s; subscribed anew"
    );
    assert_eq!(action(events.next().await), "die");
    // The last event was at the second 7 of the daemon's time.
    assert!(
        scripted.requests()[1].starts_with("GET /events?since=7&"),
        "{:?}",
        scripted.requests()
    );
}

#[tokio::test]
async fn a_connection_that_is_cut_after_a_while_is_made_anew_once_and_replays() {
    let whole = [chunks([START]), b"0\r\n\r\n".to_vec()].concat();
    for (first, reason) in [(whole, "ended"), (chunks([START, &DIE[..9]]), "were cut off")] {
        let scripted = ends_and_goes_on(Answer::Cut(first));
        let clock = ManualClock::new();
        let engine = engine_at(&scripted).with_clock(Arc::new(clock.clone()));
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

#[tokio::test]
async fn a_subscription_that_cannot_be_made_anew_ends_with_the_reason() {
    let scripted = ScriptedEngine::always(Answer::Cut(chunks([START])));
    let clock = ManualClock::new();
    let engine = engine_at(&scripted).with_clock(Arc::new(clock.clone()));
    let mut events = engine.subscribe(None).await.unwrap();
    clock.advance(Duration::from_secs(30));
    std::fs::remove_file(scripted.socket()).unwrap();
    assert_eq!(action(events.next().await), "start");
    let end = events.next().await.unwrap().unwrap_err();
    assert!(matches!(end, ListError::Unreachable { .. }), "{end}");
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn dropping_a_subscription_closes_its_connection() {
    let mut scripted = ScriptedEngine::always(Answer::Stall(CHUNKED.as_bytes().to_vec()));
    let events = engine_at(&scripted).subscribe(None).await.unwrap();
    drop(events);
    scripted.connection_ended().await;
}

/// An answer of a real engine in which some bytes are others.
fn spoilt(answer: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let at = 0..answer.len();
    proptest::collection::vec((at, any::<u8>()), 0..8).prop_map(move |changes| {
        let mut bytes = answer.as_bytes().to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn a_spoilt_answer_is_an_error_or_a_list_of_containers_that_have_ids(
        element in spoilt(include_str!("list_element.json")),
    ) {
        let body = [b"[".as_slice(), &element, b"]"].concat();
        if let Ok(listing) = list::decode(&body, Scope::All) {
            prop_assert!(listing.containers.len() + listing.undecodable >= 1);
            for container in listing.containers {
                prop_assert!(!container.id.is_empty() && !container.name.is_empty());
            }
        }
        let _ = inspect::decode(&element);
        let _ = daemon::decode_info(&element);
    }

    #[test]
    fn a_spoilt_event_is_about_a_container_or_a_doubt_or_nothing(line in spoilt(START)) {
        if let Some(DockerEvent::Container { id, .. }) = event::decode(&line) {
            prop_assert!(!id.is_empty());
        }
    }
}
