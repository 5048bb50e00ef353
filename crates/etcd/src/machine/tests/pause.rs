//! Time limits, pauses and the choice of the next member.

use super::*;

#[test]
fn every_wait_has_an_end() {
    type Wait = (&'static str, Duration, fn() -> Rig);
    let limits: &[Wait] = &[
        ("connection", DIAL_TIMEOUT, || Rig::started(everything(), 1, 0)),
        ("page", PAGE_TIMEOUT, || Rig::dialed(everything())),
        ("watch", ANSWER_TIMEOUT, || {
            let mut rig = Rig::dialed(everything());
            rig.step(Input::Listed(Ok(page(10, &[], false))));
            rig
        }),
    ];
    for (what, limit, at) in limits {
        let mut rig = at();
        rig.advance(just_before(*limit));
        assert!(
            matches!(rig.machine.phase(), Phase::Connecting { attempts: 0, .. }),
            "{what}"
        );
        rig.advance(Duration::from_millis(1));
        assert!(
            matches!(rig.machine.phase(), Phase::Connecting { attempts: 1, .. }),
            "{what}"
        );
    }
}

#[test]
fn pauses_grow_and_start_small_again_after_a_stable_time() {
    let mut rig = Rig::live(everything(), 10, &[]);
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        longest = longest.max(rig.fail_once());
    }
    assert!(longest > FIRST_PAUSE && longest <= MAX_PAUSE, "{longest:?}");
    rig.go_live(10, &[]);
    let end = rig.now() + STABLE_AFTER;
    while rig.now() < end {
        rig.answer_probe(10);
        rig.advance(Duration::from_millis(100));
    }
    assert!(rig.fail_once() <= FIRST_PAUSE);
}

#[test]
fn two_hundred_who_lost_one_member_come_back_spread_out() {
    // A hundredth of a second never sees more than a few of them, and half of the span sees about half.
    let mut at = Vec::new();
    for seed in 0..200 {
        let mut rig = Rig::live_with(one_key(), 1, seed, 10, &[]);
        at.push(rig.fail_once());
    }
    let within = |from: u64, to: u64| {
        at.iter()
            .filter(|pause| (from..to).contains(&u64::try_from(pause.as_millis()).unwrap()))
            .count()
    };
    for from in (0..500).step_by(10) {
        assert!(
            within(from, from + 10) <= 15,
            "{} at {from} ms",
            within(from, from + 10)
        );
    }
    assert!((70..=130).contains(&within(0, 250)));
}

#[test]
fn the_next_attempt_is_made_with_the_next_member() {
    let mut rig = Rig::started(everything(), 3, 1);
    let mut tried = rig.take_dials();
    for _ in 0..5 {
        rig.step(Input::Dialed(Err(failure(FailureKind::Unreachable))));
        rig.advance(MAX_PAUSE);
        tried.extend(rig.take_dials());
    }
    let first = tried[0];
    assert!(tried.len() >= 6);
    let in_turn: Vec<_> = (0..tried.len()).map(|n| (first + n) % 3).collect();
    assert_eq!(tried, in_turn);
}

#[test]
fn one_member_that_is_set_up_wrongly_slows_nobody_down() {
    let mut rig = Rig::started(everything(), 3, 1);
    for (kind, is_slow) in [
        (FailureKind::Unreachable, false),
        (FailureKind::Unreachable, false),
        (FailureKind::Tls, false),
        (FailureKind::Tls, false),
        // Now it is all of them.
        (FailureKind::Tls, true),
    ] {
        rig.step(Input::Dialed(Err(failure(kind))));
        let pause = rig.machine.deadline().unwrap() - rig.now();
        assert_eq!(pause >= SLOW_PAUSE, is_slow, "{pause:?}");
        rig.advance(pause);
    }
}

#[test]
fn the_first_member_differs_from_one_to_the_other() {
    let first = |seed| Rig::started(everything(), 3, seed).take_dials()[0];
    let seen: std::collections::BTreeSet<_> = (0..50).map(first).collect();
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_machine_that_was_stopped_does_nothing_more() {
    let mut rig = Rig::live(everything(), 10, &[]);
    rig.step(Input::Stop);
    assert_eq!(*rig.machine.phase(), Phase::Stopped);
    assert_eq!(rig.machine.deadline(), None);
    rig.take_dials();
    rig.step(Input::Message(events(11, vec![put("/a", 11)])));
    rig.advance(Duration::from_secs(3600));
    assert!(rig.delivered_revisions().is_empty());
    assert_eq!(rig.dials(), 0);
}
