//! What a stream of watches delivers, as a text that is equal where the deliveries are.
//!
//! Events are free to come in as many messages as a server likes, and watches of one stream in any order among each
//! other; what each watch is told, in its order, is compared. That nothing more comes is known by a sentinel: a watch on
//! the same stream and a write that it sees, which come after all that was written before.

use std::collections::BTreeMap;
use std::time::Duration;

use tidewatch_proto::etcdserverpb as pb;
use tidewatch_proto::etcdserverpb::watch_request::RequestUnion;
use tidewatch_proto::mvccpb::event::EventType;

use crate::scenario::{Ask, Call, Watch, put, watch};
use crate::stubs::Stubs;

/// How long to wait for something that must come: longer than the shortest lease takes to expire on a busy machine.
const CEILING: Duration = Duration::from_secs(60);

/// How the text ends where something did not come.
pub(crate) const IN_VAIN: &str = "waited in vain for";

/// The sentinel's key, and the id of its watch, which nothing else uses.
pub(crate) const SENTINEL: &str = "sentinel";
const SENTINEL_ID: i64 = 1 << 40;

/// One stream of watches, through some client.
pub(crate) trait Wire {
    async fn ask(&mut self, request: RequestUnion) -> Result<(), String>;
    async fn message(&mut self) -> Result<Option<pb::WatchResponse>, String>;
}

/// The first watch of a stream.
pub(crate) fn sentinel() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        watch_id: SENTINEL_ID,
        ..watch(SENTINEL, "", 0)
    }
}

/// Carries out what is to happen on a stream whose first request was [`sentinel`], and tells what it delivered.
pub(crate) async fn observe(wire: impl Wire, stubs: &Stubs, watch: &Watch) -> String {
    let mut stream = Observed {
        wire,
        meanwhile: String::new(),
        told: BTreeMap::new(),
        created: 0,
        items: 0,
        canceled: 0,
        progress: 0,
        sentinels: 0,
    };
    let outcome = stream.run(stubs, watch).await;
    let mut text = std::mem::take(&mut stream.meanwhile);
    for (id, items) in &stream.told {
        text.extend([format!("watch {id}:\n")]);
        for item in items {
            text.extend([format!("  {item}\n")]);
        }
    }
    if let Err(why) = outcome {
        text += &why;
    }
    text
}

struct Observed<W> {
    wire: W,
    /// The answers to what was done meanwhile.
    meanwhile: String,
    told: BTreeMap<i64, Vec<String>>,
    created: usize,
    items: usize,
    canceled: usize,
    progress: usize,
    sentinels: usize,
}

impl<W: Wire> Observed<W> {
    async fn run(&mut self, stubs: &Stubs, watch: &Watch) -> Result<(), String> {
        self.until("the sentinel's watch", |it| it.created == 1).await?;
        for (index, create) in watch.creates.iter().enumerate() {
            self.wire.ask(RequestUnion::CreateRequest(create.clone())).await?;
            self.until("a watch", |it| it.created == index + 2).await?;
        }
        for call in &watch.then {
            self.meanwhile.extend([format!("{}\n", stubs.call(call).await)]);
        }
        self.until("the events", |it| it.items >= watch.items).await?;
        stubs.call(&Call::Put(put(SENTINEL, ""))).await;
        self.until("the sentinel", |it| it.sentinels == 1).await?;
        for ask in &watch.after {
            match *ask {
                Ask::Progress => {
                    let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    self.wire.ask(request).await?;
                    let before = self.progress;
                    self.until("progress", |it| it.progress > before).await?;
                }
                Ask::Cancel(watch_id) => {
                    let request = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id });
                    self.wire.ask(request).await?;
                    let before = self.canceled;
                    self.until("the end of a watch", |it| it.canceled > before)
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) -> Result<(), String> {
        while !holds(self) {
            let message = tokio::time::timeout(CEILING, self.wire.message()).await;
            let message = message.map_err(|_| format!("{IN_VAIN} {what}"))??;
            self.take(message.ok_or_else(|| format!("the stream ended before {what}"))?);
        }
        Ok(())
    }

    fn take(&mut self, message: pb::WatchResponse) {
        let revision = message.header.map_or(0, |header| header.revision);
        let id = message.watch_id;
        let is_report = !message.created && !message.canceled && message.events.is_empty();
        let mut tell = |item: String| {
            if id != SENTINEL_ID {
                self.told.entry(id).or_default().push(item);
            }
        };
        if message.created {
            tell(format!("created at {revision}"));
            self.created += 1;
        }
        if message.canceled {
            let pb::WatchResponse {
                compact_revision,
                cancel_reason,
                ..
            } = &message;
            tell(format!(
                "canceled at {revision}, compacted {compact_revision}: {cancel_reason:?}"
            ));
            self.canceled += 1;
            self.items += 1;
        }
        if is_report {
            tell(format!("progress to {revision}"));
            self.progress += 1;
        }
        for event in message.events {
            let Some(kv) = event.kv else {
                tell("an event without a key".into());
                continue;
            };
            if kv.key == SENTINEL.as_bytes() {
                self.sentinels += usize::from(id == SENTINEL_ID);
                continue;
            }
            let kind = EventType::try_from(event.r#type);
            // A large value tells as much by its length.
            let value = if kv.value.len() > 100 {
                format!("{} bytes", kv.value.len())
            } else {
                format!("{:?}", kv.value)
            };
            let prev = event.prev_kv.map(|prev| {
                (
                    prev.key,
                    prev.value,
                    prev.create_revision,
                    prev.mod_revision,
                    prev.version,
                    prev.lease,
                )
            });
            tell(format!(
                "{kind:?} {:?} = {value}, created {}, modified {}, version {}, lease {}, before {prev:?}",
                kv.key, kv.create_revision, kv.mod_revision, kv.version, kv.lease
            ));
            self.items += 1;
        }
    }
}
