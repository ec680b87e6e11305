//! Whether a client may come in: what is disabled, and how many there may be.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Login;
use crate::config::settings::Settings;
use crate::config::value::Dialect;
use crate::error::Error;
use crate::pools::limits::{ClientPlaces, Database};
use crate::pools::registry::Phase;

impl Login<'_> {
    pub(super) fn check_open(&self, database: &Database) -> Result<(), Error> {
        if database.disabled.load(Relaxed) {
            return Err(Error::DatabaseDisabled(database.name.clone()));
        }
        if self.registry.phase() != Phase::Serving {
            return Err(Error::NotAdmitting);
        }
        Ok(())
    }

    /// How many clients the database and the user may have; 0 is no limit.
    pub(super) fn client_limits(&self, settings: &Settings, database: &str) -> (usize, usize) {
        let user = &self.startup.user;
        // Who must mend it must get in; for PgBouncer that is, to the console.
        let is_meant = self.dialect == Dialect::Native || database == self.registry.console.name;
        if is_meant && settings.pooler.admin_users.contains(user) {
            return (0, 0);
        }
        (
            settings.effective_max_db_client_connections(database),
            settings.effective_max_user_client_connections(user),
        )
    }

    /// Where a `pgbouncer.ini` is served, a client for whom there is no room hears so before it is asked for its proof. It takes
    /// its places afterwards all the same: who has proven nothing takes none away from others.
    pub(super) fn check_room(&self, settings: &Settings) -> Result<(), Error> {
        if self.dialect == Dialect::Native {
            return Ok(());
        }
        let name = &self.startup.database;
        let Some(database) = self.registry.known_database(name) else {
            return Ok(());
        };
        self.check_room_of(&database, self.client_limits(settings, name))
    }

    pub(super) fn check_room_of(
        &self,
        database: &Database,
        (limit, of_user): (usize, usize),
    ) -> Result<(), Error> {
        let user = &self.startup.user;
        let is_full = |limit, used| limit > 0 && used >= limit;
        if is_full(limit, database.clients.used()) {
            return Err(Error::TooManyDatabaseClients(database.name.clone(), limit));
        }
        let owner = self.registry.known_user(user);
        if owner.is_some_and(|owner| is_full(of_user, owner.clients.used())) {
            return Err(Error::TooManyUserClients(user.clone(), of_user));
        }
        Ok(())
    }

    /// Takes the client's places. A database that is being forgotten or reloaded in this moment is looked up again.
    pub(super) fn take_places(
        &self,
        settings: &Settings,
        name: &str,
    ) -> Result<ClientPlaces, Error> {
        loop {
            let database = self
                .registry
                .database(name)
                .ok_or_else(|| Error::NoSuchDatabase(name.to_owned()))?;
            self.check_open(&database)?;
            let places = self.take_places_of(settings, &database, false)?;
            if self.registry.is_current(&database) {
                return Ok(places);
            }
        }
    }

    pub(super) fn take_places_of(
        &self,
        settings: &Settings,
        database: &Arc<Database>,
        is_exempt: bool,
    ) -> Result<ClientPlaces, Error> {
        let user = &self.startup.user;
        let (limit, of_user) = if is_exempt {
            (0, 0)
        } else {
            self.client_limits(settings, &database.name)
        };
        if !database.clients.take(limit) {
            return Err(Error::TooManyDatabaseClients(database.name.clone(), limit));
        }
        let owner = self.registry.user(user);
        if !owner.clients.take(of_user) {
            database.clients.give_back();
            return Err(Error::TooManyUserClients(user.clone(), of_user));
        }
        Ok(ClientPlaces {
            database: Arc::clone(database),
            user: owner,
        })
    }
}
