//! Users: at the sources they write, overwrite, relabel and delete as they please; at a destination they rewrite an item that is
//! just being deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{AuditAction, ContentId, ItemAddress, Monotonic, Properties, SpaceId};

use super::audit_world::{self, UserChange};
use super::event::{ContentFingerprint, Event, USERS};
use super::fault::SimFault;
use super::sim_store::{HiddenSpace, SimStore};
use super::world::World;

/// Names that users give, some of them difficult: each sorts, escapes or nests in its own way.
const NAMES: [&str; 15] =
    ["a", "b", "c", "a/b", "a b", "a-b", "ä", "z/", "%2F", "a\u{301}", "~", "0", "disk/1", "disk/2", "disk/3"];
/// Names that a store may fold into one of those, or into one another.
const TWINS: [&str; 8] = ["A", "B", "A/b", "a/B", "A/B", "\u{e1}", "\u{c4}", "Z/"];
/// Where a disk is mounted beneath each space of a source.
pub(crate) const DISK: &str = "disk/";

/// The users of one store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Users<'w> {
    pub(crate) world: &'w World,
    pub(crate) sim_store: &'w Arc<SimStore>,
}

impl<'w> Users<'w> {
    /// The users of a random store that users write to.
    pub(crate) fn somewhere(world: &'w World) -> Self {
        let theirs: Vec<&Arc<SimStore>> = world
            .sim_stores
            .values()
            .filter(|sim_store| ["1", "4"].contains(&sim_store.address.store.as_str()))
            .collect();
        Self { world, sim_store: *world.rng.pick(&theirs) }
    }

    fn some_space(&self) -> &'w SpaceId {
        self.world.rng.pick(&self.world.spaces)
    }

    /// All items of the store.
    fn standing(&self) -> Vec<ItemAddress> {
        let of = |space: &SpaceId| {
            let ids = self.sim_store.inner.contents(space).unwrap_or_default().into_keys();
            let space = space.clone();
            ids.map(move |id| ItemAddress { space: space.clone(), id }).collect::<Vec<_>>()
        };
        self.world.spaces.iter().flat_map(of).collect()
    }

    fn some_item(&self) -> Option<ItemAddress> {
        let all = self.standing();
        (!all.is_empty()).then(|| self.world.rng.pick(&all).clone())
    }

    /// Writes an item.
    pub(crate) fn write(&self, item: &ItemAddress, bytes: Vec<u8>, properties: Properties) {
        let fingerprint = ContentFingerprint::of(&bytes, &properties);
        let (store, called) = (&self.sim_store.address, self.world.now());
        if self.sim_store.inner.contents(&item.space).is_none() {
            self.make_space(&item.space);
        }
        self.sim_store.inner.insert(item, bytes, properties);
        let (by, holds) = (USERS, Some(fingerprint));
        self.world.see(&Event::Item { by, store, item, holds, called, first: true, damaged: false });
        self.report(&item.space, Some(&item.id), AuditAction::AddContent, Some(fingerprint.size));
    }

    pub(crate) fn delete(&self, item: &ItemAddress) {
        self.sim_store.inner.remove(item);
        let (by, store, called) = (USERS, &self.sim_store.address, self.world.now());
        self.world.see(&Event::Item { by, store, item, holds: None, called, first: true, damaged: false });
        self.report(&item.space, Some(&item.id), AuditAction::DeleteContent, None);
    }

    /// The store may report what people did.
    fn report(&self, space: &SpaceId, item: Option<&ContentId>, action: AuditAction, size: Option<u64>) {
        audit_world::report(self.world, self.sim_store, &UserChange { space, item, action, size });
    }

    pub(crate) fn make_space(&self, space: &SpaceId) {
        self.sim_store.inner.insert_space(space);
        if self.world.swarm.on.mounts > 0 && !self.sim_store.inner.has_mount(space, DISK) {
            self.sim_store.inner.mount(space, DISK, "disk");
            self.world.see(&Event::Mounted { store: &self.sim_store.address, space, path: DISK, here: true });
        }
        let (by, store) = (USERS, &self.sim_store.address);
        self.world.see(&Event::Space { by, store, space, here: true });
        self.report(space, None, AuditAction::CreateSpace, None);
    }

    pub(crate) fn remove_space(&self, space: &SpaceId) {
        let gone = self.sim_store.inner.contents(space).unwrap_or_default().into_keys();
        let address = &self.sim_store.address;
        audit_world::forget(self.world, gone.map(|id| (address.clone(), ItemAddress { space: space.clone(), id })));
        self.sim_store.inner.remove_space(space);
        let (by, store) = (USERS, &self.sim_store.address);
        self.world.see(&Event::Space { by, store, space, here: false });
    }

    /// Hides a space for a few minutes, with all its items. Returns whether it did.
    pub(crate) fn hide_space(&self, space: &SpaceId) -> bool {
        let Some(contents) = self.sim_store.inner.contents(space) else { return false };
        let until = self.world.now().plus(self.world.rng.duration(Duration::from_mins(1), Duration::from_mins(4)));
        let hidden = self.sim_store.hide(HiddenSpace { space: space.clone(), contents, until });
        if hidden {
            self.remove_space(space);
        }
        hidden
    }

    /// Brings back spaces whose hidden time is over, except for items that users have written meanwhile.
    pub(crate) fn bring_spaces_back(world: &World, now: Monotonic) {
        for sim_store in world.sim_stores.values() {
            let Some(HiddenSpace { space, contents, .. }) = sim_store.hidden_until(now) else { continue };
            let users = Users { world, sim_store };
            if sim_store.inner.contents(&space).is_none() {
                users.make_space(&space);
            }
            let unmounted = world.model(|model| model.is_unmounted(&sim_store.address, &space));
            for (id, (bytes, properties)) in contents {
                let under_disk = id.as_str().starts_with(DISK);
                let item = ItemAddress { space: space.clone(), id };
                if sim_store.inner.content(&item).is_none() && !(under_disk && unmounted) {
                    users.write(&item, bytes.to_vec(), properties);
                }
            }
        }
    }

    pub(crate) fn some_bytes(&self) -> Vec<u8> {
        let rng = &self.world.rng;
        // Many items have the same size, so that size alone distinguishes nothing.
        let size = if rng.below(2) == 0 {
            self.world.swarm.bytes_max.min(9)
        } else {
            rng.between(0, self.world.swarm.bytes_max)
        };
        (0..size).map(|_| (rng.below(26) as u8) + b'a').collect()
    }

    pub(crate) fn some_properties(&self) -> Properties {
        let rng = &self.world.rng;
        let mut properties = BTreeMap::new();
        if rng.below(2) == 0 {
            properties.insert("content-type".to_owned(), (*rng.pick(&["text/plain", "image/tiff"])).to_owned());
        }
        if rng.below(3) == 0 {
            properties.insert("note".to_owned(), rng.below(1000).to_string());
        }
        Properties(properties)
    }

    pub(crate) fn write_new(&self) {
        let rng = &self.world.rng;
        let number = rng.below(self.world.swarm.items_max.max(NAMES.len() as u64));
        let name = NAMES.get(number as usize).map_or_else(|| format!("n{number:03}"), |name| (*name).to_owned());
        let name = if self.world.swarm.folds && rng.below(3) == 0 { (*rng.pick(&TWINS)).to_owned() } else { name };
        let item = ItemAddress { space: self.some_space().clone(), id: ContentId::new(name).unwrap() };
        let bytes = if item.id.is_directory() { Vec::new() } else { self.some_bytes() };
        self.write(&item, bytes, self.some_properties());
    }

    pub(crate) fn overwrite(&self, item: &ItemAddress) {
        let properties = match self.sim_store.inner.content(item) {
            Some((_, properties)) if self.world.rng.below(2) == 0 => properties,
            _ => self.some_properties(),
        };
        self.write(item, self.some_bytes(), properties);
    }

    /// Changes the case of an item, or of the first directory of its path with all items in it.
    fn respell(&self, item: &ItemAddress) {
        let path = item.id.as_str().trim_end_matches('/');
        let first = path.split_once('/').map_or(path, |(first, _)| first);
        let swapped: String = first
            .chars()
            .map(|letter| if letter.is_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() })
            .collect();
        let lies_in = |id: &str| id.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // A mount point is not renamed.
        if swapped == first || DISK.starts_with(first) {
            return;
        }
        self.world.count(SimFault::UserRespelled, USERS);
        for (id, (bytes, properties)) in self.sim_store.inner.contents(&item.space).unwrap_or_default() {
            if lies_in(id.as_str()) {
                let to = ContentId::new(format!("{swapped}{}", &id.as_str()[first.len()..])).unwrap();
                self.delete(&ItemAddress { space: item.space.clone(), id });
                self.write(&ItemAddress { space: item.space.clone(), id: to }, bytes.to_vec(), properties);
            }
        }
    }

    /// Does one random thing that users do.
    pub(crate) fn act(&self) {
        let world = self.world;
        if world.swarm.folds
            && world.rng.below(5) < 3
            && let Some(item) = self.some_item()
        {
            self.respell(&item);
        }
        let Some(item) = self.some_item().filter(|_| world.rng.below(4) > 0) else {
            world.count(SimFault::UserWrote, USERS);
            return self.write_new();
        };
        match world.rng.below(if world.swarm.rates.spite > 0 { 6 } else { 3 }) {
            0 => {
                world.count(SimFault::UserOverwrote, USERS);
                self.overwrite(&item);
            }
            1 => {
                world.count(SimFault::UserRelabelled, USERS);
                if let Some((bytes, _)) = self.sim_store.inner.content(&item) {
                    self.write(&item, bytes.to_vec(), self.some_properties());
                }
            }
            _ => {
                world.count(SimFault::UserDeleted, USERS);
                self.delete(&item);
            }
        }
    }

    pub(crate) fn delete_many(&self) {
        let all = self.standing();
        if all.is_empty() {
            return;
        }
        self.world.count(SimFault::UserDeletedMany, USERS);
        let spared = self.world.rng.below(3);
        for item in all.iter().skip(spared as usize) {
            self.delete(item);
        }
    }

    /// Unmounts the disk beneath a space, mounts it again, or swaps it for another.
    pub(crate) fn move_disk(&self) {
        let space = self.some_space();
        let hidden = self.world.model(|model| model.is_unmounted(&self.sim_store.address, space));
        if !hidden && self.sim_store.inner.contents(space).is_none() {
            return;
        }
        if !hidden && self.world.rng.below(4) == 0 {
            self.world.count(SimFault::SourceDiskSwapped, USERS);
            let number = self.world.rng.below(1000);
            return self.sim_store.inner.mount(space, DISK, &format!("disk {number}"));
        }
        self.set_mounted(space, hidden);
    }

    /// Mounts or unmounts the disk beneath a space.
    pub(crate) fn set_mounted(&self, space: &SpaceId, mounted: bool) {
        let before = self.sim_store.inner.contents(space).unwrap_or_default();
        self.sim_store.inner.set_mounted(space, DISK, mounted);
        let after = self.sim_store.inner.contents(space).unwrap_or_default();
        let (by, store, called) = (USERS, &self.sim_store.address, self.world.now());
        self.world.see(&Event::Mounted { store, space, path: DISK, here: mounted });
        if !mounted {
            self.world.count(SimFault::SourceUnmounted, USERS);
        }
        let ids = before.keys().chain(after.keys()).filter(|id| id.as_str().starts_with(DISK));
        for id in ids.collect::<std::collections::BTreeSet<_>>() {
            let item = ItemAddress { space: space.clone(), id: id.clone() };
            audit_world::forget(self.world, [(store.clone(), item.clone())]);
            let holds = after.get(id).map(|(bytes, properties)| ContentFingerprint::of(bytes, properties));
            self.world.see(&Event::Item { by, store, item: &item, holds, called, first: true, damaged: false });
        }
    }

    /// Removes a space, or creates a removed one again.
    pub(crate) fn move_space(&self) {
        let space = self.some_space();
        if self.sim_store.inner.contents(space).is_some() {
            self.world.count(SimFault::SpaceRemoved, USERS);
            self.remove_space(space);
            self.report(space, None, AuditAction::DeleteSpace, None);
        } else {
            self.make_space(space);
            self.write_new();
        }
    }
}
