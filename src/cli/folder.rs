//! Where servers live for a while: a folder that goes again.
//!
//! The user that runs them must reach it, nobody else may enter it, and the paths of sockets in it must be short.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::postgres::{Account, is_reachable};
use crate::cli::problem::Problem;
use crate::clock;

/// A folder that goes when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    /// A new folder in a temporary place that `account` can reach, theirs, closed to everybody else.
    ///
    /// # Errors
    /// [`Problem::NoFolder`] when there is no such place, [`Problem::Io`] when it takes no folder.
    pub fn new(account: Option<&Account>) -> Result<Self, Problem> {
        /// A socket's path must fit into 107 bytes, of which `/pooler-0123456789abcdef/.s.PGSQL.65535` takes 40.
        const LONGEST: usize = 67;
        let parent = [
            std::env::temp_dir(),
            PathBuf::from("/tmp"),
            PathBuf::from("/var/tmp"),
        ]
        .into_iter()
        .filter(|place| place.is_absolute() && place.as_os_str().len() <= LONGEST)
        .find(|place| place.is_dir() && (account.is_none() || is_reachable(place)))
        .ok_or(Problem::NoFolder)?;
        let name = format!("pooler-{:016x}", u64::from_ne_bytes(clock::entropy()));
        let folder = parent.join(name);
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(Problem::io(format!("making {}", folder.display())))?;
        let folder = Self(folder);
        account.map_or(Ok(()), |account| account.own(&folder.0))?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}
