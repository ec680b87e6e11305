//! Asking a directory (LDAP) whether a password is right, on a thread of its own.
//!
//! A directory that answers slowly, or not at all, holds up nobody but who waits for it. Each login has a connection of its own:
//! what one user may see there, another does not inherit. Referrals are not followed.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ldap3::{LdapConnAsync, LdapConnSettings, LdapError, LdapResult, SearchEntry};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Semaphore, oneshot};
use tracing::{error, info, warn};

use crate::auth::directory::{Directory, Scope, Search, Way, bind_name};
use crate::error::Error;
use crate::net::tls::{ClientTls, Files, Verify, Versions};
use crate::secret::Secret;

/// How long a server may take to answer anything.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many logins ask at the same time; the others wait.
const AT_ONCE: usize = 20;
/// What a server answers for a wrong name or password.
const INVALID_CREDENTIALS: u32 = 49;

/// A login that waits for an answer.
struct Question {
    directory: Arc<Directory>,
    user: String,
    password: Secret,
    answer: oneshot::Sender<bool>,
}

/// Whether the directory knows `user` by `password`, which is not empty.
///
/// Cancel-safe: the directory is not asked any further once nobody waits.
///
/// # Errors
/// [`Error::Internal`] when the system gives no thread.
pub async fn knows(
    directory: Arc<Directory>,
    user: &str,
    password: &Secret,
) -> Result<bool, Error> {
    // A directory takes a name without a password for nobody in particular, and says yes.
    if password.is_empty() {
        return Ok(false);
    }
    let (answer, answered) = oneshot::channel();
    let question = Question {
        directory,
        user: user.to_owned(),
        password: password.clone(),
        answer,
    };
    desk().send(question).map_err(|_| Error::Internal)?;
    answered.await.map_err(|_| Error::Internal)
}

/// The way to the thread that asks; it starts with the first question.
fn desk() -> &'static UnboundedSender<Question> {
    static DESK: OnceLock<UnboundedSender<Question>> = OnceLock::new();
    DESK.get_or_init(|| {
        let (desk, questions) = unbounded_channel();
        let started = std::thread::Builder::new()
            .name("ldap".to_owned())
            .spawn(move || run(questions));
        if let Err(error) = started {
            error!(%error, "cannot start the thread that asks directories");
        }
        desk
    })
}

fn run(mut questions: UnboundedReceiver<Question>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return error!(%error, "the system gives no runtime for asking directories"),
    };
    runtime.block_on(async move {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        while let Some(question) = questions.recv().await {
            tokio::spawn(settle(question, Arc::clone(&places)));
        }
    });
}

/// Answers one question, unless nobody waits for the answer any more.
async fn settle(question: Question, places: Arc<Semaphore>) {
    let Question {
        directory,
        user,
        password,
        mut answer,
    } = question;
    let asked = async {
        let _place = places.acquire().await;
        ask(&directory, &user, &password).await
    };
    tokio::select! {
        () = answer.closed() => {}
        is_right = asked => { let _ = answer.send(is_right); }
    }
}

/// Asks the servers in turn; the first that can be reached decides.
async fn ask(directory: &Directory, user: &str, password: &Secret) -> bool {
    for server in &directory.servers {
        let mut ldap = match connect(server, directory.start_tls).await {
            Ok(ldap) => ldap,
            Err(why) => {
                warn!(server, why, "cannot reach the directory");
                continue;
            }
        };
        let asked = converse(&mut ldap, directory, user, password);
        let outcome = tokio::time::timeout(PATIENCE, asked).await;
        let _ = tokio::time::timeout(PATIENCE, ldap.unbind()).await;
        return match outcome {
            Ok(Ok(())) => true,
            Ok(Err(No::Wrong(why))) => {
                info!(
                    server,
                    user, why, "the directory does not know the user by this password"
                );
                false
            }
            Ok(Err(No::Broken(why))) => {
                error!(server, user, why, "the directory cannot be asked");
                false
            }
            Err(_) => {
                error!(server, user, "the directory does not answer");
                false
            }
        };
    }
    false
}

async fn connect(server: &str, start_tls: bool) -> Result<ldap3::Ldap, String> {
    let mut settings = LdapConnSettings::new().set_conn_timeout(PATIENCE);
    if start_tls || server.starts_with("ldaps:") {
        // Read anew each time, so that a renewed authority counts without a restart.
        let tls = ClientTls::load(Verify::Full, &Files::default(), Versions::default());
        let tls = tls.map_err(|problem| problem.to_string())?;
        settings = settings.set_config(tls).set_starttls(start_tls);
    }
    let opened = tokio::time::timeout(PATIENCE, LdapConnAsync::with_settings(settings, server));
    let (connection, ldap) = match opened.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("no answer".to_owned()),
    };
    tokio::spawn(async move {
        // What breaks the connection is told by the operation that it breaks.
        let _ = connection.drive().await;
    });
    Ok(ldap)
}

/// Why somebody is not let in.
enum No {
    /// The directory says so.
    Wrong(String),
    /// The directory could not be asked as the options say.
    Broken(String),
}

impl From<LdapError> for No {
    fn from(error: LdapError) -> Self {
        Self::Broken(error.to_string())
    }
}

async fn converse(
    ldap: &mut ldap3::Ldap,
    directory: &Directory,
    user: &str,
    password: &Secret,
) -> Result<(), No> {
    let name = match &directory.way {
        Way::Around { prefix, suffix } => bind_name(prefix, user, suffix),
        Way::Search(search) => find(ldap, search, user).await?,
    };
    let bound = ldap.simple_bind(&name, password.expose()).await?;
    match bound.rc {
        0 => Ok(()),
        INVALID_CREDENTIALS => Err(No::Wrong(format!("wrong password for \"{name}\""))),
        _ => Err(No::Wrong(format!("\"{name}\": {}", said(&bound)))),
    }
}

/// The name of the one entry that `search` finds for `user`.
async fn find(ldap: &mut ldap3::Ldap, search: &Search, user: &str) -> Result<String, No> {
    let bound = ldap
        .simple_bind(&search.bind_dn, search.bind_password.expose())
        .await?;
    if bound.rc != 0 {
        let who = &search.bind_dn;
        return Err(No::Broken(format!(
            "ldapbinddn \"{who}\" is refused: {}",
            said(&bound)
        )));
    }
    let scope = match search.scope {
        Scope::Base => ldap3::Scope::Base,
        Scope::One => ldap3::Scope::OneLevel,
        Scope::Sub => ldap3::Scope::Subtree,
    };
    let found = ldap
        .search(&search.base, scope, &search.filter(user), vec!["1.1"])
        .await?;
    if found.1.rc != 0 {
        return Err(No::Broken(format!("the search failed: {}", said(&found.1))));
    }
    let mut entries = found
        .0
        .into_iter()
        .filter(|entry| !entry.is_ref() && !entry.is_intermediate());
    match (entries.next(), entries.next()) {
        (Some(entry), None) => Ok(SearchEntry::construct(entry).dn),
        (None, _) => Err(No::Wrong("there is no entry of this name".to_owned())),
        (Some(_), Some(_)) => Err(No::Wrong(
            "there is more than one entry of this name".to_owned(),
        )),
    }
}

/// What a server said about an operation.
fn said(result: &LdapResult) -> String {
    format!("{} (code {})", result.text, result.rc)
}
