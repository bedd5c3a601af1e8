//! Which calls the backend makes, seen by the spans it makes for them.

use std::cell::RefCell;
use std::fmt;
use std::sync::Once;

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::subscriber::set_global_default;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;

thread_local! {
    /// Calls of the test that runs on this thread; its runtime has no other.
    static NAMES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Calls since the last look.
pub(crate) struct Calls;

impl Calls {
    /// Records from now on. One recorder serves all tests: with one for each, whether a span is made
    /// at all depends on which test comes to it first.
    pub(crate) fn record() -> Self {
        static INSTALLED: Once = Once::new();
        INSTALLED.call_once(|| {
            set_global_default(registry().with(Recorder)).expect("no other subscriber");
        });
        NAMES.take();
        Self
    }

    /// The calls since the last look, in order, without signs of life.
    pub(crate) fn take(&self) -> Vec<String> {
        let is_call = |name: &String| name != "events.publish";
        NAMES.take().into_iter().filter(is_call).collect()
    }
}

struct Recorder;

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut name = Name(None);
        attributes.record(&mut name);
        if let Some(name) = name
            .0
            .as_deref()
            .and_then(|n| n.strip_prefix("containerd."))
        {
            NAMES.with_borrow_mut(|names| names.push(name.to_owned()));
        }
    }
}

struct Name(Option<String>);

impl Visit for Name {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "otel.name" {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}
