//! A line of the log as PgBouncer writes it: `2030-01-31 23:59:59.123 CET [4711] LOG message`.

use std::sync::Arc;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::clock;
use crate::telemetry::fields::{Said, Texts};
use crate::telemetry::sinks::Sinks;

/// The target of events after which the process ends.
pub const FATAL: &str = "pooler::fatal";

/// Writes events as PgBouncer would.
#[derive(Debug)]
pub struct Lines {
    /// Where to.
    pub sinks: Arc<Sinks>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut said = Said::with(Texts::Plain);
        event.record(&mut said);
        let metadata = event.metadata();
        let level = *metadata.level();
        let message = format!("{}{}", said.message, said.fields).replace('\n', "\n\t");
        let line = format!(
            "{} [{}] {} {message}\n",
            clock::wall_text(),
            std::process::id(),
            word(level, metadata.target() == FATAL),
        );
        self.sinks.write(level, line.as_bytes(), message.as_bytes());
    }
}

fn word(level: Level, is_fatal: bool) -> &'static str {
    match level {
        Level::ERROR if is_fatal => "FATAL",
        Level::ERROR => "ERROR",
        Level::WARN => "WARNING",
        Level::INFO => "LOG",
        Level::DEBUG => "DEBUG",
        Level::TRACE => "NOISE",
    }
}
