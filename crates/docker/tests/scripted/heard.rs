//! Events on the wire, and what is heard of them.

use std::sync::Mutex;

use futures_util::StreamExt;
use tidewatch_docker::{DockerEvent, DockerEvents, ListError};

use super::{Answer, ScriptedEngine, chunks};

pub(crate) const START: &str =
    "{\"Type\":\"container\",\"Action\":\"start\",\"Actor\":{\"ID\":\"c1\"},\"time\":7}\n";
pub(crate) const DIE: &str = "{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{\"ID\":\"c1\"}}\n";

/// What happened, in a word; the reason of a doubt.
pub(crate) fn action(event: Option<Result<DockerEvent, ListError>>) -> String {
    match event.unwrap().unwrap() {
        DockerEvent::Container { action, .. } => action,
        DockerEvent::Doubt { reason } => reason,
    }
}

/// What is heard of an answer, to its end, and how many doubts there were.
pub(crate) async fn actions(answer: Answer) -> (Vec<String>, u64) {
    let scripted = ScriptedEngine::always(answer);
    let mut events = scripted.engine().subscribe(None).await.unwrap();
    let mut seen = Vec::new();
    while let Some(event) = events.next().await {
        seen.push(match event {
            Ok(DockerEvent::Container { action, .. }) => action,
            Ok(DockerEvent::Doubt { .. }) => "doubt".to_owned(),
            Err(error) => error.to_string().chars().take(24).collect(),
        });
    }
    assert!(events.next().await.is_none(), "it ends once");
    (seen, events.doubts())
}

/// An engine whose first answer is this one, and whose second stays open after a `die`.
pub(crate) fn ends_and_goes_on(first: Answer) -> ScriptedEngine {
    let answers = Mutex::new(vec![Answer::Stall(chunks([DIE])), first]);
    ScriptedEngine::start(move |_| answers.lock().unwrap().pop().unwrap())
}
