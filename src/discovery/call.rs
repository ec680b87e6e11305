//! Asking those who keep a cluster: one question on a kept connection, with a time limit, and a bound on the answer. An order is another
//! thing: it is given once, and who may have got it is told from who cannot have.

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

/// Why an order is not known to be carried out.
#[derive(Debug, PartialEq, Eq)]
pub enum Undone {
    /// Nobody was reached, so nobody has got it.
    Unreached(String),
    /// It was answered with another status than 200.
    Refused(String),
    /// It may have been got, and no whole answer came.
    Unanswered(String),
}

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
        let kept = self.link.take();
        let was_kept = kept.is_some();
        let asked = async {
            match self.try_ask(kept, request).await {
                // The server may have closed it since the last question.
                Err(_) if was_kept && request.method == "GET" => self.try_ask(None, request).await,
                outcome => outcome,
            }
        };
        let (link, status, answer) = within(LIMIT, asked).await?;
        let answer = useful(status, answer)?;
        self.link = link.is_free().then_some(link);
        Ok(answer)
    }

    /// Gives an order, on a connection of its own, and waits for its answer no longer than `limit`.
    ///
    /// # Errors
    /// Why it is not known to be carried out.
    pub async fn order(&self, limit: Duration, request: Request<'_>) -> Result<Vec<u8>, Undone> {
        let link = within(LIMIT.min(limit), self.open()).await;
        let link = link.map_err(Undone::Unreached)?;
        let asked = within(limit, self.try_ask(Some(link), request)).await;
        let (_, status, answer) = asked.map_err(Undone::Unanswered)?;
        useful(status, answer).map_err(Undone::Refused)
    }

    async fn try_ask(
        &self,
        link: Option<Link>,
        request: Request<'_>,
    ) -> Result<(Link, u16, Vec<u8>), String> {
        let (mut link, status) = self.begin(link, request).await?;
        let answer = link.whole(MOST).await.map_err(|error| error.to_string())?;
        Ok((link, status, answer))
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
        match within(LIMIT, self.begin(None, request)).await? {
            (link, 200) => Ok(link),
            (_, status) => Err(format!("status {status}")),
        }
    }
}

async fn within<T>(
    limit: Duration,
    asked: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let outcome = timeout(limit, Box::pin(asked)).await;
    outcome.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")))
}

/// An answer of status 200.
fn useful(status: u16, answer: Vec<u8>) -> Result<Vec<u8>, String> {
    if status == 200 {
        return Ok(answer);
    }
    let said = String::from_utf8_lossy(&answer);
    let said: String = said
        .chars()
        .filter(|letter| !letter.is_control())
        .take(200)
        .collect();
    Err(format!("status {status}: {said}"))
}
