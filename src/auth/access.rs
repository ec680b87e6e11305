//! What the files and options about logins say, beside passwords: read at the start and at each reload.

use std::sync::Arc;

use crate::auth::directory::Directory;
use crate::auth::hba::Rules;

/// What the files and options about logins say.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Of `auth_hba_file`.
    pub rules: Rules,
    /// Of `auth_ldap_options`.
    pub directory: Option<Arc<Directory>>,
}
