//! What programs in any language can check themselves by: `vectors/*.json`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidewatch_core::{Clock, KeyspaceId, ManualClock, Revision};
use tidewatch_directives::sample::bucket;
use tidewatch_directives::{Applier, Attribute, DirectiveSet, Origin, Outcome, Subject};

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name);
    let json = std::fs::read(path).expect("the vectors lie beside the tests");
    serde_json::from_slice(&json).expect("the vectors are JSON")
}

fn cases<'a>(file: &'a Value, key: &str) -> &'a [Value] {
    let cases = file[key].as_array().expect("the cases are a list");
    assert!(!cases.is_empty(), "{key}");
    cases
}

fn text(value: &Value) -> &str {
    value.as_str().expect("the field is a text")
}

#[test]
fn the_bucket_of_a_request_is_the_one_of_the_vectors() {
    for case in cases(&vectors("sampling.json"), "cases") {
        let id = text(&case["request_id"]);
        assert_eq!(u64::from(bucket(id.as_bytes())), case["bucket"], "{id:?}");
    }
}

#[test]
fn what_applies_is_what_the_vectors_say() {
    for case in cases(&vectors("matching.json"), "cases") {
        let clock = ManualClock::new();
        let mut applier = Applier::new(Arc::new(clock.clone()));
        let origin = Origin {
            keyspace: KeyspaceId(1),
            revision: Revision(2),
        };
        let outcome = applier.apply(origin, Some(case["set"].to_string().into()));
        assert_eq!(outcome, Outcome::Applied, "{}", case["name"]);
        clock.advance(Duration::from_secs(case["seconds_later"].as_u64().unwrap()));
        let snapshot = applier.handle().load();
        for ask in case["ask"].as_array().unwrap() {
            let mut subject = Subject::new();
            for (name, value) in ask["subject"].as_object().unwrap() {
                subject = subject.with(name.parse::<Attribute>().unwrap(), text(value));
            }
            let id = text(&ask["request_id"]);
            let effective = snapshot.effective(&subject, id);
            assert_eq!(effective.level.as_str(), ask["level"], "{}: {ask}", case["name"]);
            assert_eq!(snapshot.level(&subject, id), effective.level);
            let lists = serde_json::json!([effective.flags, effective.directives]);
            assert_eq!(lists[0], ask["flags"], "{}: {ask}", case["name"]);
            assert_eq!(lists[1], ask["directives"], "{}: {ask}", case["name"]);
            for flag in &effective.flags {
                assert!(snapshot.flag(&subject, id, flag));
            }
            assert!(!snapshot.flag(&subject, id, "no-such-flag"));
        }
        assert_eq!(snapshot.live().count() > 0, snapshot.next_end().is_some());
        assert!(clock.system_time() >= ManualClock::new().system_time());
    }
}

#[test]
fn a_set_is_accepted_or_rejected_as_the_vectors_say() {
    let file = vectors("decoding.json");
    for case in cases(&file, "accepted") {
        let set = DirectiveSet::decode(text(&case["json"]).as_bytes());
        let set = set.unwrap_or_else(|rejection| panic!("{}: {rejection}", case["name"]));
        assert_eq!(
            DirectiveSet::decode(&set.encode()).unwrap(),
            set,
            "{}",
            case["name"]
        );
    }
    for case in cases(&file, "rejected") {
        let rejection = DirectiveSet::decode(text(&case["json"]).as_bytes()).unwrap_err();
        let found = (rejection.reason().slug(), rejection.path());
        assert_eq!(
            found,
            (text(&case["reason"]), text(&case["path"])),
            "{}",
            case["name"]
        );
    }
}
