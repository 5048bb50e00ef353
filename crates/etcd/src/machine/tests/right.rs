//! Rights that change while a watch lives.

use super::*;

#[test]
fn the_right_to_read_all_of_it_is_checked_again_and_again() {
    for version in [
        Version::new(3, 4, 23),
        Version::new(3, 5, 1),
        Version::new(3, 5, 21),
    ] {
        refuse_when_all_is_read(version);
    }
}

fn refuse_when_all_is_read(version: Version) {
    let mut rig = Rig::live_on(everything(), Some(version), 10, &[]);
    let begun = rig.now();
    loop {
        if rig.wants_check() {
            // The role may still allow the first key.
            if rig.take_check().range == everything().range {
                break;
            }
            rig.step(Input::Checked(Ok(checked(10, None))));
        }
        if rig.did(&Action::AskProgress) {
            rig.step(Input::Message(events(10, vec![])));
        }
        rig.advance(Duration::from_millis(100));
        assert!(
            rig.now() <= begun + RECHECK_INTERVAL + PROBE_INTERVAL,
            "{version:?}"
        );
    }
    rig.step(Input::Checked(Err(failure(FailureKind::Denied))));
    assert!(
        matches!(rig.machine.phase(), Phase::Interrupted { error, .. } if error.kind == FailureKind::Denied)
    );
    assert!(rig.did(&Action::HangUp));
    rig.take_dials();
    rig.advance(just_before(SLOW_PAUSE));
    assert_eq!(rig.dials(), 0);
    rig.advance(SLOW_PAUSE);
    assert!(rig.dials() > 0);
}

#[test]
fn a_refusal_in_the_stream_is_a_failure_and_an_expired_token_is_mended_by_a_new_connection() {
    for (reason, slow) in [
        (
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
            true,
        ),
        ("etcdserver: invalid auth token", false),
        ("", false),
    ] {
        let mut rig = Rig::dialed(everything());
        rig.take_list();
        rig.step(Input::Listed(Ok(page(10, &[], false))));
        rig.take_open();
        rig.step(Input::Message(Message {
            header: header(10),
            created: true,
            canceled: true,
            reason: reason.to_owned(),
            ..Message::default()
        }));
        rig.take_dials();
        rig.advance(FIRST_PAUSE);
        assert_eq!(rig.dials() == 0, slow, "{reason:?}");
    }
}
