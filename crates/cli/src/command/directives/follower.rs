//! What a followed subject's file says, and when it has to be written.

use std::time::SystemTime;

use serde::Serialize;
use tidewatch_directives::{Attribute, InForce, Snapshot, Subject};

/// One subject, and what was said about it last.
pub(super) struct Follower<'a> {
    subject: Subject<'a>,
    request_id: &'a str,
    told: Option<String>,
}

#[derive(Serialize)]
struct Content {
    level: &'static str,
    flags: Vec<String>,
    directives: Vec<String>,
    /// When the first of them ends, for readers that want to know whether the file is still kept.
    expires_at: Option<String>,
}

impl<'a> Follower<'a> {
    /// Nothing was said yet.
    pub(super) fn new(subject: &'a [(Attribute, String)], request_id: &'a str) -> Self {
        let subject = subject
            .iter()
            .fold(Subject::new(), |subject, (attribute, value)| {
                subject.with(*attribute, value)
            });
        Self {
            subject,
            request_id,
            told: None,
        }
    }

    /// What the file has to say now, if that differs from before.
    pub(super) fn changed(&self, snapshot: &Snapshot) -> Option<String> {
        let effective = snapshot.effective(&self.subject, self.request_id);
        let applies = |id: &str| effective.directives.iter().any(|applying| applying == id);
        let ends = snapshot
            .live()
            .filter(|live| applies(live.directive().id()))
            .map(InForce::expires_at);
        let content = Content {
            level: effective.level.as_str(),
            expires_at: ends.min().map(text),
            flags: effective.flags.clone(),
            directives: effective.directives.clone(),
        };
        // Texts always have a JSON form.
        let mut content = serde_json::to_string(&content).ok()?;
        content.push('\n');
        (self.told.as_ref() != Some(&content)).then_some(content)
    }

    /// Notes what the file says.
    pub(super) fn tell(&mut self, content: String) {
        self.told = Some(content);
    }
}

fn text(time: SystemTime) -> String {
    humantime::format_rfc3339(time).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tidewatch_core::ManualClock;
    use tidewatch_directives::{DirectiveStore as _, MemoryDirectiveStore};

    use super::*;

    #[test]
    fn a_file_is_written_when_its_subject_is_concerned_and_when_a_life_ends() {
        let clock = ManualClock::new();
        let store = MemoryDirectiveStore::new(Arc::new(clock.clone()));
        let subject = [(Attribute::Component, "billing".to_owned())];
        let mut follower = Follower::new(&subject, "");
        let mut next = || {
            let content = follower.changed(&store.load())?;
            follower.tell(content.clone());
            Some(content)
        };
        let off = "{\"level\":\"off\",\"flags\":[],\"directives\":[],\"expires_at\":null}\n";
        assert_eq!(next().unwrap(), off);
        assert_eq!(next(), None);

        let other =
            br#"{"directives":[{"id":"a","level":"debug","match":{"component":"http"},"ttl_secs":9}]}"#;
        store.publish(other).unwrap();
        assert_eq!(next(), None, "it is not about this subject");

        let billing = br#"{"directives":[
            {"id":"a","level":"debug","match":{"component":"billing"},"flags":["dump"],"ttl_secs":4},
            {"id":"b","level":"info","ttl_secs":9}]}"#;
        store.publish(billing).unwrap();
        assert_eq!(
            next().unwrap(),
            "{\"level\":\"debug\",\"flags\":[\"dump\"],\"directives\":[\"a\",\"b\"],\"expires_at\":\"2026-01-01T00:00:04Z\"}\n"
        );
        clock.advance(Duration::from_secs(4));
        assert_eq!(
            next().unwrap(),
            "{\"level\":\"info\",\"flags\":[],\"directives\":[\"b\"],\"expires_at\":\"2026-01-01T00:00:09Z\"}\n"
        );
        clock.advance(Duration::from_secs(5));
        assert_eq!(next().unwrap(), off);
    }
}
