//! Asking those who keep a cluster: one question on a kept connection, with a time limit, and a bound on the answer.

use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout;

use crate::config::url::Url;
use crate::net::http::{Link, Request};
use crate::net::names::Names;

/// How long an answer may take.
pub const LIMIT: Duration = Duration::from_secs(1);
/// How long it may be.
pub const MOST: usize = 4 << 20;

/// Whoever asks one server.
#[derive(Debug)]
pub struct Caller {
    url: Url,
    names: Arc<Names>,
    tls: Option<Arc<ClientConfig>>,
    link: Option<Link>,
}

impl Caller {
    /// Asks the server at `url`.
    pub fn new(url: Url, names: Arc<Names>, tls: Option<Arc<ClientConfig>>) -> Self {
        Self {
            url,
            names,
            tls,
            link: None,
        }
    }

    /// Asks, and reads the whole answer.
    ///
    /// # Errors
    /// Why there is none that is of use, for people.
    pub async fn ask(&mut self, request: Request<'_>) -> Result<Vec<u8>, String> {
        self.ask_within(LIMIT, request).await
    }

    /// The same, with another time limit.
    ///
    /// # Errors
    /// As [`Caller::ask`].
    pub async fn ask_within(
        &mut self,
        limit: Duration,
        request: Request<'_>,
    ) -> Result<Vec<u8>, String> {
        let kept = self.link.take();
        let was_kept = kept.is_some();
        let asked = async {
            match self.try_ask(kept, request).await {
                // The server may have closed it since the last question.
                Err(_) if was_kept && request.method == "GET" => self.try_ask(None, request).await,
                outcome => outcome,
            }
        };
        let outcome = timeout(limit, Box::pin(asked)).await;
        let (link, answer) =
            outcome.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))?;
        self.link = link.is_free().then_some(link);
        Ok(answer)
    }

    async fn try_ask(
        &self,
        link: Option<Link>,
        request: Request<'_>,
    ) -> Result<(Link, Vec<u8>), String> {
        let (mut link, status) = self.begin(link, request).await?;
        let answer = link.whole(MOST).await.map_err(|error| error.to_string())?;
        if status == 200 {
            return Ok((link, answer));
        }
        let said = String::from_utf8_lossy(&answer);
        let said: String = said
            .chars()
            .filter(|letter| !letter.is_control())
            .take(200)
            .collect();
        Err(format!("status {status}: {said}"))
    }

    async fn begin(&self, link: Option<Link>, request: Request<'_>) -> Result<(Link, u16), String> {
        let mut link = match link {
            Some(link) => link,
            None => self.open().await?,
        };
        let status = link.ask(request).await.map_err(|error| error.to_string())?;
        Ok((link, status))
    }

    async fn open(&self) -> Result<Link, String> {
        let link = Link::open(&self.url, &self.names, self.tls.as_ref()).await;
        link.map_err(|error| error.to_string())
    }

    /// Asks for a stream of lines, on a connection of its own.
    ///
    /// # Errors
    /// As [`Caller::ask`].
    pub async fn stream(&self, request: Request<'_>) -> Result<Link, String> {
        let begun = timeout(LIMIT, Box::pin(self.begin(None, request))).await;
        match begun.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))? {
            (link, 200) => Ok(link),
            (_, status) => Err(format!("status {status}")),
        }
    }
}
