//! PAM's service `pgbouncer`, as long as a test needs it: it lets in `app` with the password `app`.
//!
//! PAM reads it where only root may write. What stood there is put back, also after a test that was killed; one test at a time,
//! of all that run on this machine, has it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pooler::cli::postgres::our_uid;

use super::folder;

const PLACE: &str = "/etc/pam.d/pgbouncer";
const ASIDE: &str = "/etc/pam.d/pgbouncer.put-aside-by-a-test";
const MARK: &str = "# written by a test of pooler, which takes it away again\n";

/// The modules ask this for the password. `banned` has the right one, and no account.
const CHECK: &str = "#!/bin/sh
case \"$PAM_USER:$(tr -d '\\0')\" in app:app | banned:banned) exit 0 ;; esac
exit 1
";

/// The service. Dropping it puts back what was there before.
pub struct Service {
    /// Held as long as the service is ours.
    _lock: File,
    folder: PathBuf,
}

impl Service {
    /// Puts the service in its place.
    ///
    /// # Panics
    /// When we are not root.
    #[track_caller]
    pub fn install() -> Self {
        assert_eq!(
            our_uid().expect("a process may ask who it is"),
            0,
            "tests of auth_type = pam need root, since PAM reads {PLACE}: sudo -E cargo test --features pam --test suite -- pam"
        );
        let lock = std::env::temp_dir().join("pooler-tests-pam.lock");
        let lock = File::create(lock).expect("the temporary folder is writable");
        lock.lock().expect("a lock can be waited for");
        let folder = folder("pam");
        let script = folder.join("check");
        fs::write(&script, CHECK).expect("the folder is writable");
        fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("the file is ours");
        let ours = fs::read_to_string(PLACE).is_ok_and(|text| text.starts_with(MARK));
        if Path::new(PLACE).exists() && !ours {
            fs::rename(PLACE, ASIDE).expect("root may write there");
        }
        let rules = format!(
            "{MARK}auth required pam_exec.so quiet expose_authtok {}\naccount required pam_succeed_if.so quiet user != banned\n",
            script.display()
        );
        fs::write(PLACE, rules).expect("root may write there");
        Self {
            _lock: lock,
            folder,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(fs::remove_file(PLACE));
        drop(fs::rename(ASIDE, PLACE));
        drop(fs::remove_dir_all(&self.folder));
    }
}
