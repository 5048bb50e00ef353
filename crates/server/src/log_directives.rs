//! Directives for what a program of ours logs: which of it is wanted although the program was not told
//! to say that much.
//!
//! The library decides, the program filters: a subscriber is process-wide, so it is the program that
//! installs one, and asks here for each event that it would otherwise leave out.

use std::fmt;
use std::sync::{Arc, OnceLock};

use tidewatch_directives::{Handle, Level, Subject};
use tracing::field::{Field, Visit};

/// Asked by a program's log filter, told by its server or agent. Clones are one.
///
/// Until it is [attached](Self::attach), nothing is wanted.
#[derive(Clone, Debug, Default)]
pub struct LogDirectives {
    store: Arc<OnceLock<Handle>>,
}

impl LogDirectives {
    /// Wants nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the directives of this store say what is wanted. The first store counts.
    pub fn attach(&self, store: Handle) {
        let _ = self.store.set(store);
    }

    /// Whether events of this target can be wanted at all; what others than ours log cannot.
    pub fn concern(target: &str) -> bool {
        component(target).is_some()
    }

    /// Whether there is a directive that may want events of this target and level. Cheap, and asked
    /// before an event is looked at.
    pub fn may_want(&self, target: &str, level: tracing::Level) -> bool {
        let Some(store) = self.store.get() else {
            return false;
        };
        Self::concern(target)
            && store
                .load()
                .live()
                .any(|live| live.directive().level() >= level_of(level))
    }

    /// Whether a directive wants an event of this target and level that is about `about`.
    pub fn want(&self, target: &str, level: tracing::Level, about: &LogSubject) -> bool {
        let (Some(store), Some(component)) = (self.store.get(), component(target)) else {
            return false;
        };
        let mut subject = Subject::new().component(about.component.as_deref().unwrap_or(component));
        if let Some(host) = &about.host {
            subject = subject.host(host);
        }
        if let Some(workload) = &about.workload {
            subject = subject.workload(workload);
        }
        if let Some(role) = &about.role {
            subject = subject.role(role);
        }
        store
            .load()
            .level(&subject, about.request_id.as_deref().unwrap_or_default())
            >= level_of(level)
    }
}

/// What an event is about: those of its fields, and of the spans around it, that directives know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSubject {
    component: Option<String>,
    host: Option<String>,
    workload: Option<String>,
    role: Option<String>,
    request_id: Option<String>,
}

impl LogSubject {
    /// Takes from a span around what is not known yet.
    pub fn or(&mut self, around: &Self) {
        let fill = |own: &mut Option<String>, other: &Option<String>| {
            if own.is_none() {
                own.clone_from(other);
            }
        };
        fill(&mut self.component, &around.component);
        fill(&mut self.host, &around.host);
        fill(&mut self.workload, &around.workload);
        fill(&mut self.role, &around.role);
        fill(&mut self.request_id, &around.request_id);
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<String>> {
        Some(match name {
            "component" => &mut self.component,
            "host" => &mut self.host,
            "workload" => &mut self.workload,
            "role" => &mut self.role,
            "request_id" => &mut self.request_id,
            _ => return None,
        })
    }
}

impl Visit for LogSubject {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(own) = self.field(field.name()) {
            *own = Some(value.to_owned());
        }
    }

    /// Also what is recorded with `%`.
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(own) = self.field(field.name()) {
            *own = Some(format!("{value:?}"));
        }
    }
}

fn level_of(level: tracing::Level) -> Level {
    match level {
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

/// The part of a program that logs to a target. None: none of ours.
fn component(target: &str) -> Option<&str> {
    let mut path = target.strip_prefix("tidewatch")?.split("::");
    let package = path.next()?.trim_start_matches('_');
    if path.clone().any(|module| module == "watch") {
        return Some("watch");
    }
    match package {
        "docker" => Some("reconciler"),
        "server" => Some(path.next().unwrap_or("server")),
        "" => Some("cli"),
        package => Some(package),
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_core::SystemClock;
    use tidewatch_directives::{DirectiveStore as _, MemoryDirectiveStore};
    use tracing::Level as At;

    use super::*;

    #[test]
    fn targets_are_parts_of_the_program() {
        for (target, part) in [
            ("tidewatch_docker::run", Some("reconciler")),
            ("tidewatch_core::watch::dispatcher", Some("watch")),
            ("tidewatch_server::grpc::watch", Some("watch")),
            ("tidewatch_server::http::track", Some("http")),
            ("tidewatch_server", Some("server")),
            ("tidewatch_sqlite::worker", Some("sqlite")),
            ("tidewatch::trace", Some("cli")),
            ("h2::codec", None),
            ("hyper", None),
        ] {
            assert_eq!(component(target), part, "{target}");
        }
    }

    #[test]
    fn what_is_wanted_is_what_a_directive_matches_and_no_more() {
        let store = MemoryDirectiveStore::new(SystemClock::shared());
        let log = LogDirectives::new();
        let of = |host: &str| LogSubject {
            host: Some(host.to_owned()),
            ..LogSubject::default()
        };
        let target = "tidewatch_docker::reconciler";
        assert!(!log.may_want(target, At::DEBUG), "nothing is attached");
        log.attach(store.handle().clone());
        assert!(!log.may_want(target, At::DEBUG), "nothing is published");
        let set = br#"{"directives":[
            {"id":"a","level":"debug","match":{"component":"reconciler","host":"h1"},"ttl_secs":60}]}"#;
        store.publish(set).unwrap();
        assert!(log.may_want(target, At::DEBUG) && !log.may_want(target, At::TRACE));
        assert!(!log.may_want("h2", At::DEBUG));
        assert!(log.want(target, At::DEBUG, &of("h1")));
        assert!(!log.want(target, At::TRACE, &of("h1")));
        assert!(!log.want(target, At::DEBUG, &of("h2")));
        assert!(!log.want(target, At::DEBUG, &LogSubject::default()));
        assert!(!log.want("tidewatch_server::http", At::DEBUG, &of("h1")));
        let mut inner = LogSubject::default();
        inner.or(&of("h1"));
        assert!(
            log.want(target, At::DEBUG, &inner),
            "the span around it says on which host"
        );
        store.clear();
        assert!(!log.want(target, At::DEBUG, &of("h1")));
    }
}
