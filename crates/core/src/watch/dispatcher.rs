//! Handing committed events to those who watch.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use super::WatchRegistry;
use super::selection::Entry;
use super::topic::Topic;
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
    hits: Hits,
}

/// The topics that a record concerns, with the indices of its events.
#[derive(Debug, Default)]
struct Hits {
    topics: Vec<(Arc<Topic>, Vec<u32>)>,
    by_address: HashMap<usize, usize>,
}

impl Hits {
    fn add(&mut self, topic: &Arc<Topic>, event: u32) {
        let address = Arc::as_ptr(topic).addr();
        let at = *self.by_address.entry(address).or_insert(self.topics.len());
        match self.topics.get_mut(at) {
            Some((_, events)) => {
                if events.last() != Some(&event) {
                    events.push(event);
                }
            }
            None => self.topics.push((Arc::clone(topic), vec![event])),
        }
    }

    fn drain(&mut self) -> impl Iterator<Item = (Arc<Topic>, Vec<u32>)> {
        self.by_address.clear();
        self.topics.drain(..)
    }
}

impl WatchDispatcher {
    /// The dispatcher of a registry.
    pub fn new(registry: Arc<WatchRegistry>) -> Self {
        Self {
            registry,
            woken: Vec::new(),
            hits: Hits::default(),
        }
    }

    /// Hands on events until the registry is closed and everything committed before that has been
    /// handed on.
    ///
    /// # Cancel safety
    /// Dropping the future stops the work; another dispatcher of the same registry goes on with it.
    pub async fn run(mut self) {
        loop {
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
        poll_fn(|cx| {
            let ready = appended.as_mut().poll(cx).is_ready() | closed.as_mut().poll(cx).is_ready();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
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
        for record in &chunk.records {
            self.dispatch(record);
        }
        registry.dispatched_through(chunk.through);
        chunk.through > dispatched
    }

    fn dispatch(&mut self, record: &Arc<Record>) {
        self.registry.start(record.revision);
        for (at, event) in (0..).zip(&record.events) {
            self.registry
                .for_each_topic(&event.kv.key, |topic| self.hits.add(topic, at));
        }
        let bytes = record.size();
        for (topic, matching) in self.hits.drain() {
            if let Some(entry) = Entry::new(record, &matching) {
                topic.publish(entry, bytes, &mut self.woken, |canceler| {
                    self.registry.overflowed(canceler);
                });
            }
        }
        self.wake();
    }

    fn wake(&mut self) {
        self.woken.drain(..).for_each(Waker::wake);
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
