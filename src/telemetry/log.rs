//! Setting up the log: text or JSON, to standard error.

use tracing_subscriber::EnvFilter;

use crate::config::settings::TelemetrySettings;
use crate::config::value::LogFormat;

/// Starts logging as the settings say. A second call changes nothing.
pub fn start(settings: &TelemetrySettings) {
    let filter = EnvFilter::try_new(&settings.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Where nobody reads the log any more, the pooler goes on without a word.
        .log_internal_errors(false);
    let _ = match settings.log_format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
