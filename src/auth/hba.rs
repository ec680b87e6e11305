//! Who may come in from where, and by what proof: PgBouncer's `auth_hba_file`, which is PostgreSQL's pg_hba.conf without groups.
//!
//! The first rule that fits decides, and where none fits nobody is let in. A line that cannot be read is left out and warned of: the
//! others stand. An address with bits beyond its mask fits nobody, as in PgBouncer; that is warned of, too.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::auth::directory::Directory;
use crate::auth::ident::{Map, Maps};
use crate::auth::words::{Word, Words};

/// Files of names within files of names end here.
const DEPTH: usize = 10;

/// A line that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The file.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub why: String,
    /// Whether the line is left out.
    pub is_skipped: bool,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let skipped = if self.is_skipped {
            "; the line is left out"
        } else {
            ""
        };
        write!(
            formatter,
            "{}:{}: {}{skipped}",
            self.file, self.line, self.why
        )
    }
}

/// What a rule demands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// Nothing; the user must be known.
    Trust,
    /// It lets nobody in.
    Reject,
    /// An MD5 answer; SCRAM where the stored secret is one.
    Md5,
    /// The password in clear.
    Password,
    /// SCRAM-SHA-256.
    ScramSha256,
    /// That the system's user at the other end of the Unix socket is the user, or may be by the map.
    Peer(Option<Arc<Map>>),
    /// A certificate with the user's name, or with one that may be the user by the map.
    Cert(Option<Arc<Map>>),
    /// A password that a directory knows.
    Ldap(Arc<Directory>),
}

/// Which connections a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    Host,
    HostSsl,
    HostNoSsl,
}

/// The addresses that a rule is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addresses {
    All,
    Net(IpNet),
    /// The mask cuts off a part of the address: fits nobody.
    Nobody,
}

/// The names in one field of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Names {
    all: bool,
    same_user: bool,
    replication: bool,
    names: HashSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    line: usize,
    kind: Kind,
    databases: Names,
    users: Names,
    addresses: Addresses,
    method: Method,
}

/// Who wants to come in.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The address; `None` for a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether the connection has TLS.
    pub has_tls: bool,
    /// The database that is asked for.
    pub database: &'a str,
    /// The user that is claimed.
    pub user: &'a str,
    /// Whether physical replication is asked for, which belongs to no database.
    pub is_physical: bool,
}

/// All rules, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// What the first rule that fits demands, and the line where it stands; `None` where no rule fits.
    pub fn demand(&self, caller: &Caller<'_>) -> Option<(&Method, usize)> {
        let rule = self.0.iter().find(|rule| rule.fits(caller))?;
        Some((&rule.method, rule.line))
    }
}

impl Rule {
    fn fits(&self, caller: &Caller<'_>) -> bool {
        let is_from = match (self.kind, caller.address) {
            (Kind::Local, address) => address.is_none(),
            (_, None) => false,
            (Kind::HostSsl, _) if !caller.has_tls => false,
            (Kind::HostNoSsl, _) if caller.has_tls => false,
            (Kind::Host | Kind::HostSsl | Kind::HostNoSsl, Some(address)) => {
                self.addresses.fit(address)
            }
        };
        is_from
            && self.databases.fit_database(caller)
            && self.users.fit(caller.user, caller.database)
    }
}

impl Addresses {
    fn fit(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Net(net) => net.contains(&address.to_canonical()),
            Self::Nobody => false,
        }
    }
}

impl Names {
    fn fit_database(&self, caller: &Caller<'_>) -> bool {
        if caller.is_physical {
            return self.replication;
        }
        self.fit(caller.database, caller.user)
    }

    /// Whether `name` is meant, of somebody whose user or database, whichever `name` is not, is `other`.
    fn fit(&self, name: &str, other: &str) -> bool {
        self.all || (self.same_user && name == other) || self.names.contains(name)
    }
}

/// Reads an HBA file, called `file` in warnings, whose lines may name one of `maps`. `read` gets the text of a file that a line
/// names with `@`.
pub fn parse(
    text: &str,
    file: &str,
    maps: &Maps,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
) -> (Rules, Vec<Warning>) {
    let (mut rules, mut warnings) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let mut warn = |why: String, is_skipped| {
            warnings.push(Warning {
                file: file.to_owned(),
                line: number,
                why,
                is_skipped,
            });
        };
        let mut reader = Reader {
            words: Words::of(line),
            maps,
            read: &mut *read,
        };
        match reader.rule(number) {
            Ok(None) => {}
            Ok(Some(rule)) => {
                if rule.addresses == Addresses::Nobody {
                    warn("the address has bits beyond its mask, so the rule fits nobody, as in PgBouncer: clear them".into(), false);
                }
                rules.push(rule);
            }
            Err(why) => warn(why, true),
        }
    }
    (Rules(rules), warnings)
}

struct Reader<'a> {
    words: Words<'a>,
    maps: &'a Maps,
    read: &'a mut dyn FnMut(&str) -> Result<String, String>,
}

impl Reader<'_> {
    fn rule(&mut self, line: usize) -> Result<Option<Rule>, String> {
        let Some(kind) = self.words.next()? else {
            return Ok(None);
        };
        let kind = match &kind {
            Word::Bare(text) => match text.as_str() {
                "local" => Kind::Local,
                "host" => Kind::Host,
                "hostssl" => Kind::HostSsl,
                "hostnossl" => Kind::HostNoSsl,
                _ => {
                    return Err(format!(
                        "\"{text}\" is none of local, host, hostssl, hostnossl"
                    ));
                }
            },
            Word::Quoted(_) | Word::Comma => {
                return Err("a line begins with local, host, hostssl or hostnossl".into());
            }
        };
        let (mut databases, mut users) = (Names::default(), Names::default());
        names(&mut databases, &mut self.words, self.read, DEPTH)?;
        names(&mut users, &mut self.words, self.read, DEPTH)?;
        let addresses = match kind {
            Kind::Local => Addresses::All,
            Kind::Host | Kind::HostSsl | Kind::HostNoSsl => self.addresses()?,
        };
        let method = self.method(kind)?;
        Ok(Some(Rule {
            line,
            kind,
            databases,
            users,
            addresses,
            method,
        }))
    }

    fn bare(&mut self, what: &str) -> Result<String, String> {
        match self.words.next()? {
            Some(Word::Bare(text)) => Ok(text),
            Some(Word::Quoted(text)) => Err(format!("expected {what}, found \"{text}\" in quotes")),
            Some(Word::Comma) => Err(format!("expected {what}, found a comma")),
            None => Err(format!("{what} is missing")),
        }
    }

    fn addresses(&mut self) -> Result<Addresses, String> {
        let text = self.bare("an address")?;
        if text == "all" {
            return Ok(Addresses::All);
        }
        if let Some((address, bits)) = text.split_once('/') {
            let address = ip(address)?;
            let net = bits
                .parse()
                .ok()
                .and_then(|bits| IpNet::new(address, bits).ok());
            return net
                .map(|net| from(address, net))
                .ok_or_else(|| format!("\"{bits}\" is no length of a mask for {address}"));
        }
        let address = ip(&text)?;
        let mask = ip(&self.bare("a mask")?)?;
        let net = IpNet::with_netmask(address, mask);
        net.map(|net| from(address, net))
            .map_err(|_| format!("{mask} is no mask for {address}"))
    }

    fn method(&mut self, kind: Kind) -> Result<Method, String> {
        let name = self.bare("a method")?;
        if name == "ldap" {
            let options = std::mem::replace(&mut self.words, Words::of(""));
            return Ok(Method::Ldap(Arc::new(Directory::parse(options.rest())?)));
        }
        let mut map = None;
        while let Some(word) = self.words.next()? {
            let option = word.text().unwrap_or(",").to_owned();
            let Some(name) = option.strip_prefix("map=") else {
                return Err(format!(
                    "\"{option}\" is not supported; the one option is map=NAME"
                ));
            };
            let name = match self.words.peek()? {
                Some(Word::Quoted(quoted)) if name.is_empty() => {
                    self.words.next()?;
                    quoted
                }
                _ => name.to_owned(),
            };
            let known = self.maps.get(&name);
            map = Some(Arc::clone(known.ok_or_else(|| {
                format!("there is no map \"{name}\" in auth_ident_file")
            })?));
        }
        let takes_map = matches!(name.as_str(), "peer" | "cert");
        if map.is_some() && !takes_map {
            return Err(format!("map= is for peer and cert, not for {name}"));
        }
        match name.as_str() {
            "trust" => Ok(Method::Trust),
            "reject" => Ok(Method::Reject),
            "md5" => Ok(Method::Md5),
            "password" => Ok(Method::Password),
            "scram-sha-256" => Ok(Method::ScramSha256),
            "peer" if kind != Kind::Local => Err("peer is for local lines only".into()),
            "peer" => Ok(Method::Peer(map)),
            "cert" => Ok(Method::Cert(map)),
            _ => Err(format!(
                "\"{name}\" is none of trust, reject, md5, password, scram-sha-256, peer, cert, ldap"
            )),
        }
    }
}

fn ip(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| {
        format!("\"{text}\" is no address; host names, samehost and samenet are not supported")
    })
}

fn from(address: IpAddr, net: IpNet) -> Addresses {
    if net.network() == address {
        Addresses::Net(net)
    } else {
        Addresses::Nobody
    }
}

/// Reads a list of names into `into`. Database and user are read alike: PgBouncer takes the keywords of both in either.
fn names(
    into: &mut Names,
    words: &mut Words<'_>,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
    depth: usize,
) -> Result<(), String> {
    loop {
        match words.next()? {
            None => return Err("a name is missing".into()),
            Some(Word::Comma) => return Err("a name is missing before a comma".into()),
            Some(Word::Quoted(text)) => {
                into.names.insert(text);
            }
            Some(Word::Bare(text)) => match text.as_str() {
                "all" => into.all = true,
                "sameuser" => into.same_user = true,
                "replication" => into.replication = true,
                "samerole" | "samegroup" => return Err(format!("{text} is not supported")),
                _ if text.starts_with('+') => {
                    return Err(format!("groups are not supported (\"{text}\")"));
                }
                _ => match text.strip_prefix('@') {
                    None => {
                        into.names.insert(text);
                    }
                    Some(file) => names_of(into, file, read, depth)?,
                },
            },
        }
        if words.peek()? != Some(Word::Comma) {
            return Ok(());
        }
        words.next()?;
    }
}

/// Reads the names of a file: a list on each line.
fn names_of(
    into: &mut Names,
    file: &str,
    read: &mut dyn FnMut(&str) -> Result<String, String>,
    depth: usize,
) -> Result<(), String> {
    let depth = depth
        .checked_sub(1)
        .ok_or_else(|| format!("files of names are nested too deep at \"{file}\""))?;
    let text = read(file).map_err(|why| format!("cannot read \"@{file}\": {why}"))?;
    for (index, line) in text.lines().enumerate() {
        let mut words = Words::of(line);
        if words.peek()?.is_none() {
            continue;
        }
        let within = |why: String| format!("{file}:{}: {why}", index + 1);
        names(into, &mut words, read, depth).map_err(within)?;
        if words.next().map_err(within)?.is_some() {
            return Err(within("names are separated by commas".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
