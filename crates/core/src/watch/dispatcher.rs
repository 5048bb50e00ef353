//! Handing committed events to those who watch.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, Waker};
use std::time::Instant;

use super::WatchRegistry;
use super::run::Entry;
use super::topic::Topic;
use crate::backend::BoxFuture;
use crate::event::Record;

/// Most records between two looks at whether others want to run.
const CHUNK: usize = 256;

/// Follows a history and puts each event where its watchers read it.
///
/// There is one for each registry. It reads the history at its own pace, so that nothing it is slow
/// for is lost: if it falls behind what the history keeps, watchers go on from the history itself,
/// which tells them what is compacted.
#[derive(Debug)]
pub struct WatchDispatcher {
    registry: Arc<WatchRegistry>,
    woken: Vec<Waker>,
    collected: Collected,
    /// Topics with patient watchers that are to be woken then. At most once each.
    due: BTreeMap<(Instant, u64), Arc<Topic>>,
    /// Tells topics apart that are due at the same moment.
    next_due: u64,
}

/// What is about to be published, by topic.
#[derive(Debug, Default)]
struct Collected {
    topics: Vec<Pending>,
    /// The places in `topics` that the record at hand has reached.
    touched: Vec<usize>,
}

#[derive(Debug)]
struct Pending {
    topic: Arc<Topic>,
    /// The indices of the events of the record at hand.
    matching: Vec<u32>,
    entries: Vec<(Entry, usize)>,
}

impl Collected {
    /// Notes that an event of the record at hand is for a topic.
    fn add(&mut self, topic: &Arc<Topic>, event: u32) {
        let mut at = topic.collected.load(Ordering::Relaxed);
        if self
            .topics
            .get(at)
            .is_none_or(|pending| !Arc::ptr_eq(&pending.topic, topic))
        {
            at = self.topics.len();
            topic.collected.store(at, Ordering::Relaxed);
            self.topics.push(Pending {
                topic: Arc::clone(topic),
                matching: Vec::new(),
                entries: Vec::new(),
            });
        }
        let matching = &mut self.topics[at].matching;
        if matching.is_empty() {
            self.touched.push(at);
        }
        if matching.last() != Some(&event) {
            matching.push(event);
        }
    }

    /// Notes that all events of a record were added.
    fn end_record(&mut self, record: &Arc<Record>) {
        let bytes = record.size();
        for at in self.touched.drain(..) {
            let Pending {
                matching, entries, ..
            } = &mut self.topics[at];
            entries.extend(Entry::new(record, matching).map(|entry| (entry, bytes)));
            matching.clear();
        }
    }
}

impl WatchDispatcher {
    /// The dispatcher of a registry.
    pub fn new(registry: Arc<WatchRegistry>) -> Self {
        Self {
            registry,
            woken: Vec::new(),
            collected: Collected::default(),
            due: BTreeMap::new(),
            next_due: 0,
        }
    }

    /// Hands on events until the registry is closed and everything committed before that has been
    /// handed on.
    ///
    /// # Cancel safety
    /// Dropping the future stops the work; another dispatcher of the same registry goes on with it.
    pub async fn run(mut self) {
        loop {
            self.wake_due();
            // Asked before the history is read: what was committed before the close is handed on.
            let closing = self.registry.is_closing();
            if self.dispatch_chunk() {
                yield_now().await;
            } else if closing {
                break;
            } else {
                self.wait().await;
            }
        }
        self.registry.finish(&mut self.woken);
        self.wake();
    }

    async fn wait(&self) {
        let mut appended = std::pin::pin!(self.registry.history().appended());
        let mut closed = std::pin::pin!(self.registry.closed.notified());
        let mut due = self.sleep_until_due();
        poll_fn(|cx| {
            let ready = appended.as_mut().poll(cx).is_ready()
                | closed.as_mut().poll(cx).is_ready()
                | due.as_mut().is_some_and(|due| due.as_mut().poll(cx).is_ready());
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn sleep_until_due(&self) -> Option<BoxFuture<'static, ()>> {
        let ((due, _), _) = self.due.first_key_value()?;
        Some(self.registry.clock().sleep_until(*due))
    }

    /// Wakes the patient watchers whose pause is over.
    fn wake_due(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = self.registry.clock().now();
        while let Some(first) = self.due.first_entry().filter(|first| first.key().0 <= now) {
            first.remove().wake_patient(now, &mut self.woken);
        }
        self.wake();
    }

    /// Hands on what follows what was handed on before. Returns whether there was anything.
    fn dispatch_chunk(&mut self) -> bool {
        let registry = Arc::clone(&self.registry);
        let dispatched = registry.dispatched();
        let Ok(chunk) = registry.history().read_after(dispatched, CHUNK) else {
            let through = registry.history().current();
            tracing::warn!(%dispatched, %through, "the dispatcher fell behind the history, watchers catch up from it");
            registry.gap(through, &mut self.woken);
            registry.dispatched_through(through);
            self.wake();
            return true;
        };
        registry.start(chunk.through);
        for record in &chunk.records {
            self.collect(record);
        }
        self.publish();
        registry.dispatched_through(chunk.through);
        chunk.through > dispatched
    }

    fn collect(&mut self, record: &Arc<Record>) {
        for (at, event) in (0..).zip(&record.events) {
            self.registry
                .for_each_topic(&event.kv.key, |topic| self.collected.add(topic, at));
        }
        self.collected.end_record(record);
    }

    fn publish(&mut self) {
        let pace = self.registry.pace();
        for Pending { topic, entries, .. } in self.collected.topics.drain(..) {
            let due = topic.publish(entries.into_iter(), &pace, &mut self.woken, |canceler| {
                self.registry.overflowed(canceler);
            });
            if let Some(due) = due {
                self.due.insert((due, self.next_due), topic);
                self.next_due += 1;
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
    }
}

impl Drop for WatchDispatcher {
    /// Wakes at once those who were to be woken later: the next dispatcher does not know of them.
    fn drop(&mut self) {
        let now = self.registry.clock().now();
        for topic in std::mem::take(&mut self.due).into_values() {
            topic.wake_patient(now, &mut self.woken);
        }
        self.wake();
    }
}

/// Lets others run before going on.
async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
