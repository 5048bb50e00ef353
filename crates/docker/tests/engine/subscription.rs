//! A subscription, and connections that end under it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tidewatch_core::ManualClock;
use tidewatch_docker::engine::Deadlines;
use tidewatch_docker::{DockerEvents, ListError};

use crate::scripted::heard::{DIE, START, action, actions, ends_and_goes_on};
use crate::scripted::{Answer, CHUNKED, ScriptedEngine, chunks};

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_after_what_came_before() {
    let (seen, _) = actions(Answer::Cut(chunks([START, &DIE[..30]]))).await;
    assert_eq!(seen, ["start", "docker cannot be reached"]);
}

#[tokio::test]
async fn a_connection_in_which_nothing_comes_for_long_is_made_anew_without_an_end() {
    let scripted = ends_and_goes_on(Answer::Stall(chunks([START])));
    let clock = ManualClock::new();
    let engine = scripted.engine().with_clock(Arc::new(clock.clone()));
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
async fn a_subscription_that_cannot_be_made_anew_ends_with_the_reason() {
    let scripted = ScriptedEngine::always(Answer::Cut(chunks([START])));
    let clock = ManualClock::new();
    let engine = scripted.engine().with_clock(Arc::new(clock.clone()));
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
    let events = scripted.engine().subscribe(None).await.unwrap();
    drop(events);
    scripted.connection_ended().await;
}
