//! keepd's own messages: through the console's queue to standard error, so that a terminal that
//! does not read never stops the manager.

use std::fmt::{self, Write};
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

use crate::console::{Queue, SharedStyle};

/// Changes how much is said.
pub(crate) struct LevelHandle(reload::Handle<LevelFilter, Registry>);

impl LevelHandle {
    /// Sets the level by its word in the configuration.
    pub(crate) fn set(&self, word: &str) {
        // It fails only after the subscriber is gone, and then nobody hears anything anyway.
        let _ = self.0.reload(level(word));
    }
}

/// Begins to write messages of this process that are at least this important.
pub(crate) fn start(queue: Arc<Queue>, style: SharedStyle, word: &str) -> LevelHandle {
    let (filter, handle) = reload::Layer::new(level(word));
    let subscriber = Registry::default().with(filter).with(OwnLog { queue, style });
    // A second manager in one process (in tests) keeps the first one's.
    let _ = tracing::subscriber::set_global_default(subscriber);
    LevelHandle(handle)
}

fn level(word: &str) -> LevelFilter {
    word.parse().unwrap_or(LevelFilter::INFO)
}

struct OwnLog {
    queue: Arc<Queue>,
    style: SharedStyle,
}

impl<S: Subscriber> Layer<S> for OwnLog {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        // What libraries say is for those who look for faults.
        let ours = event.metadata().target().starts_with("keepd");
        if !ours && level > tracing::Level::WARN {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        let now_ns = keepd_os::clock::wall_now_ns();
        self.queue.push_err(self.style.get().own_line(now_ns, level, &text.whole()));
    }
}

/// The message and its fields: `message (key=value, key=value)`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn whole(self) -> String {
        if self.fields.is_empty() {
            self.message
        } else {
            format!("{} ({})", self.message, self.fields)
        }
    }

    fn add(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        let separator = if self.fields.is_empty() { "" } else { ", " };
        let written = if field.name() == "message" {
            self.message.write_fmt(value)
        } else {
            self.fields.write_fmt(format_args!("{separator}{}={value}", field.name()))
        };
        written.expect("a string can always grow");
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_fields_go_through_the_queue() {
        let queue = Arc::new(Queue::new());
        let log = OwnLog { queue: Arc::clone(&queue), style: SharedStyle::default() };
        let subscriber = Registry::default().with(LevelFilter::WARN).with(log);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("not said");
            tracing::warn!(service = "web", count = 2, "cannot {}", "read");
        });
        queue.close();
        let Some(crate::console::Work::Err(line)) = queue.wait() else {
            panic!("a line is expected");
        };
        let line = String::from_utf8(line).unwrap();
        assert!(line.ends_with(" keepd: warn: cannot read (service=web, count=2)\n"), "{line}");
        assert_eq!(queue.wait(), None);
    }
}
