//! etcd, in which Patroni keeps the cluster: asked through its JSON gateway.
//!
//! A watch is only a bell. At each event, and once a second anyhow, the keys of the cluster are read as a whole, by a read that
//! takes a quorum. So nothing can be missed, an answer proves that etcd works, and one without a quorum says nothing.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::clock;
use crate::config::keepers::EtcdSettings;
use crate::config::url::Url;
use crate::discovery::call::{Caller, MOST};
use crate::discovery::keepers::{Heard, Source};
use crate::discovery::word::{self, Word};
use crate::net::http::{Link, Request};
use crate::net::names::Names;

/// Between two reads while nothing happens.
const CALM: Duration = Duration::from_secs(1);
/// Before the next member is tried.
const REST: Duration = Duration::from_millis(250);

/// Asks etcd.
#[derive(Debug)]
pub struct Etcd {
    /// The cluster's name, for the log.
    pub cluster: String,
    /// Where it is, and who asks.
    pub settings: EtcdSettings,
    /// TLS for `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who knows the addresses of names.
    pub names: Arc<Names>,
    /// Where words go.
    pub words: UnboundedSender<Heard>,
}

/// The channel of words is closed: nobody wants to know any more.
struct Unheard;

impl Etcd {
    /// Asks for ever, one member after the other.
    pub async fn run(self) {
        let urls: Vec<Url> = self
            .settings
            .endpoints
            .iter()
            .filter_map(|url| Url::parse(url).ok())
            .collect();
        let mut is_silent = false;
        for url in urls.iter().cycle() {
            let mut has_answered = false;
            let end = self.follow(url, &mut has_answered, is_silent).await;
            let Err(why) = end else {
                return;
            };
            if has_answered || !is_silent {
                tracing::warn!(
                    cluster = self.cluster,
                    url = url.authority(),
                    why,
                    "etcd does not answer: what it said counts for a moment only"
                );
            }
            is_silent = true;
            tokio::time::sleep(REST).await;
        }
    }

    /// Follows the cluster at one member.
    async fn follow(
        &self,
        url: &Url,
        has_answered: &mut bool,
        was_silent: bool,
    ) -> Result<Unheard, String> {
        let mut caller = Caller::new(url.clone(), Arc::clone(&self.names), self.tls.clone());
        let token = self.log_in(&mut caller).await?;
        let (key, end) = bounds(&self.settings.prefix());
        // The bell is there before the first read, so that nothing falls between both.
        let json = format!(r#"{{"create_request":{{"key":"{key}","range_end":"{end}"}}}}"#);
        let mut bell = caller.stream(post("/v3/watch", &json, &token)).await?;
        let json = format!(r#"{{"key":"{key}","range_end":"{end}"}}"#);
        let mut is_unknown = false;
        loop {
            let document = caller.ask(post("/v3/kv/range", &json, &token)).await?;
            if was_silent && !*has_answered {
                tracing::info!(cluster = self.cluster, "etcd answers again");
            }
            *has_answered = true;
            let word = word::of_etcd(&document, &self.settings.prefix())?;
            let pause = pause(word.as_ref());
            if word.is_none() && !is_unknown {
                tracing::warn!(
                    cluster = self.cluster,
                    prefix = self.settings.prefix(),
                    "etcd knows nothing of this cluster"
                );
            }
            is_unknown = word.is_none();
            if let Some(word) = word
                && self.words.send(Heard::now(Source::Etcd, word)).is_err()
            {
                return Ok(Unheard);
            }
            wait(&mut bell, pause).await?;
        }
    }

    /// The token of our user; none where etcd has no users.
    async fn log_in(&self, caller: &mut Caller) -> Result<Option<String>, String> {
        let Some(user) = &self.settings.user else {
            return Ok(None);
        };
        let password = self.settings.password.as_ref();
        let password = password.map_or("", |password| password.expose());
        let json = serde_json::json!({ "name": user, "password": password }).to_string();
        let answer = caller
            .ask(post("/v3/auth/authenticate", &json, &None))
            .await?;
        let answer: serde_json::Value =
            serde_json::from_slice(&answer).map_err(|why| format!("no JSON: {why}"))?;
        let token = answer.get("token").and_then(|token| token.as_str());
        token
            .map(|token| Some(token.to_owned()))
            .ok_or_else(|| "it gives no token".to_owned())
    }
}

fn post<'a>(path: &'a str, json: &'a str, token: &'a Option<String>) -> Request<'a> {
    Request {
        method: "POST",
        path,
        json,
        token: token.as_deref(),
    }
}

/// The first key under `prefix`, and the first behind all of them, as the gateway wants them.
fn bounds(prefix: &str) -> (String, String) {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1; // a prefix ends with a slash
    }
    (STANDARD.encode(prefix), STANDARD.encode(end))
}

/// A second, or until a switchover is due.
fn pause(word: Option<&Word>) -> Duration {
    let now = clock::wall();
    let due = word.and_then(|word| word.next_due(now));
    let left = due.and_then(|due| Duration::try_from(due.duration_since(now)).ok());
    left.map_or(CALM, |left| left.min(CALM))
}

/// Waits for the bell, no longer than `pause`.
async fn wait(bell: &mut Link, pause: Duration) -> Result<(), String> {
    match timeout(pause, bell.line(MOST)).await {
        Ok(Ok(Some(_))) | Err(_) => Ok(()),
        Ok(Ok(None)) => Err("the watch has ended".to_owned()),
        Ok(Err(error)) => Err(format!("the watch has failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::bounds;

    #[test]
    fn a_prefix_ends_before_the_next_letter() {
        let (key, end) = bounds("/service/main/");
        assert_eq!(
            (key.as_str(), end.as_str()),
            ("L3NlcnZpY2UvbWFpbi8=", "L3NlcnZpY2UvbWFpbjA=")
        );
    }
}
