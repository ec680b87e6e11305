//! Places that pools share: freed by one for another that starves, and taken in turn.

use std::sync::Arc;

use super::Registry;
use crate::pools::limits::Quota;
use crate::pools::pool::Pool;

impl Registry {
    /// Frees a server's place in the database of `starving` for it, unless one is being freed already.
    pub fn evict_for_database(&self, starving: &Pool) {
        let quota = &starving.database.servers;
        self.evict(quota, starving, |pool| {
            pool.database.name == starving.database.name
        });
    }

    /// The same of its user's places.
    pub fn evict_for_user(&self, starving: &Pool) {
        self.evict(&starving.owner.servers, starving, |pool| {
            pool.user == starving.user
        });
    }

    fn evict(&self, quota: &Quota, starving: &Pool, belongs: impl Fn(&Pool) -> bool) {
        if !quota.wants_place() {
            return;
        }
        let victim = self
            .pools()
            .into_iter()
            .filter(|pool| !std::ptr::eq(&raw const **pool, &raw const *starving) && belongs(pool))
            .filter_map(|pool| pool.oldest_idle().map(|used| (used, pool)))
            .min_by_key(|(used, _)| *used);
        let is_freed = victim.is_some_and(|(_, pool)| pool.evict_one());
        if is_freed {
            quota.promise(&starving.arc());
        } else {
            quota.nothing_freed();
        }
    }

    /// The pool beside `pool` that is short of a place of `quota`: of several the one whose client has waited longest.
    pub fn starving_beside(&self, pool: &Pool, quota: &Quota) -> Option<Arc<Pool>> {
        let shares = |other: &Pool| {
            let mut quotas = [&other.database.servers, &other.owner.servers].into_iter();
            quotas.any(|one| std::ptr::eq(one, quota))
        };
        self.pools_and_guests()
            .into_iter()
            .filter(|other| other.id != pool.id && shares(other) && other.is_short())
            .min_by_key(|other| other.headcount().oldest)
    }

    /// Lets every pool open what its clients wait for; the pool whose client has waited longest comes first, so that none
    /// gets all the places that they share.
    pub fn grow_all(&self) {
        let mut waiting: Vec<_> = self
            .pools_and_guests()
            .into_iter()
            .filter_map(|pool| pool.headcount().oldest.map(|oldest| (oldest, pool)))
            .collect();
        waiting.sort_by_key(|(oldest, _)| *oldest);
        for (_, pool) in waiting {
            pool.grow();
        }
    }
}
