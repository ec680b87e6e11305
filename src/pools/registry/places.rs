//! Places that pools share: freed by one for another that starves, and taken in turn.

use super::Registry;
use crate::pools::pool::Pool;

impl Registry {
    /// Frees a server's place in `database` for `starving`.
    pub fn evict_for_database(&self, database: &str, starving: &Pool) {
        self.evict(starving, |pool| pool.database.name == database);
    }

    /// Frees a server's place of `user` for `starving`.
    pub fn evict_for_user(&self, user: &str, starving: &Pool) {
        self.evict(starving, |pool| pool.user == user);
    }

    fn evict(&self, starving: &Pool, belongs: impl Fn(&Pool) -> bool) {
        let victim = self
            .pools()
            .into_iter()
            .filter(|pool| !std::ptr::eq(&raw const **pool, &raw const *starving) && belongs(pool))
            .filter_map(|pool| pool.oldest_idle().map(|used| (used, pool)))
            .min_by_key(|(used, _)| *used);
        if let Some((_, pool)) = victim {
            pool.evict_one();
        }
    }

    /// Lets every pool open what its clients wait for; the pool whose client has waited longest comes first, so that none
    /// gets all the places that they share.
    pub fn grow_all(&self) {
        let mut waiting: Vec<_> = self
            .pools_and_guests()
            .into_iter()
            .filter_map(|pool| pool.standing().oldest.map(|oldest| (oldest, pool)))
            .collect();
        waiting.sort_by_key(|(oldest, _)| *oldest);
        for (_, pool) in waiting {
            pool.grow();
        }
    }
}
