//! One question, one answer, or a reason why there is none.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidewatch_core::ManualClock;
use tidewatch_docker::engine::{Deadlines, Engine};
use tidewatch_docker::{DockerEvents, DockerInspect, DockerLister, ListError, Listing, Scope};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scripted::{Answer, ScriptedEngine, chunks};

async fn list(answer: Answer) -> Result<Listing, ListError> {
    let scripted = ScriptedEngine::always(answer);
    scripted.engine().list(Scope::All).await
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
async fn of_an_error_that_does_not_end_only_so_much_is_read() {
    let endless = || Answer::Endless(b"HTTP/1.1 502 Bad Gateway\r\n\r\n".to_vec());
    let scripted = ScriptedEngine::always(endless());
    let error = scripted.engine().subscribe(None).await.map(drop).unwrap_err();
    assert!(matches!(error, ListError::Refused { status: 502, .. }), "{error}");
    let error = list(endless()).await.unwrap_err();
    assert!(matches!(error, ListError::Refused { status: 502, .. }), "{error}");
}

#[tokio::test]
async fn a_list_of_no_ids_asks_nobody() {
    let scripted = ScriptedEngine::always(Answer::ok("[]"));
    let listing = scripted.engine().list(Scope::Ids(&[])).await.unwrap();
    assert_eq!(listing, Listing::default());
    assert!(scripted.requests().is_empty());
}

#[tokio::test]
async fn a_daemon_is_asked_for_its_versions_and_its_id_at_once() {
    let mut scripted = ScriptedEngine::always(Answer::Stall(Vec::new()));
    let engine = scripted.engine();
    let asked = tokio::spawn(async move { engine.daemon().await });
    scripted.request_arrived().await;
    // Though the first is not answered.
    scripted.request_arrived().await;
    let mut requests = scripted.requests();
    requests.sort();
    assert_eq!(requests, ["GET /info HTTP/1.1", "GET /version HTTP/1.1"]);
    asked.abort();
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
    let engine = scripted.engine();
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
    assert_eq!(scripted.engine().inspect("a").await.unwrap(), None);
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
    let engine = scripted.engine();
    malformed(engine.daemon().await);
    malformed(engine.inspect("a").await);
}

#[tokio::test]
async fn a_list_that_never_ends_is_given_up_at_its_bound() {
    for head in [b"HTTP/1.1 200 OK\r\n\r\n[".as_slice(), b"HTTP/1.1 200 OK\r\nX: "] {
        let scripted = ScriptedEngine::always(Answer::Endless(head.to_vec()));
        let engine = scripted.engine();
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
    let engine = scripted.engine().with_clock(Arc::new(clock.clone()));
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
