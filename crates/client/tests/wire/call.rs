//! Calls whose connections break, and what the caller may conclude.

use std::sync::Arc;
use std::time::Duration;

use crate::fake::{Server, soon};
use tidewatch_client::{CALL_ATTEMPTS, Client, Error, ErrorKind, KeyRange, Revision};
use tidewatch_core::txn::{RangeRequest, Txn};
use tidewatch_core::{Clock, Error as KeyspaceError, LeaseId, ManualClock};
use tokio::net::TcpSocket;

fn read() -> RangeRequest {
    RangeRequest::new(KeyRange::all())
}

/// A port where nobody listens for as long as this is there.
struct Nobody(TcpSocket);

impl Nobody {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self(socket)
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

#[tokio::test]
async fn a_read_whose_connection_breaks_is_made_again() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    server.break_calls(2);
    let (_, answer) = soon("an answer", keyspace.range(read())).await.unwrap();
    assert_eq!((answer.count, server.calls()), (3, 3));
    // A lease that is kept alive twice is no different from one that is kept alive once.
    server.break_calls(1);
    soon("an answer", keyspace.lease_keep_alive(LeaseId(1)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_read_is_not_made_again_for_ever() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    server.break_calls(1000);
    let error = soon("a failure", keyspace.range(read())).await.unwrap_err();
    assert!(matches!(error, KeyspaceError::Unavailable(_)));
    assert_eq!(server.calls(), CALL_ATTEMPTS as usize);
}

#[tokio::test]
async fn a_write_whose_connection_breaks_is_not_made_again_and_its_outcome_is_unknown() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    server.break_calls(1);
    let error = soon("a failure", keyspace.put("/a", "v")).await.unwrap_err();
    assert!(matches!(error, KeyspaceError::OutcomeUnknown(_)), "{error:?}");
    assert_eq!(server.calls(), 1);
    // A transaction that only reads is a read.
    server.break_calls(1);
    let reads = Txn::new().and_then(tidewatch_core::txn::Op::Range(read()));
    soon("an answer", keyspace.txn(reads)).await.unwrap();
}

#[tokio::test]
async fn a_write_that_was_never_sent_goes_to_another_server() {
    let server = Server::start().await;
    let nobody = Nobody::new();
    let client = Client::builder(nobody.endpoint()).endpoint(&server.endpoint);
    let keyspace = client.connect_lazy().await.unwrap().keyspace();
    assert_eq!(
        soon("an answer", keyspace.put("/a", "v")).await.unwrap(),
        Revision(5)
    );
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_call_that_reaches_nobody_had_no_effect_and_says_so() {
    let nobody = Nobody::new();
    let endpoint = nobody.endpoint();
    let lazy = Client::builder(&endpoint).connect_lazy().await.unwrap();
    let error = soon("a failure", lazy.keyspace().put("/a", "v"))
        .await
        .unwrap_err();
    assert!(matches!(error, KeyspaceError::Unavailable(_)));
    assert_eq!(ErrorKind::from(&error), ErrorKind::Unreachable);
    let error = soon("a failure", lazy.workloads()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }));

    let error = soon("a failure", Client::builder(&endpoint).connect())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.to_string(), format!("cannot reach {endpoint}"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("onnection refused"), "{cause}");
}

#[tokio::test]
async fn an_answer_that_is_late_is_no_answer() {
    let server = Server::start().await;
    let clock = ManualClock::new();
    let timeout = Duration::from_secs(3);
    let client = Client::builder(&server.endpoint)
        .request_timeout(timeout)
        .clock(Arc::new(clock.clone()))
        .connect()
        .await
        .unwrap();
    let keyspace = client.keyspace();
    soon("an answer", keyspace.get("/a")).await.unwrap();
    server.swallow();
    let pass_time = || async {
        while clock.next_deadline().is_none() {
            tokio::task::yield_now().await;
        }
        clock.advance(timeout);
    };
    let (write, ()) = tokio::join!(soon("a failure", keyspace.put("/a", "v")), pass_time());
    assert!(
        matches!(write, Err(KeyspaceError::OutcomeUnknown(_))),
        "{write:?}"
    );
    let (read, ()) = tokio::join!(soon("a failure", keyspace.get("/a")), pass_time());
    assert!(matches!(read, Err(KeyspaceError::Unavailable(_))), "{read:?}");
}

#[tokio::test]
async fn a_lease_is_kept_alive_elsewhere_when_a_server_takes_longer_than_a_ping_may() {
    let (first, second) = (Server::start().await, Server::start().await);
    let clock = ManualClock::new();
    let client = Client::builder(&first.endpoint)
        .endpoint(&second.endpoint)
        .dead_after(Duration::from_secs(4))
        .clock(Arc::new(clock.clone()))
        .connect()
        .await
        .unwrap();
    let keyspace = client.keyspace();
    // Its connection is as good as ever, so that no ping finds out.
    first.hang_calls(1);
    let (began, ping, pause) = (clock.now(), Duration::from_secs(2), Duration::from_millis(100));
    let pass_time = async {
        while first.calls() == 0 {
            tokio::task::yield_now().await;
        }
        while second.calls() == 0 {
            let next = clock.next_deadline();
            if let Some(next) = next.filter(|next| *next <= began + ping + pause) {
                clock.advance(next - clock.now());
            }
            tokio::task::yield_now().await;
        }
    };
    let (kept, ()) = tokio::join!(
        soon("an answer", keyspace.lease_keep_alive(LeaseId(1))),
        pass_time
    );
    kept.unwrap();
    assert!(clock.now() >= began + ping);
    // It stays there; and what is no keep-alive may take its time.
    second.hang_calls(1);
    let began = clock.now();
    let arrived = async {
        while second.calls() < 2 {
            tokio::task::yield_now().await;
        }
        clock.next_deadline()
    };
    tokio::select! {
        _ = keyspace.get("/a") => panic!("it was not answered"),
        deadline = soon("the call", arrived) => assert_eq!(deadline, Some(began + Duration::from_secs(30))),
    }
}

#[tokio::test]
async fn a_server_is_not_taken_for_dead_faster_than_a_machine_can_be_busy() {
    let quick = Client::builder("127.0.0.1:7480").dead_after(Duration::from_millis(499));
    let error = quick.connect_lazy().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.to_string().contains("at least 500"), "{error}");
}

#[tokio::test]
async fn the_errors_of_the_keyspace_come_through_as_they_are() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    let error = soon("a failure", keyspace.compact(Revision(3)))
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        KeyspaceError::Compacted {
            requested: Revision(3),
            oldest: Revision(4)
        }
    ));
    let error = soon("a failure", keyspace.lease_revoke(LeaseId(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, KeyspaceError::Unsupported { .. }));
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_is_no_success() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    let error = soon("a failure", keyspace.lease_list()).await.unwrap_err();
    assert!(matches!(error, KeyspaceError::Unsupported { .. }), "{error:?}");
    let granted = keyspace.lease_grant(None, Duration::from_secs(10));
    let error = soon("a failure", granted).await.unwrap_err();
    assert!(matches!(error, KeyspaceError::OutcomeUnknown(_)), "{error:?}");
}

#[tokio::test]
async fn a_transaction_that_is_not_allowed_is_not_sent() {
    let server = Server::start().await;
    let keyspace = server.client().await.keyspace();
    assert!(matches!(
        keyspace.put("", "v").await,
        Err(KeyspaceError::InvalidKey { .. })
    ));
    let nested = (0..40).fold(Txn::new(), |txn, _| {
        Txn::new().and_then(tidewatch_core::txn::Op::Txn(txn))
    });
    assert!(matches!(
        keyspace.txn(nested).await,
        Err(KeyspaceError::InvalidArgument {
            what: "transaction",
            ..
        })
    ));
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_token_is_shown_with_every_call() {
    let server = Server::start().await;
    let path = std::env::temp_dir().join(format!("tidewatch-token-{}", std::process::id()));
    std::fs::write(&path, "tw_1_secret\n").unwrap();
    let client = Client::builder(&server.endpoint)
        .token_file(&path)
        .connect()
        .await
        .unwrap();
    soon("an answer", client.keyspace().get("/a")).await.unwrap();
    assert_eq!(server.authorization().as_deref(), Some("Bearer tw_1_secret"));
    assert!(!format!("{client:?}").contains("secret"));
    std::fs::remove_file(&path).unwrap();

    let anonymous = server.client().await;
    soon("an answer", anonymous.keyspace().get("/a")).await.unwrap();
    assert_eq!(server.authorization(), None);
}

#[tokio::test]
async fn a_setting_that_can_never_work_is_told_with_a_way_out() {
    for (endpoint, expected) in [
        (
            "https://tw:7480",
            "invalid endpoint: \"https://tw:7480\" needs TLS",
        ),
        (
            "ftp://tw",
            "invalid endpoint: \"ftp://tw\" has an unknown scheme; write it like",
        ),
        (
            "http://tw/path",
            "invalid endpoint: \"http://tw/path\" has a path",
        ),
        ("http://", "invalid endpoint"),
        ("", "invalid endpoint"),
        ("http://a b", "invalid endpoint: \"http://a b\" is no URL"),
    ] {
        let error = Client::builder(endpoint).connect_lazy().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        assert!(error.to_string().starts_with(expected), "{endpoint}: {error}");
    }
    let missing = Client::builder("127.0.0.1:7480").token_file("/nowhere/token");
    let error = missing.connect_lazy().await.unwrap_err();
    assert!(
        error.to_string().contains("cannot read /nowhere/token"),
        "{error}"
    );
    for token in ["", " \n", "two words", "ü"] {
        let error = Client::builder("127.0.0.1:7480")
            .token(token)
            .connect_lazy()
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
    }
    assert!(Client::builder("127.0.0.1:7480").connect_lazy().await.is_ok());
}
