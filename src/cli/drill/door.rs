//! The way in: connections to the running pooler, as an application and an operator have them.

use std::collections::BTreeMap;
use std::env;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::timeout;

use crate::auth::password::Verifier;
use crate::auth::users::Users;
use crate::config::settings::Settings;
use crate::config::value::{LoadBalance, TlsMode};
use crate::error::Error;
use crate::net::names::Names;
use crate::net::tls::{ClientTls, Files, Verify, Versions};
use crate::pools::plan::{name_rules, socket_options};
use crate::protocol::parameters::Interner;
use crate::secret::Secret;
use crate::servers::login::{self, Login};
use crate::servers::proof::Derived;
use crate::servers::query::{self, Row};
use crate::servers::server::Server;
use crate::servers::target::{Host, Target};
use crate::stats::census::Census;

/// How long a login may take; it may have to wait for a primary.
const LOGIN: Duration = Duration::from_secs(60);
/// How long an answer may take: longer than anything that the pooler lets wait.
const ANSWER: Duration = Duration::from_secs(120);

/// Where the pooler listens, and what is known of passwords.
#[derive(Debug)]
pub struct Door {
    host: Host,
    users: Users,
    tls: Option<Arc<ClientConfig>>,
    names: Names,
    target: Target,
    census: Census,
    interner: Interner,
}

impl Door {
    /// The way into the pooler that serves `settings`. What none of its lists has a password for is tried with `PGPASSWORD`.
    ///
    /// # Errors
    /// When it listens nowhere that is known.
    pub fn new(settings: &Settings, users: &Users) -> Result<Self, String> {
        let pooler = &settings.pooler;
        let name = match pooler.listen_addr.first().map(String::as_str) {
            Some("*" | "0.0.0.0") => "127.0.0.1".to_owned(),
            Some("::") => "::1".to_owned(),
            Some(address) => address.to_owned(),
            None if pooler.unix_socket_dir.is_empty() => {
                return Err("the pooler of this configuration listens nowhere".to_owned());
            }
            None => pooler.unix_socket_dir.clone(),
        };
        let host = Host {
            name,
            port: pooler.listen_port,
        };
        let tls = ClientTls::load(Verify::No, &Files::default(), Versions::default());
        let target = Target {
            hosts: vec![host.clone()],
            balance: LoadBalance::default(),
            dbname: String::new(),
            user: String::new(),
            password: None,
            tls: TlsMode::Prefer,
            cluster: None,
            startup: vec![("application_name".to_owned(), "pooler drill".to_owned())],
            connect_query: None,
            timeout: LOGIN,
            socket: socket_options(settings),
        };
        Ok(Self {
            host,
            users: users.clone(),
            tls: tls.ok(),
            names: Names::new(name_rules(settings)),
            target,
            census: Census::default(),
            interner: Interner::default(),
        })
    }

    /// Where it is.
    pub fn shown(&self) -> String {
        self.host.to_string()
    }

    fn password(&self, user: &str) -> Option<Verifier> {
        let listed = self.users.get(user).cloned();
        let given = || env::var("PGPASSWORD").ok().map(Secret::new);
        listed.or_else(|| given().map(Verifier::Plain))
    }

    /// Logs in.
    ///
    /// # Errors
    /// Why the pooler does not let `user` into `database`.
    pub async fn enter(&self, user: &str, database: &str) -> Result<Box<Server>, Error> {
        let target = Target {
            dbname: database.to_owned(),
            user: user.to_owned(),
            password: self.password(user),
            ..self.target.clone()
        };
        let login = Login {
            target: &target,
            host: &self.host,
            names: &self.names,
            tls: self.tls.clone(),
            keys: None,
            derived: &Derived::default(),
            database,
            id: self.census.next_id(),
            census: &self.census,
            interner: &self.interner,
            generation: 0,
            watch: None,
            is_logged: false,
            pool: 0,
        };
        let login = timeout(LOGIN, Box::pin(login::log_in(login)));
        login.await.unwrap_or(Err(Error::ServerLost("in a login")))
    }

    /// Asks `sql` on a connection that is open.
    ///
    /// # Errors
    /// [`Error::ServerRefused`] in the words of whoever answered; any other means that the connection is of no more use.
    pub async fn ask(&self, server: &mut Server, sql: &str) -> Result<Vec<Row>, Error> {
        let answer = timeout(ANSWER, Box::pin(query::ask(server, &self.interner, sql)));
        let late = Error::ServerLost("while it was asked");
        answer.await.unwrap_or(Err(late))
    }

    /// Asks the console for what it shows.
    ///
    /// # Errors
    /// As [`Door::ask`].
    pub async fn look(&self, server: &mut Server, sql: &str) -> Result<Vec<Named>, Error> {
        let answer = timeout(ANSWER, Box::pin(query::look(server, &self.interner, sql)));
        let late = Error::ServerLost("while it was asked");
        answer.await.unwrap_or(Err(late))
    }
}

/// A row by the names of its columns, without what is NULL.
pub type Named = BTreeMap<String, String>;

/// What went wrong, in one line.
pub fn told(error: &Error) -> String {
    match error {
        Error::ServerRefused(refusal) | Error::ServerLoginRefused { refusal, .. } => {
            format!("{} (SQLSTATE {})", refusal.message, refusal.code)
        }
        other => other.detail().map_or_else(
            || other.message(),
            |detail| format!("{}: {detail}", other.message()),
        ),
    }
}
