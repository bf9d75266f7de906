//! People: at the sources they write, overwrite, relabel and delete as they please, past Mill; at a destination they write
//! anew what is just being deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mill_model::{ContentId, ItemAddress, Monotonic, Properties, SpaceId};

use super::event::{Event, PEOPLE, Print};
use super::fault::Fault;
use super::shelf::{Hidden, Shelf};
use super::world::World;

/// Names that people give, some of them unpleasant: each sorts, escapes or nests in its own way.
const NAMES: [&str; 15] =
    ["a", "b", "c", "a/b", "a b", "a-b", "ä", "z/", "%2F", "a\u{301}", "~", "0", "disk/1", "disk/2", "disk/3"];
/// Names that a store may take for one of those, or for one another.
const TWINS: [&str; 8] = ["A", "B", "A/b", "a/B", "A/B", "\u{e1}", "\u{c4}", "Z/"];
/// Where a disk is mounted beneath each space of a source.
pub(crate) const DISK: &str = "disk/";

/// The people of one store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct People<'w> {
    pub(crate) world: &'w World,
    pub(crate) shelf: &'w Arc<Shelf>,
}

impl<'w> People<'w> {
    /// Those of some store that people write to.
    pub(crate) fn somewhere(world: &'w World) -> Self {
        let theirs: Vec<&Arc<Shelf>> =
            world.shelves.values().filter(|shelf| ["1", "4"].contains(&shelf.address.store.as_str())).collect();
        Self { world, shelf: *world.dice.pick(&theirs) }
    }

    fn some_space(&self) -> &'w SpaceId {
        self.world.dice.pick(&self.world.spaces)
    }

    /// All that stands in the store.
    fn standing(&self) -> Vec<ItemAddress> {
        let of = |space: &SpaceId| {
            let ids = self.shelf.inner.contents(space).unwrap_or_default().into_keys();
            let space = space.clone();
            ids.map(move |id| ItemAddress { space: space.clone(), id }).collect::<Vec<_>>()
        };
        self.world.spaces.iter().flat_map(of).collect()
    }

    fn some_item(&self) -> Option<ItemAddress> {
        let all = self.standing();
        (!all.is_empty()).then(|| self.world.dice.pick(&all).clone())
    }

    /// Puts bytes and properties there.
    pub(crate) fn write(&self, item: &ItemAddress, bytes: Vec<u8>, properties: Properties) {
        let print = Print::of(&bytes, &properties);
        let (store, called) = (&self.shelf.address, self.world.now());
        if self.shelf.inner.contents(&item.space).is_none() {
            self.make_space(&item.space);
        }
        self.shelf.inner.insert(item, bytes, properties);
        let (by, holds) = (PEOPLE, Some(print));
        self.world.see(&Event::Item { by, store, item, holds, called, first: true, damaged: false });
    }

    pub(crate) fn delete(&self, item: &ItemAddress) {
        self.shelf.inner.remove(item);
        let (by, store, called) = (PEOPLE, &self.shelf.address, self.world.now());
        self.world.see(&Event::Item { by, store, item, holds: None, called, first: true, damaged: false });
    }

    pub(crate) fn make_space(&self, space: &SpaceId) {
        self.shelf.inner.insert_space(space);
        if self.world.swarm.on.mounts > 0 && !self.shelf.inner.has_mount(space, DISK) {
            self.shelf.inner.mount(space, DISK, "disk");
            self.world.see(&Event::Mounted { store: &self.shelf.address, space, path: DISK, here: true });
        }
        let (by, store) = (PEOPLE, &self.shelf.address);
        self.world.see(&Event::Space { by, store, space, here: true });
    }

    pub(crate) fn remove_space(&self, space: &SpaceId) {
        self.shelf.inner.remove_space(space);
        let (by, store) = (PEOPLE, &self.shelf.address);
        self.world.see(&Event::Space { by, store, space, here: false });
    }

    /// A space goes out of sight for a few minutes, with all that it holds. Says whether it did.
    pub(crate) fn hide_space(&self, space: &SpaceId) -> bool {
        let Some(contents) = self.shelf.inner.contents(space) else { return false };
        let until = self.world.now().plus(self.world.dice.duration(Duration::from_mins(1), Duration::from_mins(4)));
        let hidden = self.shelf.hide(Hidden { space: space.clone(), contents, until });
        if hidden {
            self.remove_space(space);
        }
        hidden
    }

    /// Spaces that are to be out of sight until `now` at most are there again, but for what people have written in their place.
    pub(crate) fn bring_spaces_back(world: &World, now: Monotonic) {
        for shelf in world.shelves.values() {
            let Some(Hidden { space, contents, .. }) = shelf.hidden_until(now) else { continue };
            let people = People { world, shelf };
            if shelf.inner.contents(&space).is_none() {
                people.make_space(&space);
            }
            let unmounted = world.truth(|truth| truth.is_unmounted(&shelf.address, &space));
            for (id, (bytes, properties)) in contents {
                let under_disk = id.as_str().starts_with(DISK);
                let item = ItemAddress { space: space.clone(), id };
                if shelf.inner.content(&item).is_none() && !(under_disk && unmounted) {
                    people.write(&item, bytes.to_vec(), properties);
                }
            }
        }
    }

    pub(crate) fn some_bytes(&self) -> Vec<u8> {
        let dice = &self.world.dice;
        // Often of one size, so that size alone tells nothing.
        let size = if dice.below(2) == 0 {
            self.world.swarm.bytes_max.min(9)
        } else {
            dice.between(0, self.world.swarm.bytes_max)
        };
        (0..size).map(|_| (dice.below(26) as u8) + b'a').collect()
    }

    pub(crate) fn some_properties(&self) -> Properties {
        let dice = &self.world.dice;
        let mut properties = BTreeMap::new();
        if dice.below(2) == 0 {
            properties.insert("content-type".to_owned(), (*dice.pick(&["text/plain", "image/tiff"])).to_owned());
        }
        if dice.below(3) == 0 {
            properties.insert("note".to_owned(), dice.below(1000).to_string());
        }
        Properties(properties)
    }

    pub(crate) fn write_new(&self) {
        let dice = &self.world.dice;
        let number = dice.below(self.world.swarm.items_max.max(NAMES.len() as u64));
        let name = NAMES.get(number as usize).map_or_else(|| format!("n{number:03}"), |name| (*name).to_owned());
        let name = if self.world.swarm.folds && dice.below(3) == 0 { (*dice.pick(&TWINS)).to_owned() } else { name };
        let item = ItemAddress { space: self.some_space().clone(), id: ContentId::new(name).unwrap() };
        let bytes = if item.id.is_directory() { Vec::new() } else { self.some_bytes() };
        self.write(&item, bytes, self.some_properties());
    }

    pub(crate) fn overwrite(&self, item: &ItemAddress) {
        let properties = match self.shelf.inner.content(item) {
            Some((_, properties)) if self.world.dice.below(2) == 0 => properties,
            _ => self.some_properties(),
        };
        self.write(item, self.some_bytes(), properties);
    }

    /// Gives an item, or all that lies in its first directory, another case.
    fn respell(&self, item: &ItemAddress) {
        let path = item.id.as_str().trim_end_matches('/');
        let first = path.split_once('/').map_or(path, |(first, _)| first);
        let swapped: String = first
            .chars()
            .map(|letter| if letter.is_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() })
            .collect();
        let lies_in = |id: &str| id.strip_prefix(first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // What is mounted is not renamed.
        if swapped == first || DISK.starts_with(first) {
            return;
        }
        self.world.count(Fault::PeopleRespelled, PEOPLE);
        for (id, (bytes, properties)) in self.shelf.inner.contents(&item.space).unwrap_or_default() {
            if lies_in(id.as_str()) {
                let to = ContentId::new(format!("{swapped}{}", &id.as_str()[first.len()..])).unwrap();
                self.delete(&ItemAddress { space: item.space.clone(), id });
                self.write(&ItemAddress { space: item.space.clone(), id: to }, bytes.to_vec(), properties);
            }
        }
    }

    /// One of the things that people do.
    pub(crate) fn act(&self) {
        let world = self.world;
        if world.swarm.folds
            && world.dice.below(5) < 3
            && let Some(item) = self.some_item()
        {
            self.respell(&item);
        }
        let Some(item) = self.some_item().filter(|_| world.dice.below(4) > 0) else {
            world.count(Fault::PeopleWrote, PEOPLE);
            return self.write_new();
        };
        match world.dice.below(if world.swarm.rates.spite > 0 { 6 } else { 3 }) {
            0 => {
                world.count(Fault::PeopleOverwrote, PEOPLE);
                self.overwrite(&item);
            }
            1 => {
                world.count(Fault::PeopleRelabelled, PEOPLE);
                if let Some((bytes, _)) = self.shelf.inner.content(&item) {
                    self.write(&item, bytes.to_vec(), self.some_properties());
                }
            }
            _ => {
                world.count(Fault::PeopleDeleted, PEOPLE);
                self.delete(&item);
            }
        }
    }

    pub(crate) fn delete_many(&self) {
        let all = self.standing();
        if all.is_empty() {
            return;
        }
        self.world.count(Fault::PeopleDeletedMany, PEOPLE);
        let spared = self.world.dice.below(3);
        for item in all.iter().skip(spared as usize) {
            self.delete(item);
        }
    }

    /// The disk beneath a space goes out of sight, or comes back, perhaps as another.
    pub(crate) fn move_disk(&self) {
        let space = self.some_space();
        let hidden = self.world.truth(|truth| truth.is_unmounted(&self.shelf.address, space));
        if !hidden && self.shelf.inner.contents(space).is_none() {
            return;
        }
        if !hidden && self.world.dice.below(4) == 0 {
            self.world.count(Fault::SourceDiskSwapped, PEOPLE);
            let number = self.world.dice.below(1000);
            return self.shelf.inner.mount(space, DISK, &format!("disk {number}"));
        }
        self.set_mounted(space, hidden);
    }

    /// Takes the disk beneath a space out of sight, or brings it back.
    pub(crate) fn set_mounted(&self, space: &SpaceId, mounted: bool) {
        let before = self.shelf.inner.contents(space).unwrap_or_default();
        self.shelf.inner.set_mounted(space, DISK, mounted);
        let after = self.shelf.inner.contents(space).unwrap_or_default();
        let (by, store, called) = (PEOPLE, &self.shelf.address, self.world.now());
        self.world.see(&Event::Mounted { store, space, path: DISK, here: mounted });
        if !mounted {
            self.world.count(Fault::SourceUnmounted, PEOPLE);
        }
        let ids = before.keys().chain(after.keys()).filter(|id| id.as_str().starts_with(DISK));
        for id in ids.collect::<std::collections::BTreeSet<_>>() {
            let item = ItemAddress { space: space.clone(), id: id.clone() };
            let holds = after.get(id).map(|(bytes, properties)| Print::of(bytes, properties));
            self.world.see(&Event::Item { by, store, item: &item, holds, called, first: true, damaged: false });
        }
    }

    /// A space goes, or one that went comes back.
    pub(crate) fn move_space(&self) {
        let space = self.some_space();
        if self.shelf.inner.contents(space).is_some() {
            self.world.count(Fault::SpaceRemoved, PEOPLE);
            self.remove_space(space);
        } else {
            self.make_space(space);
            self.write_new();
        }
    }
}
