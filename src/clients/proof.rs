//! Demanding the proof that a client is who it says: which proof, and whether it was given.
//!
//! Where a rule says so nobody is asked for anything; where a proof needs what is known of the user, that is looked up first. Who is
//! unknown is refused in the words for a wrong proof.

pub mod directory;
pub mod pam;
pub mod password;
pub mod standing;

use std::sync::Arc;

use tracing::error;

use crate::auth::directory::Directory;
use crate::auth::hba::{Caller, Method};
use crate::auth::ident::Map;
use crate::auth::password::Verifier;
use crate::auth::scram::Keys;
use crate::clients::credentials::{self, Found};
use crate::clients::proof::password::{Demand, Shown};
use crate::config::settings::Settings;
use crate::config::value::{AuthType, Dialect};
use crate::error::{Error, Proof};
use crate::net::stream::{Address, Stream};
use crate::pools::registry::Registry;
use crate::secret::Secret;
use crate::servers::frames::Frames;

/// What a client claims.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The database that it wants into.
    pub database: &'a str,
    /// The user that it says it is.
    pub user: &'a str,
    /// Whether the database is the console.
    pub is_console: bool,
    /// Whether it asks for physical replication.
    pub is_physical: bool,
}

/// What a login proved.
#[derive(Debug)]
pub struct Proven {
    /// Who the client is from now on.
    pub user: String,
    /// What is known of the user's password.
    pub verifier: Option<Verifier>,
    /// The keys of a SCRAM secret that the server may know, too.
    pub keys: Option<Arc<Keys>>,
}

/// What a client is asked for.
#[derive(Debug, Clone)]
enum Demanded {
    Nothing,
    Trust,
    Password,
    Md5,
    Scram,
    Certificate(Option<Arc<Map>>),
    Peer(Option<Arc<Map>>),
    Ldap(Arc<Directory>),
    Pam,
}

/// Demands the proof that `auth_type`, or the rule of the HBA file that fits, wants for `claim`.
///
/// # Errors
/// [`Error::LoginFailed`], the same for a wrong password and an unknown user; [`Error::NoSuchUser`] where PgBouncer says so; what
/// keeps `auth_query` from an answer.
pub async fn demand(
    stream: &mut Stream,
    frames: &mut Frames,
    registry: &Arc<Registry>,
    claim: Claim<'_>,
) -> Result<Proven, Error> {
    let settings = registry.settings.load_full();
    let demanded = demanded(stream, registry, &settings, claim)?;
    let user = claim.user;
    match &demanded {
        Demanded::Nothing => return nothing(&settings, claim),
        Demanded::Ldap(_) | Demanded::Pam => {
            let given = Demand {
                stream,
                frames,
                registry,
                user,
            }
            .clear_password()
            .await?;
            let given = given.ok_or_else(|| failed(user, demanded.proof()))?;
            return elsewhere(stream, demanded, user, given).await;
        }
        _ => {}
    }
    let known = match credentials::find(registry, claim).await? {
        Found::Known(known) => Some(known),
        Found::NoRow if settings.dialect == Dialect::PgBouncer => {
            return Err(Error::NoSuchUser(user.to_owned()));
        }
        Found::NoRow | Found::Nobody => None,
    };
    let name = known.as_ref().and_then(|known| known.name.clone());
    // A user that [users] lists without a password has nothing to prove where nobody has; PgBouncer demands an entry of auth_file.
    let is_listed = settings.dialect == Dialect::Native && settings.users.contains_key(user);
    let entry = match known {
        Some(known) => Entry::Found(known.verifier),
        None if is_listed => Entry::Found(None),
        None => Entry::Missing,
    };
    let demand = Demand {
        stream,
        frames,
        registry,
        user,
    };
    let proof = demanded.proof();
    let proven = shown(demand, demanded, entry).await?;
    let proven = proven.ok_or_else(|| failed(user, proof))?;
    Ok(match name {
        Some(name) => Proven {
            user: name,
            ..proven
        },
        None => proven,
    })
}

/// What is known of a user.
enum Entry {
    /// What proves it, where that is known.
    Found(Option<Verifier>),
    /// There is no such user.
    Missing,
}

/// What the client shows of what is demanded; `None` where it is not enough.
async fn shown(
    mut demand: Demand<'_>,
    demanded: Demanded,
    entry: Entry,
) -> Result<Option<Proven>, Error> {
    let user = demand.user;
    let is_known = matches!(entry, Entry::Found(_));
    let verifier = match entry {
        Entry::Found(verifier) => verifier,
        Entry::Missing => None,
    };
    let without = |is_good: bool, verifier| {
        is_good.then_some(Proven {
            user: user.to_owned(),
            verifier,
            keys: None,
        })
    };
    let with = |shown: Option<Shown>| {
        shown.map(|shown| Proven {
            user: user.to_owned(),
            verifier: Some(shown.verifier),
            keys: shown.keys,
        })
    };
    Ok(match demanded {
        Demanded::Trust => without(is_known, verifier),
        Demanded::Certificate(map) => {
            let is_shown = standing::has_certificate(demand.stream, user, map.as_deref());
            without(is_known && is_shown, verifier)
        }
        Demanded::Peer(map) => {
            let is_shown = standing::is_peer(demand.stream, user, map).await?;
            without(is_known && is_shown, verifier)
        }
        Demanded::Password => with(demand.plain(verifier).await?),
        Demanded::Md5 if !matches!(verifier, Some(Verifier::Scram(_))) => {
            with(demand.md5(verifier).await?)
        }
        Demanded::Md5 | Demanded::Scram => with(demand.scram(verifier).await?),
        Demanded::Nothing | Demanded::Ldap(_) | Demanded::Pam => None,
    })
}

fn failed(user: &str, by: Proof) -> Error {
    Error::LoginFailed {
        user: user.to_owned(),
        by,
    }
}

impl Demanded {
    fn proof(&self) -> Proof {
        match self {
            Self::Nothing | Self::Trust => Proof::Trust,
            Self::Password | Self::Md5 => Proof::Password,
            Self::Scram => Proof::Scram,
            Self::Certificate(_) => Proof::Certificate,
            Self::Peer(_) => Proof::Peer,
            Self::Ldap(_) => Proof::Ldap,
            Self::Pam => Proof::Pam,
        }
    }
}

fn demanded(
    stream: &Stream,
    registry: &Registry,
    settings: &Settings,
    claim: Claim<'_>,
) -> Result<Demanded, Error> {
    Ok(match settings.pooler.auth_type {
        AuthType::Any => Demanded::Nothing,
        AuthType::Trust => Demanded::Trust,
        AuthType::Plain => Demanded::Password,
        AuthType::Md5 => Demanded::Md5,
        AuthType::ScramSha256 => Demanded::Scram,
        AuthType::Cert => Demanded::Certificate(None),
        AuthType::Pam => Demanded::Pam,
        AuthType::Ldap => match &registry.access.load().directory {
            Some(directory) => Demanded::Ldap(Arc::clone(directory)),
            None => {
                error!("auth_type is ldap, and auth_ldap_options is not set");
                return Err(Error::LoginMisconfigured);
            }
        },
        AuthType::Hba => return by_rule(stream, registry, claim),
    })
}

fn by_rule(stream: &Stream, registry: &Registry, claim: Claim<'_>) -> Result<Demanded, Error> {
    let caller = Caller {
        address: match stream.peer() {
            Address::Tcp(address) => Some(address.ip()),
            Address::Unix => None,
        },
        has_tls: stream.is_tls(),
        database: claim.database,
        user: claim.user,
        is_physical: claim.is_physical,
    };
    let access = registry.access.load();
    let Some((method, _)) = access.rules.demand(&caller) else {
        return Err(failed(claim.user, Proof::NoRule));
    };
    Ok(match method {
        Method::Reject => return Err(failed(claim.user, Proof::Rejected)),
        Method::Trust => Demanded::Trust,
        Method::Password => Demanded::Password,
        Method::Md5 => Demanded::Md5,
        Method::ScramSha256 => Demanded::Scram,
        Method::Cert(map) => Demanded::Certificate(map.clone()),
        Method::Peer(map) => Demanded::Peer(map.clone()),
        Method::Ldap(directory) => Demanded::Ldap(Arc::clone(directory)),
    })
}

/// With `any` the name means nothing: the client is the database's forced user. At the console it is whom it says, as with trust.
fn nothing(settings: &Settings, claim: Claim<'_>) -> Result<Proven, Error> {
    let forced = match settings.database(claim.database) {
        _ if claim.is_console => Some(claim.user),
        Some(database) => database.user.as_deref(),
        None => return Err(Error::NoSuchDatabase(claim.database.to_owned())),
    };
    let Some(user) = forced else {
        error!(
            database = claim.database,
            "auth_type=any requires a forced user: set user for this database"
        );
        return Err(Error::LoginMisconfigured);
    };
    Ok(Proven {
        user: user.to_owned(),
        verifier: None,
        keys: None,
    })
}

/// Lets somebody else judge the password: a directory, or the system's PAM. The server may be shown it, too.
async fn elsewhere(
    stream: &Stream,
    demanded: Demanded,
    user: &str,
    given: Secret,
) -> Result<Proven, Error> {
    let proof = demanded.proof();
    let is_right = match demanded {
        Demanded::Ldap(directory) => directory::knows(directory, user, &given).await?,
        _ => pam::knows(user, &given, stream.peer()).await?,
    };
    if !is_right {
        return Err(failed(user, proof));
    }
    Ok(Proven {
        user: user.to_owned(),
        verifier: Some(Verifier::Plain(given)),
        keys: None,
    })
}
