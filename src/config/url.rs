//! Where those are who keep a cluster: `http://host:port`.

/// Where a server is: `http://host:port` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// TLS.
    pub is_secure: bool,
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Url {
    /// Reads `text`. A path behind the address is left out: `http://10.0.0.11:8008/patroni` names a server.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let refuse = || format!("{text:?} is no address of a server (http://host:port)");
        let (is_secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some(_) | None => return Err(refuse()),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(refuse)?;
                (host, rest.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let usual = if is_secure { 443 } else { 80 };
        let port = port.map_or(Ok(usual), str::parse).map_err(|_| refuse())?;
        let is_fine = |letter: char| letter.is_ascii_alphanumeric() || ".-_:".contains(letter);
        if host.is_empty() || port == 0 || !host.chars().all(is_fine) {
            return Err(refuse());
        }
        Ok(Self {
            is_secure,
            host: host.to_owned(),
            port,
        })
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn addresses_are_read() {
        let read = |text| Url::parse(text).map(|url| (url.is_secure, url.authority()));
        assert_eq!(read("http://a:8008"), Ok((false, "a:8008".to_owned())));
        assert_eq!(read("https://a/patroni"), Ok((true, "a:443".to_owned())));
        assert_eq!(read("http://[::1]:1"), Ok((false, "[::1]:1".to_owned())));
        for text in [
            "a:8008",
            "ftp://a",
            "http://",
            "http://a:x",
            "http://a b",
            "http://u@a",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
