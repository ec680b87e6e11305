//! Patroni's REST interface: who the members are, and that something is going on.
//!
//! It is read from what Patroni last read of its store, up to a turn of its loop ago, and it names a primary before that one takes
//! writes. So it lists nodes, and whatever changes in it lets all nodes be asked at once; who takes writes is SQL's to say.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::sync::mpsc::UnboundedSender;

use crate::clock;
use crate::config::url::Url;
use crate::discovery::call::{Caller, Undone};
use crate::discovery::keepers::{Heard, Source};
use crate::discovery::probe::Pace;
use crate::discovery::word::{self, Word};
use crate::net::http::Request;
use crate::net::names::Names;
use crate::topology::wish::Unswitched;

/// Between two questions while all is well.
const CALM: Duration = Duration::from_secs(1);
/// While there is no primary.
const TROUBLED: Duration = Duration::from_millis(250);
/// Interfaces of members that are asked beside the configured ones.
const MOST_URLS: usize = 20;

const QUESTION: Request<'static> = Request {
    method: "GET",
    path: "/cluster",
    json: "",
    token: None,
};

/// Asks Patroni.
#[derive(Debug)]
pub struct Patroni {
    /// The cluster's name, for the log.
    pub cluster: String,
    /// Whom to ask, as configured.
    pub urls: Vec<Url>,
    /// TLS for `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who knows the addresses of names.
    pub names: Arc<Names>,
    /// Whether there is trouble.
    pub pace: Arc<Pace>,
    /// Where words go.
    pub words: UnboundedSender<Heard>,
}

impl Patroni {
    /// Asks for ever: the one that answered last, the next when it does not.
    pub async fn run(self) {
        let mut urls = self.urls.clone();
        let (mut turn, mut silent) = (0, 0);
        loop {
            let url = urls[turn % urls.len()].clone();
            let mut caller = Caller::new(url.clone(), Arc::clone(&self.names), self.tls.clone());
            let why = loop {
                let document = caller.ask(QUESTION).await;
                let word = document.and_then(|document| word::of_rest(&document));
                match word {
                    Ok(word) => {
                        if silent >= urls.len() {
                            tracing::info!(cluster = self.cluster, "Patroni answers again");
                        }
                        silent = 0;
                        urls = self.known_by(&word);
                        if !self.tell(word) {
                            return;
                        }
                    }
                    Err(why) => break why,
                }
                tokio::time::sleep(self.pause()).await;
            };
            silent += 1;
            if silent == urls.len() {
                tracing::warn!(
                    cluster = self.cluster,
                    url = url.authority(),
                    why,
                    "no Patroni answers: the nodes are followed by SQL alone"
                );
            }
            turn = turn.wrapping_add(1);
            tokio::time::sleep(TROUBLED).await;
        }
    }

    fn pause(&self) -> Duration {
        if self.pace.is_troubled.load(SeqCst) == 1 {
            TROUBLED
        } else {
            CALM
        }
    }

    /// The configured interfaces, and those of the members.
    fn known_by(&self, word: &Word) -> Vec<Url> {
        let mut all = self.urls.clone();
        for url in word
            .members
            .iter()
            .filter_map(|member| member.rest.as_ref())
        {
            if all.len() < self.urls.len() + MOST_URLS && !all.contains(url) {
                all.push(url.clone());
            }
        }
        all
    }

    fn tell(&self, word: Word) -> bool {
        let heard = Heard::now(Source::Rest, word);
        self.words.send(heard).is_ok()
    }
}

/// Has Patroni replace `leader`, by `to` where that is said; the first of `urls` that can be reached is told, and nobody after it.
///
/// # Errors
/// Why it does not come about, or why nobody knows.
pub async fn switch_over(
    urls: &[Url],
    leader: &str,
    to: Option<&str>,
    names: &Arc<Names>,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<String, Unswitched> {
    /// It answers when it is done.
    const LIMIT: Duration = Duration::from_secs(60);
    let mut json = serde_json::json!({ "leader": leader });
    if let Some(to) = to {
        json["candidate"] = to.into();
    }
    let json = json.to_string();
    let request = Request {
        method: "POST",
        path: "/switchover",
        json: &json,
        token: None,
    };
    let until = clock::now().after(LIMIT);
    let mut last = "no Patroni is known".to_owned();
    for url in urls {
        let caller = Caller::new(url.clone(), Arc::clone(names), tls.cloned());
        let left = until.since(clock::now());
        match caller.order(left, request).await {
            Ok(answer) => return Ok(String::from_utf8_lossy(&answer).into_owned()),
            Err(Undone::Unreached(why)) => last = format!("{}: {why}", url.authority()),
            // It has waited for it, and gives up.
            Err(Undone::Refused(why)) if why.contains("status unknown") => {
                return Err(Unswitched::Unknown(format!("Patroni says: {why}")));
            }
            Err(Undone::Refused(why)) => {
                return Err(Unswitched::Not(format!("Patroni refuses: {why}")));
            }
            Err(Undone::Unanswered(why)) => {
                let at = url.authority();
                let why = format!("Patroni at {at} was asked and does not answer: {why}");
                return Err(Unswitched::Unknown(why));
            }
        }
    }
    Err(Unswitched::Not(format!("no Patroni answers: {last}")))
}
