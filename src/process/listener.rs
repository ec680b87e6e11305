//! Where clients knock: TCP and Unix sockets, opened here or handed over.

use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::config::settings::Settings;
use crate::net::letter::Letter;
use crate::net::socket::{knock, unix_name};
use crate::net::stream::Address;
use crate::pools::registry::Door;

/// A socket that listens.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// Where it listens, to be shown.
    pub place: String,
    /// The file of a Unix socket that is ours to remove.
    path: Option<PathBuf>,
    kind: Kind,
    local: Option<Address>,
}

/// What a listening socket is, and whose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Our own, over TCP.
    Tcp,
    /// Our own, a Unix socket.
    Unix,
    /// Handed over by systemd, which keeps it when we end: it is never shut.
    Handed {
        /// Over TCP.
        is_tcp: bool,
    },
}

impl Listener {
    /// Makes one of a socket that listens.
    ///
    /// # Errors
    /// What the kernel answers.
    fn new(socket: Socket, place: String, path: Option<PathBuf>, kind: Kind) -> io::Result<Self> {
        // One process may share it with another, so all of them do it alike.
        socket.set_nonblocking(true)?;
        let local = match kind {
            Kind::Unix | Kind::Handed { is_tcp: false } => Some(Address::Unix),
            Kind::Tcp | Kind::Handed { is_tcp: true } => {
                // Whoever is accepted inherits it.
                socket.set_tcp_nodelay(true)?;
                let address = socket.local_addr()?.as_socket();
                let of_one = address.filter(|address| !address.ip().is_unspecified());
                of_one.map(Address::Tcp)
            }
        };
        Ok(Self {
            socket,
            place,
            path,
            kind,
            local,
        })
    }

    /// Where its connections end, where it takes those for one address only.
    pub fn local(&self) -> Option<Address> {
        self.local
    }

    /// Whether it is a Unix socket.
    pub fn is_unix(&self) -> bool {
        matches!(self.kind, Kind::Unix | Kind::Handed { is_tcp: false })
    }

    /// Whether somebody else has opened it and keeps it when we end: it must not be shut.
    pub fn is_handed(&self) -> bool {
        matches!(self.kind, Kind::Handed { .. })
    }

    /// The socket itself.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How it is shown; `port` is the one in the name of a Unix socket.
    pub fn door(&self, port: u16) -> Door {
        let address = self.socket.local_addr().ok();
        let place = address.and_then(|address| address.as_socket());
        Door {
            descriptor: self.socket.as_raw_fd(),
            address: place.map_or_else(|| "unix".to_owned(), |place| place.ip().to_string()),
            port: place.map_or(port, |place| place.port()),
        }
    }

    /// Writes down what it is.
    pub fn describe(&self, letter: Letter) -> Letter {
        let path = self.path.as_ref().and_then(|path| path.to_str());
        letter
            .with("place", self.place.as_str())
            .with("path", path.unwrap_or_default())
            .with("is_handed", self.is_handed())
    }

    /// One that another process has opened and passed on.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] when `letter` says too little.
    pub fn taken(letter: &Letter, descriptor: OwnedFd) -> io::Result<Self> {
        let socket = Socket::from(descriptor);
        let is_tcp = !socket.local_addr()?.is_unix();
        let kind = match (letter.says("is_handed")?, is_tcp) {
            (true, is_tcp) => Kind::Handed { is_tcp },
            (false, true) => Kind::Tcp,
            (false, false) => Kind::Unix,
        };
        let path = Some(letter.text("path")?).filter(|path| !path.is_empty());
        let place = letter.text("place")?.to_owned();
        let listener = Self::new(socket, place, path.map(PathBuf::from), kind)?;
        tracing::info!("listening on {}", listener.place);
        Ok(listener)
    }

    /// Removes the file of a Unix socket that is ours.
    pub fn remove_path(&self) {
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens all listening sockets that the settings name, or takes those that were `handed` over instead.
///
/// # Errors
/// Says which address could not be had and why; addresses that fail are skipped while another one works.
pub fn open(settings: &Settings, handed: Vec<Socket>) -> Result<Vec<Listener>, String> {
    let all = &settings.pooler;
    if !handed.is_empty() {
        return take_over(handed);
    }
    let (mut listeners, mut problems) = (Vec::new(), Vec::new());
    if !all.unix_socket_dir.is_empty() {
        let path =
            PathBuf::from(&all.unix_socket_dir).join(format!(".s.PGSQL.{}", all.listen_port));
        match open_unix(&path, settings) {
            Ok(listener) => listeners.push(listener),
            Err(error) => problems.push(format!("cannot listen on {}: {error}", path.display())),
        }
    }
    // TCP comes last: whoever finds the port open may use the socket, too.
    for address in addresses(settings, &mut problems) {
        match open_tcp(address, settings) {
            Ok(listener) => listeners.push(listener),
            Err(error) => problems.push(format!("cannot listen on {address}: {error}")),
        }
    }
    if listeners.is_empty() {
        return Err(problems.join("; "));
    }
    for problem in problems {
        tracing::warn!("{problem}");
    }
    for listener in &listeners {
        tracing::info!("listening on {}", listener.place);
    }
    Ok(listeners)
}

fn take_over(handed: Vec<Socket>) -> Result<Vec<Listener>, String> {
    tracing::warn!(
        "listening on sockets passed by systemd: listen_addr, listen_port and unix_socket_dir are ignored"
    );
    let problem = |error: io::Error| format!("a socket passed by systemd: {error}");
    let mut listeners = Vec::new();
    for socket in handed {
        let address = socket.local_addr().map_err(problem)?;
        let place = match address.as_socket() {
            Some(address) => address.to_string(),
            None => address.as_pathname().map_or_else(
                || "unix:".to_owned(),
                |path| format!("unix:{}", path.display()),
            ),
        };
        tracing::info!("listening on {place}");
        let is_tcp = address.as_socket().is_some();
        let listener = Listener::new(socket, place, None, Kind::Handed { is_tcp });
        listeners.push(listener.map_err(problem)?);
    }
    Ok(listeners)
}

fn addresses(settings: &Settings, problems: &mut Vec<String>) -> Vec<SocketAddr> {
    let port = settings.pooler.listen_port;
    let mut found = Vec::new();
    for name in &settings.pooler.listen_addr {
        if name == "*" {
            found.push(SocketAddr::from(([0, 0, 0, 0], port)));
            found.push(SocketAddr::from(([0_u16; 8], port)));
            continue;
        }
        match (name.as_str(), port).to_socket_addrs() {
            Ok(addresses) => found.extend(addresses),
            Err(error) => problems.push(format!("listen_addr {name}: {error}")),
        }
    }
    found.sort();
    found.dedup();
    found
}

fn open_tcp(address: SocketAddr, settings: &Settings) -> io::Result<Listener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if settings.pooler.so_reuseport {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    let place = socket
        .local_addr()?
        .as_socket()
        .map_or_else(|| address.to_string(), |local| local.to_string());
    listen(socket, settings, place, None, Kind::Tcp)
}

fn open_unix(path: &Path, settings: &Settings) -> io::Result<Listener> {
    if knock(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process listens there",
        ));
    }
    let is_abstract = path.as_os_str().as_encoded_bytes().starts_with(b"@");
    let place = format!("unix:{}", path.display());
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if is_abstract {
        // No file: nobody owns it, and nothing is left of it.
        socket.bind(&SockAddr::unix(unix_name(path))?)?;
        return listen(socket, settings, place, None, Kind::Unix);
    }
    let _ = fs::remove_file(path);
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(group) = &settings.pooler.unix_socket_group {
        std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
    }
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(settings.pooler.unix_socket_mode),
    )?;
    listen(socket, settings, place, Some(path.to_owned()), Kind::Unix)
}

/// The number of a group that is given by name or number.
fn group_id(group: &str) -> io::Result<u32> {
    if let Ok(number) = group.parse() {
        return Ok(number);
    }
    let found = nix::unistd::Group::from_name(group)?;
    let unknown = || io::Error::new(io::ErrorKind::NotFound, format!("no group \"{group}\""));
    Ok(found.ok_or_else(unknown)?.gid.as_raw())
}

fn listen(
    socket: Socket,
    settings: &Settings,
    place: String,
    path: Option<PathBuf>,
    kind: Kind,
) -> io::Result<Listener> {
    socket.listen(i32::try_from(settings.pooler.listen_backlog).unwrap_or(i32::MAX))?;
    Listener::new(socket, place, path, kind)
}
