//! A real directory: OpenLDAP's slapd, as installed or unpacked beside the system, with a few people in it.
//!
//! | name | password | where |
//! |---|---|---|
//! | `app`, `ann` | as the name | `uid=…,ou=people,dc=example,dc=net` |
//! | `twin` | `twin` | twice, in `ou=people` and in `ou=others` |
//! | `cn=reader,dc=example,dc=net` | `reader's own` | may search, as anybody may |

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use ::pooler::cli::cluster::free_port;

use super::packages;
use super::tls::{Authority, Identity};
use super::wire::PATIENCE;
use super::{eventually, folder, guard, unguard};

/// Where everything lies below.
pub const BASE: &str = "dc=example,dc=net";

const PEOPLE: &str = "\
dn: dc=example,dc=net
objectClass: domain
dc: example

dn: ou=people,dc=example,dc=net
objectClass: organizationalUnit
ou: people

dn: ou=others,dc=example,dc=net
objectClass: organizationalUnit
ou: others

dn: cn=reader,dc=example,dc=net
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reader's own
";

/// A running slapd; dropping it ends it.
pub struct Directory {
    child: Child,
    folder: PathBuf,
    /// Speaks LDAP, and TLS when asked.
    pub port: u16,
    /// Speaks LDAP within TLS.
    pub secure_port: u16,
    /// Who signed its certificate, which is for `localhost`.
    pub authority: Authority,
}

struct Programs {
    slapd: PathBuf,
    root: PathBuf,
}

fn programs() -> &'static Programs {
    static FOUND: OnceLock<Programs> = OnceLock::new();
    FOUND.get_or_init(|| {
        let installed = Path::new("/usr/sbin/slapd");
        if !packages::is_forced() && installed.exists() {
            return Programs {
                slapd: installed.into(),
                root: "/".into(),
            };
        }
        let root = packages::unpacked(&["slapd"]);
        let slapd = packages::runnable(&root, &root.join("usr/sbin/slapd"));
        Programs { slapd, root }
    })
}

fn person(name: &str, unit: &str) -> String {
    format!(
        "\ndn: uid={name},ou={unit},{BASE}\nobjectClass: inetOrgPerson\nuid: {name}\ncn: {name}\nsn: {name}\nuserPassword: {name}\n"
    )
}

impl Directory {
    pub fn start() -> Self {
        let Programs { slapd, root } = programs();
        let folder = folder("directory");
        let authority = Authority::new("the directory's authority");
        let Identity { certificate, key } = authority.sign("localhost", &["localhost"]);
        let write = |name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("the folder is writable");
        };
        write("server.crt", &certificate);
        write("server.key", &key);
        write("ca.crt", &authority.pem());
        let people: String = [
            ("app", "people"),
            ("ann", "people"),
            ("twin", "people"),
            ("twin", "others"),
        ]
        .iter()
        .map(|(name, unit)| person(name, unit))
        .collect();
        write("people.ldif", &format!("{PEOPLE}{people}"));
        fs::create_dir(folder.join("data")).expect("the folder is writable");
        let (here, system) = (folder.display(), root.display());
        let library = modules(root);
        write(
            "slapd.conf",
            &format!(
                "include {system}/etc/ldap/schema/core.schema\n\
                 include {system}/etc/ldap/schema/cosine.schema\n\
                 include {system}/etc/ldap/schema/inetorgperson.schema\n\
                 modulepath {}\nmoduleload back_mdb\n\
                 pidfile {here}/slapd.pid\n\
                 TLSCACertificateFile {here}/ca.crt\n\
                 TLSCertificateFile {here}/server.crt\n\
                 TLSCertificateKeyFile {here}/server.key\n\
                 access to attrs=userPassword by anonymous auth by * none\n\
                 access to * by * read\n\
                 database mdb\nsuffix {BASE}\ndirectory {here}/data\nmaxsize 10485760\n",
                library.display()
            ),
        );
        let conf = folder.join("slapd.conf");
        let added = Command::new(slapd)
            .args(["-T", "add", "-f"])
            .arg(&conf)
            .arg("-l")
            .arg(folder.join("people.ldif"))
            .output()
            .expect("slapd can be run");
        assert!(
            added.status.success(),
            "{}",
            String::from_utf8_lossy(&added.stderr)
        );
        let port = free_port().expect("a free port");
        let secure_port = free_port().expect("a free port");
        let child = Command::new(slapd)
            .args(["-d", "0", "-f"])
            .arg(&conf)
            .arg("-h")
            .arg(format!(
                "ldap://127.0.0.1:{port}/ ldaps://127.0.0.1:{secure_port}/"
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("slapd can be run");
        guard(child.id());
        let directory = Self {
            child,
            folder,
            port,
            secure_port,
            authority,
        };
        eventually(PATIENCE, "the directory listens", || {
            [port, secure_port]
                .iter()
                .all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        directory
    }

    /// The text of a file in its folder.
    pub fn ca(&self) -> String {
        self.authority.pem()
    }
}

fn modules(root: &Path) -> PathBuf {
    let plain = root.join("usr/lib/ldap");
    if plain.exists() {
        return plain;
    }
    root.join(format!("usr/lib/{}-linux-gnu/ldap", std::env::consts::ARCH))
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        unguard(self.child.id());
        drop(fs::remove_dir_all(&self.folder));
    }
}
