//! Simulated mounts beneath a space, which can be unmounted and mounted again.

use std::collections::BTreeMap;

use mill_model::{ContentId, StoreAddress};
use mill_ports::Place;

use super::items::{StoredEntry, StoredSpace};

/// The mounts of a space, by path.
#[derive(Debug, Default)]
pub(super) struct SimulatedMounts(BTreeMap<String, SimulatedMount>);

#[derive(Debug)]
struct SimulatedMount {
    identity: String,
    /// The entries beneath it, while it is not mounted.
    away: Option<BTreeMap<ContentId, StoredEntry>>,
}

impl SimulatedMounts {
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    pub(super) fn add(&mut self, path: &str, identity: &str) {
        self.0.insert(path.to_owned(), SimulatedMount { identity: identity.to_owned(), away: None });
    }
}

impl StoredSpace {
    /// All places of the space that are mounted now.
    pub(super) fn places(&self, store: &StoreAddress) -> Vec<Place> {
        let mounted = self.mounts.0.iter().filter(|(_, mount)| mount.away.is_none());
        let mounted = mounted.map(|(path, mount)| Place { path: path.clone(), identity: mount.identity.clone() });
        std::iter::once(root(store)).chain(mounted).collect()
    }

    pub(super) fn set_mounted(&mut self, path: &str, mounted: bool) {
        let Self { entries, mounts, .. } = self;
        let Some(mount) = mounts.0.get_mut(path) else { return };
        match (mounted, mount.away.take()) {
            // The mount hides the entries that were written into the mount point meanwhile.
            (true, Some(away)) => {
                entries.retain(|id, _| !id.as_str().starts_with(path));
                entries.extend(away);
            }
            (false, None) => {
                mount.away = Some(entries.extract_if(.., |id, _| id.as_str().starts_with(path)).collect());
            }
            (_, away) => mount.away = away,
        }
    }
}

/// The place of a memory store's root.
pub(super) fn root(store: &StoreAddress) -> Place {
    Place { path: String::new(), identity: format!("memory:{store}") }
}
