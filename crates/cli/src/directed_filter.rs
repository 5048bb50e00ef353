//! A log filter that lets through what directives want, besides what the environment says.

use tidewatch_server::{LogDirectives, LogSubject};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

/// Passes what `base` passes, and what a directive raises: only that, host by host.
pub(crate) struct DirectedFilter {
    pub(crate) base: EnvFilter,
    pub(crate) directives: LogDirectives,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for DirectedFilter {
    fn enabled(&self, metadata: &Metadata<'_>, cx: &Context<'_, S>) -> bool {
        // What a span of ours is about matters to the events in it.
        let is_span = metadata.is_span() && LogDirectives::concern(metadata.target());
        is_span
            || Filter::<S>::enabled(&self.base, metadata, cx)
            || self.directives.may_want(metadata.target(), *metadata.level())
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        let interest = Filter::<S>::callsite_enabled(&self.base, metadata);
        if !interest.is_always() && LogDirectives::concern(metadata.target()) {
            // A directive may come at any time.
            return Interest::sometimes();
        }
        interest
    }

    fn event_enabled(&self, event: &Event<'_>, cx: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if Filter::<S>::enabled(&self.base, metadata, cx) {
            return Filter::<S>::event_enabled(&self.base, event, cx);
        }
        let mut about = LogSubject::default();
        event.record(&mut about);
        for span in cx.event_scope(event).into_iter().flatten() {
            if let Some(around) = span.extensions().get::<LogSubject>() {
                about.or(around);
            }
        }
        self.directives.want(metadata.target(), *metadata.level(), &about)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Whatever others log beyond `base` is turned off where it is logged, by `callsite_enabled`.
        Some(LevelFilter::TRACE)
    }

    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        let mut about = LogSubject::default();
        attrs.record(&mut about);
        if about != LogSubject::default()
            && let Some(span) = cx.span(id)
        {
            span.extensions_mut().replace(about);
        }
        Filter::<S>::on_new_span(&self.base, attrs, id, cx);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        Filter::<S>::on_record(&self.base, id, values, cx);
    }

    fn on_enter(&self, id: &Id, cx: Context<'_, S>) {
        Filter::<S>::on_enter(&self.base, id, cx);
    }

    fn on_exit(&self, id: &Id, cx: Context<'_, S>) {
        Filter::<S>::on_exit(&self.base, id, cx);
    }

    fn on_close(&self, id: Id, cx: Context<'_, S>) {
        Filter::<S>::on_close(&self.base, id, cx);
    }
}
