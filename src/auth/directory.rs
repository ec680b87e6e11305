//! How a directory (LDAP) is asked whether a password is right: PgBouncer's and PostgreSQL's options.
//!
//! Two ways, never mixed. *Prefix and suffix* make the name to log in with out of the user's. *Search and bind* looks for the
//! one entry that has the user's name, then logs in as that entry.

use crate::secret::Secret;

/// The attribute that holds the user's name, where nothing else is said.
const ATTRIBUTE: &str = "uid";
/// What stands for the user in `ldapsearchfilter`.
const USERNAME: &str = "$username";

/// Where the directory is, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The servers in the order in which they are tried, as URLs.
    pub servers: Vec<String>,
    /// Whether a connection in clear asks for TLS before anything else (`ldaptls`).
    pub start_tls: bool,
    /// How the entry of a user is found.
    pub way: Way,
}

/// How the entry of a user is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// The user's name between these two.
    Around {
        /// `ldapprefix`.
        prefix: String,
        /// `ldapsuffix`.
        suffix: String,
    },
    /// By a search.
    Search(Search),
}

/// A search for the entry of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// Who searches; empty for anybody.
    pub bind_dn: String,
    /// The password of `bind_dn`.
    pub bind_password: Secret,
    /// Where the search begins.
    pub base: String,
    /// How deep it goes.
    pub scope: Scope,
    filter: String,
}

/// How deep a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The entry itself.
    Base,
    /// Those right below it.
    One,
    /// All below it.
    Sub,
}

impl Search {
    /// The filter for `user`, whose name cannot change its meaning.
    pub fn filter(&self, user: &str) -> String {
        self.filter.replace(USERNAME, &escaped(user))
    }
}

impl Directory {
    /// Reads options: `key=value`, separated by blanks or commas, with double quotes around what holds either.
    ///
    /// # Errors
    /// What is wrong with them. Passwords are not repeated.
    pub fn parse(options: &str) -> Result<Self, String> {
        let mut given = Given::default();
        for item in items(options)? {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| format!("expected key=value, found \"{}\"", word_only(&item)))?;
            given.set(key.trim(), value.trim())?;
        }
        given.settle()
    }
}

/// What may be shown of an item that is no option: a password may stand in it.
fn word_only(item: &str) -> &str {
    let end = item.find(|letter: char| !letter.is_ascii_alphanumeric());
    &item[..end.unwrap_or(item.len()).min(20)]
}

/// The items of a list: blanks and commas separate them outside of quotes, and quotes may begin anywhere in one.
fn items(options: &str) -> Result<Vec<String>, String> {
    let (mut found, mut item, mut is_quoted, mut is_begun) =
        (Vec::new(), String::new(), false, false);
    let mut letters = options.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                item.push('"');
            }
            '"' => (is_quoted, is_begun) = (!is_quoted, true),
            _ if is_quoted || !(letter == ',' || letter.is_whitespace()) => {
                item.push(letter);
                is_begun = true;
            }
            _ => {
                if is_begun {
                    found.push(std::mem::take(&mut item));
                }
                is_begun = false;
            }
        }
    }
    if is_quoted {
        return Err("a quote is not closed".into());
    }
    if is_begun {
        found.push(item);
    }
    Ok(found)
}

#[derive(Default)]
struct Given {
    tls: bool,
    scheme: Option<String>,
    server: Option<String>,
    port: Option<u16>,
    bind_dn: Option<String>,
    bind_password: Option<Secret>,
    attribute: Option<String>,
    filter: Option<String>,
    base: Option<String>,
    scope: Option<Scope>,
    prefix: Option<String>,
    suffix: Option<String>,
}

impl Given {
    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let text = Some(value.to_owned());
        match key {
            "ldaptls" => {
                self.tls = match value {
                    "1" => true,
                    "0" => false,
                    _ => return Err("ldaptls is 0 or 1".into()),
                }
            }
            "ldapscheme" => self.scheme = Some(scheme(value)?),
            "ldapserver" => self.server = text,
            "ldapport" => self.port = Some(port(value)?),
            "ldapbinddn" => self.bind_dn = text,
            "ldapbindpasswd" => self.bind_password = Some(Secret::new(value)),
            "ldapsearchattribute" => self.attribute = text,
            "ldapsearchfilter" => self.filter = text,
            "ldapbasedn" => self.base = text,
            "ldapprefix" => self.prefix = text,
            "ldapsuffix" => self.suffix = text,
            "ldapurl" => self.url(value)?,
            _ => return Err(format!("\"{}\" is no option of ldap", word_only(key))),
        }
        Ok(())
    }

    /// `scheme://host:port/base?attribute?scope?filter` (RFC 4516).
    fn url(&mut self, url: &str) -> Result<(), String> {
        let (name, rest) = url
            .split_once("://")
            .ok_or("ldapurl must begin with ldap:// or ldaps://")?;
        self.scheme = Some(scheme(name)?);
        let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err("ldapurl must not hold a user; use ldapbinddn".into());
        }
        if !host.is_empty() {
            self.server = Some(host.to_owned());
        }
        let mut parts = rest.splitn(4, '?');
        let mut part = || parts.next().unwrap_or_default();
        let (base, attribute, depth, filter) = (part(), part(), part(), part());
        if !base.is_empty() {
            self.base = Some(unescaped(base)?);
        }
        if !attribute.is_empty() {
            self.attribute = Some(unescaped(attribute)?);
        }
        self.scope = Some(match depth {
            "" | "base" => Scope::Base,
            "one" => Scope::One,
            "sub" => Scope::Sub,
            _ => return Err("the scope in ldapurl is base, one or sub".into()),
        });
        if !filter.is_empty() {
            self.filter = Some(unescaped(filter)?);
        }
        Ok(())
    }

    fn settle(self) -> Result<Directory, String> {
        let scheme = self.scheme.unwrap_or_else(|| "ldap".to_owned());
        if self.tls && scheme == "ldaps" {
            return Err(
                "ldaptls=1 and ldaps exclude each other: ldaps is TLS from its first byte".into(),
            );
        }
        let hosts = self.server.as_deref().unwrap_or_default();
        let usual = if scheme == "ldaps" { 636 } else { 389 };
        let port = self.port.unwrap_or(usual);
        let servers: Vec<_> = hosts
            .split_whitespace()
            .map(|host| address(&scheme, host, port))
            .collect();
        if servers.is_empty() {
            return Err("ldapserver (or a host in ldapurl) is missing".into());
        }
        let is_around = self.prefix.is_some() || self.suffix.is_some();
        let is_search = self.base.is_some()
            || self.bind_dn.is_some()
            || self.bind_password.is_some()
            || self.attribute.is_some()
            || self.filter.is_some();
        if is_around && is_search {
            return Err("ldapprefix and ldapsuffix cannot stand beside ldapbasedn, ldapbinddn, ldapbindpasswd, \
                ldapsearchattribute or ldapsearchfilter"
                .into());
        }
        let way = if is_around {
            Way::Around {
                prefix: self.prefix.unwrap_or_default(),
                suffix: self.suffix.unwrap_or_default(),
            }
        } else {
            let base = self
                .base
                .ok_or("one of ldapbasedn, ldapprefix and ldapsuffix is needed")?;
            if self.filter.is_some() && self.attribute.is_some() {
                return Err("ldapsearchattribute and ldapsearchfilter exclude each other".into());
            }
            let attribute = self.attribute.as_deref().unwrap_or(ATTRIBUTE);
            let filter = self
                .filter
                .unwrap_or_else(|| format!("({attribute}={USERNAME})"));
            Way::Search(Search {
                bind_dn: self.bind_dn.unwrap_or_default(),
                bind_password: self.bind_password.unwrap_or_default(),
                base,
                scope: self.scope.unwrap_or(Scope::Sub),
                filter,
            })
        };
        Ok(Directory {
            servers,
            start_tls: self.tls,
            way,
        })
    }
}

fn scheme(value: &str) -> Result<String, String> {
    let value = value.to_ascii_lowercase();
    match value.as_str() {
        "ldap" | "ldaps" => Ok(value),
        _ => Err("the scheme is ldap or ldaps".into()),
    }
}

fn port(value: &str) -> Result<u16, String> {
    let port = value.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| "ldapport is a number from 1 to 65535".to_owned())
}

/// The URL of a server; `host` may have a port of its own, and an IPv6 address needs no brackets.
fn address(scheme: &str, host: &str, port: u16) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
        port.parse::<u16>().is_ok() && (!name.contains(':') || name.ends_with(']'))
    });
    if has_port {
        format!("{scheme}://{host}")
    } else if host.contains(':') && !host.starts_with('[') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

/// `%xx` taken out of a part of a URL.
fn unescaped(text: &str) -> Result<String, String> {
    let broken = || "a broken %-escape in ldapurl".to_owned();
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2).ok_or_else(broken)?;
        let digits = std::str::from_utf8(digits).map_err(|_| broken())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| broken())
}

/// A value for a filter (RFC 4515): what has a meaning there loses it.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for letter in value.chars() {
        match letter {
            '*' | '(' | ')' | '\\' | '\0' => out.push_str(&format!("\\{:02x}", u32::from(letter))),
            _ => out.push(letter),
        }
    }
    out
}

/// The name to log in with: `user` between `prefix` and `suffix`. Where these make a distinguished name of it, a user's name
/// cannot add a part to it (RFC 4514).
pub fn bind_name(prefix: &str, user: &str, suffix: &str) -> String {
    if !prefix.trim_end().ends_with('=') {
        return format!("{prefix}{user}{suffix}");
    }
    let mut name = prefix.to_owned();
    let last = user.chars().count().saturating_sub(1);
    for (index, letter) in user.chars().enumerate() {
        let is_edge =
            (letter == ' ' && (index == 0 || index == last)) || (letter == '#' && index == 0);
        if is_edge || matches!(letter, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') {
            name.push('\\');
        }
        name.push(letter);
    }
    name.push_str(suffix);
    name
}

#[cfg(test)]
mod tests {
    use super::{Directory, Scope, Way, bind_name};

    fn search(options: &str) -> super::Search {
        match Directory::parse(options).unwrap().way {
            Way::Search(search) => search,
            Way::Around { .. } => panic!("no search: {options}"),
        }
    }

    #[test]
    fn a_search_is_read_from_keys_or_from_a_url() {
        let keys = "ldapserver=127.0.0.1 ldapport=3389, ldapbasedn=\"dc=example,dc=net\" ldapsearchattribute=cn";
        let directory = Directory::parse(keys).unwrap();
        assert_eq!(directory.servers, ["ldap://127.0.0.1:3389"]);
        assert_eq!(search(keys).filter("ann"), "(cn=ann)");
        assert_eq!(search(keys).scope, Scope::Sub);

        let url = "ldapurl=\"ldaps://h:1636/dc=example%2Cdc=net??one?(&(a=b)(uid=$username))\"";
        assert_eq!(Directory::parse(url).unwrap().servers, ["ldaps://h:1636"]);
        let found = search(url);
        assert_eq!(
            (found.base.as_str(), found.scope, found.filter("x").as_str()),
            ("dc=example,dc=net", Scope::One, "(&(a=b)(uid=x))")
        );
    }

    #[test]
    fn several_servers_are_tried_in_their_order() {
        let options =
            "ldapserver=\"bad good:390 ::1\" ldapprefix=\"uid=\" ldapsuffix=\",dc=x\" ldaptls=1";
        let directory = Directory::parse(options).unwrap();
        assert_eq!(
            directory.servers,
            ["ldap://bad:389", "ldap://good:390", "ldap://[::1]:389"]
        );
        assert!(directory.start_tls);
        let around = Way::Around {
            prefix: "uid=".into(),
            suffix: ",dc=x".into(),
        };
        assert_eq!(directory.way, around);
    }

    #[test]
    fn whole_options_may_be_in_quotes() {
        assert_eq!(
            search("ldapserver=h \"ldapbasedn=dc=a, dc=b\"").base,
            "dc=a, dc=b"
        );
    }

    #[test]
    fn a_users_name_cannot_change_what_is_asked() {
        let search = search("ldapserver=h ldapbasedn=dc=x");
        assert_eq!(search.filter("*)(uid=root"), "(uid=\\2a\\29\\28uid=root)");
        assert_eq!(bind_name("uid=", "a,dc=y", ",dc=x"), "uid=a\\,dc\\=y,dc=x");
        assert_eq!(bind_name("", "ann", "@corp.example"), "ann@corp.example");
        assert_eq!(bind_name("CORP\\", "ann", ""), "CORP\\ann");
    }

    #[test]
    fn what_is_mixed_missing_or_unknown_is_refused_and_no_password_repeated() {
        for options in [
            "",
            "ldapserver=h",
            "ldapbasedn=dc=x",
            "ldapserver=h ldapprefix=a ldapbasedn=b",
            "ldapserver=h ldapbasedn=b ldapsearchattribute=a ldapsearchfilter=(b=c)",
            "ldapserver=h ldapbasedn=b ldapport=0",
            "ldapserver=h ldapbasedn=b ldapscheme=http",
            "ldapserver=h ldapbasedn=b ldaptls=yes",
            "ldapserver=h ldapbasedn=\"b",
            "ldapurl=ldap://h/dc=x?a?deep",
            "ldapurl=ldap://h/dc=x%2",
            "ldapscheme=ldaps ldaptls=1 ldapserver=h ldapbasedn=b",
            "ldapserver=h ldapbasedn=b ldapbindpassword=hunter2",
            "ldapserver=h hunter2",
        ] {
            let told = Directory::parse(options).expect_err(options);
            assert!(
                !told.contains("hunter2") || options.ends_with(" hunter2"),
                "{told}"
            );
        }
    }
}
