//! Setting up the log: three formats, one set of sinks, a level that a reload may change.

use std::io::{self, Write};
use std::sync::{Arc, OnceLock};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::settings::{Settings, TelemetrySettings};
use crate::config::value::LogFormat;
use crate::telemetry::fields::Fields;
use crate::telemetry::lines::{FATAL, Lines};
use crate::telemetry::sinks::Sinks;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    format: LogFormat,
    sinks: Arc<Sinks>,
    level: reload::Handle<EnvFilter, Registry>,
    /// How many times `-v` was said.
    verbose: u32,
}

/// What the command line says about the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// `-q`: nothing to standard error.
    pub is_quiet: bool,
    /// How many times `-v` was said.
    pub verbose: u32,
}

/// Starts logging, to standard error. A second call changes nothing.
pub fn start(settings: &TelemetrySettings, wishes: Wishes) {
    let format = settings.log_format;
    let sinks = Arc::new(Sinks::new(wishes.is_quiet));
    let filter = filter(&settings.log_level, wishes.verbose);
    let (filter, level) = reload::Layer::new(filter);
    let log = Log {
        format,
        sinks: Arc::clone(&sinks),
        level,
        verbose: wishes.verbose,
    };
    if LOG.set(log).is_err() {
        return;
    }
    // Where nobody reads the log any more, the pooler goes on without a word.
    let text = || {
        fmt::layer()
            .log_internal_errors(false)
            .with_ansi(false)
            .with_writer(Writers(Arc::clone(&sinks)))
    };
    let layer: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Text => text().fmt_fields(Fields).boxed(),
        LogFormat::Json => text().json().flatten_event(true).boxed(),
        LogFormat::PgBouncer => Lines { sinks }.boxed(),
    };
    let _ = tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init();
}

/// Opens the sinks anew and takes the level from the settings.
pub fn follow(settings: &Settings) {
    let Some(log) = LOG.get() else { return };
    let verbose = log.verbose + settings.pooler.verbose;
    let _ = log
        .level
        .reload(filter(&settings.telemetry.log_level, verbose));
    if let Err(problem) = log.sinks.follow(&settings.pooler) {
        tracing::error!("{problem}");
    }
}

/// Whether lines are written as PgBouncer writes them.
pub fn is_as_pgbouncer() -> bool {
    LOG.get()
        .is_some_and(|log| log.format == LogFormat::PgBouncer)
}

/// Says why the process ends.
pub fn fatal(why: &str) {
    tracing::error!(target: FATAL, "{why}");
}

/// `level`, but more of our own where that is wished: once for what PgBouncer calls DEBUG, twice for its NOISE.
fn filter(level: &str, verbose: u32) -> EnvFilter {
    let own = match verbose {
        0 => "",
        1 => ",pooler=debug",
        _ => ",pooler=trace",
    };
    EnvFilter::try_new(format!("{level}{own}")).unwrap_or_else(|_| EnvFilter::new("info"))
}

/// A line of text without its time and level, which syslog says by itself; a line of JSON as it is.
fn bare(line: &[u8], level: Level) -> &[u8] {
    let level = level.as_str().as_bytes();
    let mut words = line.splitn(2, |byte| *byte == b' ');
    let behind_time = words.nth(1).unwrap_or_default().trim_ascii_start();
    let behind_level = behind_time.strip_prefix(level);
    behind_level.map_or(line, <[u8]>::trim_ascii_start)
}

/// Gives the other formats a way into the sinks.
struct Writers(Arc<Sinks>);

/// Takes one line.
struct Writer(Arc<Sinks>, Level);

impl<'a> MakeWriter<'a> for Writers {
    type Writer = Writer;

    fn make_writer(&'a self) -> Writer {
        Writer(Arc::clone(&self.0), Level::INFO)
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Writer {
        Writer(Arc::clone(&self.0), *metadata.level())
    }
}

impl Write for Writer {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write(self.1, line, bare(line, self.1));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::bare;
    use tracing::Level;

    #[test]
    fn syslog_gets_a_line_of_text_without_its_time_and_level_and_one_of_json_whole() {
        let said = |line: &'static str| bare(line.as_bytes(), Level::INFO);
        let text = "2026-11-29T13:22:25.428937Z  INFO pooler::x: process up\n";
        assert_eq!(said(text), b"pooler::x: process up\n");
        let json = "{\"timestamp\":\"2026\", \"level\":\"INFO\"}\n";
        assert_eq!(said(json), json.as_bytes());
        assert_eq!(said("odd"), b"odd");
        assert_eq!(said(""), b"");
    }
}
