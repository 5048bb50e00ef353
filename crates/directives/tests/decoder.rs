//! The decoder's bounds, and what it does with anything at all.

use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use serde_json::json;
use tidewatch_directives::limits::{
    MAX_DIRECTIVES, MAX_FLAG_BYTES, MAX_FLAGS, MAX_ID_BYTES, MAX_MATCH_BYTES, MAX_SET_BYTES, MAX_TTL_SECS,
};
use tidewatch_directives::{Attribute, Directive, DirectiveSet, Level, Reason};

fn rejected(json: &str) -> (Reason, String) {
    let rejection = DirectiveSet::decode(json.as_bytes()).expect_err("the set is wrong");
    (rejection.reason(), rejection.path().to_owned())
}

fn one(field: &str, value: &serde_json::Value) -> String {
    let mut directive = json!({"id": "a", "level": "debug", "ttl_secs": 60});
    directive[field] = value.clone();
    json!({"directives": [directive]}).to_string()
}

#[test]
fn each_bound_lets_through_what_reaches_it_and_nothing_beyond() {
    let texts = |count: usize| (0..count).map(|n| format!("f{n}")).collect::<Vec<_>>();
    let x = |len: usize| "x".repeat(len);
    for (field, most, more, reason, path) in [
        (
            "id",
            json!(x(MAX_ID_BYTES)),
            json!(x(MAX_ID_BYTES + 1)),
            Reason::TooLong,
            "id",
        ),
        (
            "match",
            json!({"principal": x(MAX_MATCH_BYTES)}),
            json!({"principal": x(MAX_MATCH_BYTES + 1)}),
            Reason::TooLong,
            "match.principal",
        ),
        (
            "flags",
            json!(texts(MAX_FLAGS)),
            json!(texts(MAX_FLAGS + 1)),
            Reason::TooManyFlags,
            "flags",
        ),
        (
            "flags",
            json!([x(MAX_FLAG_BYTES)]),
            json!([x(MAX_FLAG_BYTES + 1)]),
            Reason::TooLong,
            "flags[0]",
        ),
        (
            "ttl_secs",
            json!(MAX_TTL_SECS),
            json!(MAX_TTL_SECS + 1),
            Reason::BadTtl,
            "ttl_secs",
        ),
        (
            "sample_per_mille",
            json!(1000),
            json!(1001),
            Reason::BadSampleRate,
            "sample_per_mille",
        ),
    ] {
        DirectiveSet::decode(one(field, &most).as_bytes()).unwrap();
        assert_eq!(
            rejected(&one(field, &more)),
            (reason, format!("directives[0].{path}"))
        );
    }
}

#[test]
fn the_bounds_of_a_set_are_those_of_its_bytes_and_of_its_number() {
    let many = |count: usize| {
        let directives: Vec<_> = (0..count)
            .map(|n| json!({"id": n.to_string(), "level": "off", "ttl_secs": 1}))
            .collect();
        json!({"directives": directives}).to_string()
    };
    assert_eq!(
        DirectiveSet::decode(many(MAX_DIRECTIVES).as_bytes())
            .unwrap()
            .len(),
        MAX_DIRECTIVES
    );
    let more = rejected(&many(MAX_DIRECTIVES + 1));
    assert_eq!(more, (Reason::TooManyDirectives, "directives".to_owned()));

    let padded = |len: usize| {
        let set = r#"{"directives":[]}"#;
        format!("{set}{}", " ".repeat(len - set.len()))
    };
    DirectiveSet::decode(padded(MAX_SET_BYTES).as_bytes()).unwrap();
    assert_eq!(
        rejected(&padded(MAX_SET_BYTES + 1)),
        (Reason::TooLarge, "$".to_owned())
    );
}

#[test]
fn what_is_nested_deeper_than_anyone_writes_is_no_json() {
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    assert_eq!(rejected(&deep).0, Reason::InvalidJson);
}

#[test]
fn a_rejection_never_repeats_a_value() {
    let secret = "s3cr3t-value";
    for json in [
        format!(r#"{{"directives":[{{"id":"a","level":"{secret}","ttl_secs":1}}]}}"#),
        format!(r#"{{"directives":"{secret}"}}"#),
        format!(r#""{secret}"#),
        format!(r#"{{"directives":[{{"id":"{secret}","level":"off"}}]}}"#),
        format!(r#"{{"directives":[{{"id":"a","level":"off","expires_at":"{secret}"}}]}}"#),
        format!(
            r#"{{"directives":[{{"id":"a","level":"off","ttl_secs":1,"match":{{"host":["{secret}"]}}}}]}}"#
        ),
    ] {
        let rejection = DirectiveSet::decode(json.as_bytes()).unwrap_err();
        assert!(!rejection.to_string().contains(secret), "{rejection}");
        assert!(!format!("{rejection:?}").contains(secret));
    }
}

#[test]
fn every_reason_has_a_word_of_its_own() {
    for reason in Reason::ALL {
        assert_eq!(Reason::from_slug(reason.slug()), Some(reason));
        assert!(!reason.explanation().is_empty());
    }
    assert_eq!(Reason::from_slug("no_such_reason"), None);
}

#[test]
fn a_stamped_set_says_until_when() {
    let json = br#"{"directives":[{"id":"a","level":"debug","ttl_secs":60},
        {"id":"b","level":"info","expires_at":"2026-01-01T00:00:00Z"}]}"#;
    let mut set = DirectiveSet::decode(json).unwrap();
    assert!(set.needs_stamp());
    set.stamp(UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    assert!(!set.needs_stamp());
    assert_eq!(
        set.encode(),
        r#"{"directives":[{"id":"a","level":"debug","expires_at":"2026-01-01T00:01:00Z"},{"id":"b","level":"info","expires_at":"2026-01-01T00:00:00Z"}]}"#
    );
    set.retain_live(UNIX_EPOCH + Duration::from_secs(1_767_225_600));
    assert_eq!(set.len(), 1);
}

/// A piece of JSON that looks like a set, with something wrong in many of its places.
fn nearly_a_set() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("5".to_owned()),
        Just("-1".to_owned()),
        Just("1.5".to_owned()),
        Just("1e99".to_owned()),
        Just("true".to_owned()),
        Just("[]".to_owned()),
        Just("{}".to_owned()),
        Just("\"\"".to_owned()),
        Just("\"debug\"".to_owned()),
        Just("\"2026-11-21T03:12:00.5+01:00\"".to_owned()),
        Just("[\"a\",\"b\"]".to_owned()),
        Just("{\"host\":\"h1\"}".to_owned()),
        Just("{\"host\":5}".to_owned()),
        (0..2000_u64).prop_map(|number| number.to_string()),
        "[ -~é]{0,12}".prop_map(|text| json!(text).to_string()),
    ];
    let key = prop_oneof![
        8 => prop::sample::select(vec![
            "id", "level", "match", "flags", "sample_per_mille", "ttl_secs", "expires_at",
        ]).prop_map(str::to_owned),
        1 => "[a-z]{0,5}",
    ];
    let field = (key, value).prop_map(|(key, value)| format!("{}:{value}", json!(key)));
    let directive = prop::collection::vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(",")));
    let directives = prop::collection::vec(directive, 0..4);
    directives.prop_map(|directives| format!(r#"{{"directives":[{}]}}"#, directives.join(",")))
}

/// A set that is right.
fn good_set() -> impl Strategy<Value = String> {
    let matches = prop::collection::btree_map(
        prop::sample::select(Attribute::ALL.map(Attribute::as_str).to_vec()),
        "[ -~é\u{0}\n]{1,20}",
        0..5,
    );
    let life = prop_oneof![
        (1..=MAX_TTL_SECS).prop_map(|secs| ("ttl_secs", json!(secs))),
        (0..253_402_300_799_u64, 0..1_000_000_000_u32).prop_map(|(secs, nanos)| {
            let time = UNIX_EPOCH + Duration::new(secs, nanos);
            ("expires_at", json!(humantime::format_rfc3339(time).to_string()))
        }),
    ];
    let directive = (
        "[ -~é\u{0}]{1,20}",
        prop::sample::select(Level::ALL.map(Level::as_str).to_vec()),
        prop::option::of(matches),
        prop::option::of(prop::collection::btree_set("[ -~é]{1,10}", 0..5)),
        prop::option::of(0..=1000_u16),
        life,
    )
        .prop_map(|(id, level, matches, flags, rate, (name, life))| {
            let mut directive = json!({"id": id, "level": level});
            if let Some(matches) = matches {
                directive["match"] = json!(matches);
            }
            if let Some(flags) = flags {
                directive["flags"] = json!(flags);
            }
            if let Some(rate) = rate {
                directive["sample_per_mille"] = json!(rate);
            }
            directive[name] = life;
            (directive["id"].to_string(), directive)
        });
    prop::collection::vec(directive, 0..8).prop_map(|directives| {
        let unique: std::collections::BTreeMap<_, _> = directives.into_iter().collect();
        json!({"directives": unique.into_values().collect::<Vec<_>>()}).to_string()
    })
}

fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    // One directive is decoded by the same rules.
    let _ = Directive::decode(bytes);
    let Ok(set) = DirectiveSet::decode(bytes) else {
        return Ok(());
    };
    let encoded = set.encode();
    prop_assert!(encoded.len() <= MAX_SET_BYTES);
    let again =
        DirectiveSet::decode(&encoded).map_err(|rejection| TestCaseError::fail(rejection.to_string()))?;
    prop_assert_eq!(&again, &set);
    prop_assert_eq!(again.encode(), encoded);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_rejected_or_read_the_same_again(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes)?;
    }

    #[test]
    fn what_looks_like_a_set_is_rejected_or_reads_the_same_again(json in nearly_a_set()) {
        check(json.as_bytes())?;
    }

    #[test]
    fn a_good_set_is_accepted(json in good_set()) {
        prop_assert!(DirectiveSet::decode(json.as_bytes()).is_ok(), "{json}");
        check(json.as_bytes())?;
    }

    #[test]
    fn a_damaged_set_is_rejected_or_reads_the_same_again(
        json in good_set(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = json.into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        check(&bytes)?;
    }
}
