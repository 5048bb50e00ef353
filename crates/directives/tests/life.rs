//! A life is never longer than it was published: whatever is read again, started again, or set back.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidewatch_core::{Clock, KeyspaceId, ManualClock, Revision};
use tidewatch_directives::{Applier, Connection, Level, Origin, Outcome, Reason, Subject};

const FOUR_SECONDS: &[u8] = br#"{"directives":[{"id":"a","level":"debug","ttl_secs":4}]}"#;
const UNTIL_FOUR: &[u8] =
    br#"{"directives":[{"id":"a","level":"debug","expires_at":"2026-01-01T00:00:04Z"}]}"#;

fn at(revision: u64) -> Origin {
    Origin {
        keyspace: KeyspaceId(7),
        revision: Revision(revision),
    }
}

fn value(json: &'static [u8]) -> Bytes {
    Bytes::from_static(json)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn applier(clock: &ManualClock) -> Applier {
    Applier::new(Arc::new(clock.clone()))
}

fn restarted(clock: &ManualClock, file: &Path) -> Applier {
    applier(clock).with_last_good(file)
}

/// A machine with a place for what was last good.
fn machine() -> (ManualClock, TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let file = dir.path().join("last-good");
    (ManualClock::new(), dir, file)
}

/// A process that has a set in force, and has saved it.
async fn saved(clock: &ManualClock, file: &Path, json: &'static [u8]) -> Applier {
    let mut applier = restarted(clock, file);
    applier.apply(at(2), Some(value(json)));
    applier.save().await;
    applier
}

fn is_on(applier: &Applier) -> bool {
    applier.handle().load().level(&Subject::new(), "") == Level::Debug
}

/// Checks that the directive lives for the rest of its four seconds, `gone` of which have passed, and no longer.
fn assert_ends_in_time(clock: &ManualClock, applier: &Applier, gone: Duration) {
    assert!(is_on(applier));
    clock.advance(secs(4).saturating_sub(gone + Duration::from_millis(1)));
    assert!(is_on(applier));
    clock.advance(Duration::from_millis(1));
    assert!(!is_on(applier));
}

#[test]
fn a_life_ends_at_its_moment() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let clock = ManualClock::new();
        let mut applier = applier(&clock);
        applier.apply(at(2), Some(value(json)));
        assert_ends_in_time(&clock, &applier, Duration::ZERO);
    }
}

#[test]
fn reading_it_again_begins_no_other_life() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let clock = ManualClock::new();
        let mut applier = applier(&clock);
        applier.apply(at(2), Some(value(json)));
        clock.advance(secs(3));
        applier.interrupted("the connection was lost");
        assert_eq!(applier.apply(at(2), Some(value(json))), Outcome::Unchanged);
        assert_ends_in_time(&clock, &applier, secs(3));
        applier.apply(at(2), Some(value(json)));
        assert!(!is_on(&applier));
    }
}

#[test]
fn a_source_that_goes_back_and_forth_begins_no_other_life() {
    let clock = ManualClock::new();
    let mut applier = applier(&clock);
    for second in 0..4 {
        applier.apply(at(2), Some(value(FOUR_SECONDS)));
        assert!(is_on(&applier), "after {second} s");
        applier.apply(at(3), None);
        assert!(!is_on(&applier));
        clock.advance(secs(1));
    }
    applier.apply(at(2), Some(value(FOUR_SECONDS)));
    assert!(!is_on(&applier));
}

#[test]
fn a_wall_clock_that_is_set_back_makes_no_life_longer() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let clock = ManualClock::new();
        let mut applier = applier(&clock);
        applier.apply(at(2), Some(value(json)));
        clock.advance(secs(1));
        clock.set_system_time(clock.system_time() - secs(3600));
        assert_ends_in_time(&clock, &applier, secs(1));
    }
}

#[test]
fn a_wall_clock_that_is_set_forward_ends_a_life_for_good() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let clock = ManualClock::new();
        let mut applier = applier(&clock);
        applier.apply(at(2), Some(value(json)));
        let before = clock.system_time();
        clock.set_system_time(before + secs(4));
        assert!(!is_on(&applier));
        clock.set_system_time(before);
        assert!(!is_on(&applier));
    }
}

#[test]
fn another_directive_of_the_set_may_change_without_a_second_life_for_this_one() {
    let clock = ManualClock::new();
    let mut applier = applier(&clock);
    applier.apply(at(2), Some(value(UNTIL_FOUR)));
    clock.advance(secs(1));
    clock.set_system_time(clock.system_time() - secs(3600));
    let with_another = br#"{"directives":[
        {"id":"b","level":"info","expires_at":"2026-01-01T00:00:09Z"},
        {"id":"a","level":"debug","expires_at":"2026-01-01T00:00:04Z"}]}"#;
    assert_eq!(applier.apply(at(3), Some(value(with_another))), Outcome::Applied);
    assert_ends_in_time(&clock, &applier, secs(1));
}

#[test]
fn a_directive_that_is_published_again_with_a_later_end_lives_until_then() {
    let clock = ManualClock::new();
    let mut applier = applier(&clock);
    applier.apply(at(2), Some(value(UNTIL_FOUR)));
    clock.advance(secs(3));
    let later = br#"{"directives":[{"id":"a","level":"debug","expires_at":"2026-01-01T00:00:07Z"}]}"#;
    applier.apply(at(3), Some(value(later)));
    assert_ends_in_time(&clock, &applier, Duration::ZERO);
}

fn elsewhere(revision: u64) -> Origin {
    Origin {
        keyspace: KeyspaceId(8),
        ..at(revision)
    }
}

#[tokio::test]
async fn the_same_publish_in_a_restored_keyspace_goes_on_with_its_life() {
    let (clock, _dir, file) = machine();
    let mut first = restarted(&clock, &file);
    first.apply(at(2), Some(value(FOUR_SECONDS)));
    first.apply(at(3), None);
    clock.advance(secs(1));
    first.apply(elsewhere(2), Some(value(FOUR_SECONDS)));
    let status = first.handle().status();
    assert_eq!(status.serving, Some(elsewhere(2)), "it tells where it is from");
    first.save().await;
    clock.advance(secs(1));
    // And from there into the next one, by a file.
    let mut second = restarted(&clock, &file);
    second.apply(at(2), Some(value(FOUR_SECONDS)));
    assert_ends_in_time(&clock, &second, secs(2));
}

#[tokio::test]
async fn another_keyspace_that_begins_in_the_same_way_is_not_born_dead() {
    let (clock, _dir, file) = machine();
    drop(saved(&clock, &file, FOUR_SECONDS).await);
    clock.advance(secs(86_400));
    let mut second = restarted(&clock, &file);
    assert!(!is_on(&second));
    second.apply(elsewhere(2), Some(value(FOUR_SECONDS)));
    assert_ends_in_time(&clock, &second, Duration::ZERO);
    second.apply(at(2), Some(value(FOUR_SECONDS)));
    assert!(!is_on(&second), "where it was seen it has no second life");
}

#[test]
fn something_else_at_the_same_revision_of_another_keyspace_has_a_life_of_its_own() {
    let clock = ManualClock::new();
    let mut applier = applier(&clock);
    applier.apply(at(2), Some(value(FOUR_SECONDS)));
    clock.advance(secs(3));
    let other = br#"{"directives":[{"id":"a","level":"debug", "ttl_secs":4}]}"#;
    applier.apply(elsewhere(2), Some(value(other)));
    assert_ends_in_time(&clock, &applier, Duration::ZERO);
}

#[tokio::test]
async fn a_restart_begins_no_other_life() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let (clock, _dir, file) = machine();
        let first = saved(&clock, &file, json).await;
        clock.advance(secs(1));
        drop(first);
        clock.advance(secs(1));

        let mut second = restarted(&clock, &file);
        let snapshot = second.handle().load();
        assert!(snapshot.is_stale() && is_on(&second));
        let status = second.handle().status();
        assert_eq!(
            (status.connection, status.age),
            (Connection::Connecting, Some(secs(2)))
        );
        assert_eq!((status.stale, status.serving), (true, Some(at(2))));
        clock.advance(secs(1));
        assert_eq!(second.apply(at(2), Some(value(json))), Outcome::Applied);
        assert!(!second.handle().load().is_stale());
        assert_ends_in_time(&clock, &second, secs(3));
    }
}

#[tokio::test]
async fn a_wall_clock_set_back_while_the_process_was_gone_makes_no_life_longer() {
    for json in [FOUR_SECONDS, UNTIL_FOUR] {
        let (clock, _dir, file) = machine();
        drop(saved(&clock, &file, json).await);
        clock.advance(secs(3));
        clock.set_system_time(clock.system_time() - secs(2));
        assert_ends_in_time(&clock, &restarted(&clock, &file), secs(3));
    }
}

#[tokio::test]
async fn after_a_start_of_the_machine_the_wall_clock_tells_and_one_that_went_back_ends_all() {
    let (clock, _dir, file) = machine();
    drop(saved(&clock, &file, FOUR_SECONDS).await);

    // A clock of its own is a machine that was started again.
    let rebooted = ManualClock::new();
    rebooted.set_system_time(clock.system_time() + secs(3));
    assert_ends_in_time(&rebooted, &restarted(&rebooted, &file), secs(3));

    let set_back = ManualClock::new();
    set_back.set_system_time(clock.system_time() - secs(1));
    let restarted = restarted(&set_back, &file);
    assert!(!is_on(&restarted));
    set_back.advance(Duration::from_nanos(1));
    assert_eq!(restarted.handle().status().age, None, "nobody can tell");
    assert!(format!("{restarted:?}").contains("Connecting"));
}

#[tokio::test]
async fn a_key_deleted_while_the_process_was_gone_empties_the_set() {
    let (clock, _dir, file) = machine();
    drop(saved(&clock, &file, FOUR_SECONDS).await);
    let mut second = restarted(&clock, &file);
    assert!(is_on(&second));
    second.apply(at(9), None);
    assert!(!is_on(&second));
    second.save().await;
    // And so it stays.
    let third = restarted(&clock, &file);
    assert!(!is_on(&third) && third.handle().load().is_stale());
    assert_eq!(third.handle().load().origin(), Some(at(9)));
}

#[tokio::test]
async fn a_malformed_set_changes_nothing_and_is_reported() {
    let (clock, _dir, file) = machine();
    let mut applier = saved(&clock, &file, FOUR_SECONDS).await;
    let outcome = applier.apply(at(3), Some(value(br#"{"directives":[{"id":5}]}"#)));
    let Outcome::Rejected(rejection) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(rejection.reason(), Reason::WrongType);
    applier.save().await;
    let status = applier.handle().status();
    assert_eq!(status.serving, Some(at(2)));
    assert_eq!(status.rejected.unwrap().origin, at(3));
    assert!(is_on(&applier));
    drop(applier);

    // Also when it is the first thing a process sees.
    let mut restarted = restarted(&clock, &file);
    restarted.apply(at(3), Some(value(br#"{"directives":[{"id":5}]}"#)));
    assert!(is_on(&restarted) && restarted.handle().load().is_stale());
    restarted.apply(at(4), Some(value(br#"{"directives":[]}"#)));
    assert_eq!(restarted.handle().status().rejected, None);
    assert!(!is_on(&restarted));
}

#[tokio::test]
async fn a_damaged_file_is_reported_and_ignored_and_replaced() {
    let (clock, _dir, file) = machine();
    let mut first = restarted(&clock, &file);
    assert!(
        first.handle().status().file_problem.is_none(),
        "no file is no problem"
    );
    first.apply(at(2), Some(value(FOUR_SECONDS)));
    first.save().await;
    let good = std::fs::read(&file).unwrap();
    let mut cases: Vec<Vec<u8>> = (0..good.len()).map(|len| good[..len].to_vec()).collect();
    cases.extend((0..good.len()).map(|at| {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        damaged
    }));
    cases.push(vec![b' '; 2 * 1024 * 1024]);
    for damaged in cases {
        std::fs::write(&file, &damaged).unwrap();
        let second = restarted(&clock, &file);
        let problem = second.handle().status().file_problem.unwrap();
        assert!(
            problem.starts_with("ignored the last good directives in "),
            "{problem}"
        );
        assert!(!second.has_set() && !is_on(&second));
    }
    let mut third = restarted(&clock, &file);
    third.apply(at(2), Some(value(FOUR_SECONDS)));
    third.save().await;
    assert!(third.handle().status().file_problem.is_none());
    assert!(is_on(&restarted(&clock, &file)));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_reported_and_stops_nothing() {
    let clock = ManualClock::new();
    let dir = tempfile::tempdir().unwrap();
    let mut applier = restarted(&clock, &dir.path().join("missing").join("last-good"));
    applier.apply(at(2), Some(value(FOUR_SECONDS)));
    applier.save().await;
    let problem = applier.handle().status().file_problem.unwrap();
    assert!(
        problem.starts_with("failed to write the last good directives to "),
        "{problem}"
    );
    assert!(is_on(&applier));
}

/// A runtime whose one thread for slow work is kept busy, as by a disk that hangs, until the sender is dropped.
fn with_a_hanging_disk() -> (tokio::runtime::Runtime, std::sync::mpsc::Sender<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .expect("a runtime can be made");
    let (release, hang) = std::sync::mpsc::channel::<()>();
    runtime.spawn_blocking(move || hang.recv().expect_err("nothing is sent"));
    (runtime, release)
}

#[test]
fn a_disk_that_hangs_delays_a_start_for_as_long_as_it_may_and_no_longer() {
    let (clock, _dir, file) = machine();
    let (runtime, release) = with_a_hanging_disk();
    runtime.block_on(async {
        let mut first = restarted(&clock, &file);
        first.apply(at(2), Some(value(FOUR_SECONDS)));
        let mut starting = pin!(applier(&clock).with_last_good_within(&file, secs(2)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(starting.as_mut().poll(&mut cx).is_pending());
        clock.advance(secs(2));
        let Poll::Ready(mut started) = starting.as_mut().poll(&mut cx) else {
            panic!("it waits for the disk");
        };
        let problem = started.handle().status().file_problem.unwrap();
        assert!(problem.ends_with("it was not read within 2s"), "{problem}");
        assert!(!started.has_set());
        // What comes while one value is being written is written once, the newest.
        started.apply(at(2), Some(value(FOUR_SECONDS)));
        assert!(started.poll_save(&mut cx).is_pending());
        for revision in 3..9 {
            started.apply(at(revision), Some(value(FOUR_SECONDS)));
            assert!(started.poll_save(&mut cx).is_pending());
        }
        drop(release);
        started.save().await;
        let again = applier(&clock).with_last_good_within(&file, secs(2)).await;
        assert_eq!(again.handle().status().serving, Some(at(8)));
    });
}

/// Counts what is said in the log.
#[derive(Default)]
struct Warnings(AtomicUsize);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn a_malformed_set_is_said_in_the_log_once() {
    let warnings = Arc::new(Warnings::default());
    let count = || warnings.0.load(Ordering::Relaxed);
    tracing::subscriber::with_default(warnings.clone(), || {
        let mut applier = applier(&ManualClock::new());
        applier.apply(at(2), Some(value(FOUR_SECONDS)));
        assert_eq!(count(), 0);
        for (revision, warned) in [(3, 1), (3, 1), (4, 2)] {
            applier.apply(at(revision), Some(value(b"{}")));
            assert_eq!(count(), warned);
        }
    });
}
