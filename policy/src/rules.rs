//! `<account>-duplication-policy.json`: DuraCloud's three members, and Mill's optional ones.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{SpaceId, StoreId};

use crate::conflict::conflicts;
use crate::decision::{Compare, SettingOrigin, SettingOrigins, StorePolicy};
use crate::diagnostic::{Diagnostic, Diagnostics, Path};
use crate::json::Node;
use crate::reading::{self, Members, quoted};
use crate::stores::{ReadStores, overlap_message};

/// Most workers that a policy file may ask for.
pub(crate) const WORKERS_MAX: u32 = 1024;

/// A list of store policies, judged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rules {
    pub(crate) policies: Vec<StorePolicy>,
    /// Where the settings of each come from.
    pub(crate) origins: Vec<SettingOrigins>,
    /// Why nothing of the list may be done.
    pub(crate) stopped: Option<String>,
}

/// What stands at the top of the file, where it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Given {
    pub(crate) compare: Option<Compare>,
    pub(crate) remove_vanished: Option<bool>,
}

/// A policy file, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct ReadRules {
    pub(crate) given: Given,
    pub(crate) workers: Option<u32>,
    pub(crate) own: BTreeMap<SpaceId, Rules>,
    pub(crate) defaults: Rules,
    pub(crate) ignored: BTreeSet<SpaceId>,
    pub(crate) broken: bool,
}

const OWN: &str = "spaceDuplicationStorePolicies";
const DEFAULTS: &str = "defaultPolicies";
const IGNORED: &str = "spacesToIgnore";
const TOP: [&str; 6] = [OWN, DEFAULTS, IGNORED, "removeVanished", "compare", "workers"];
const POLICY: [&str; 4] = ["srcStoreId", "destStoreId", "removeVanished", "compare"];

/// Whether spaces of this id are internal and never duplicated.
pub(crate) fn is_internal(space: &SpaceId) -> bool {
    space.as_str().starts_with("x-")
}

/// Reads a policy file; `stores` are those its ids must name, where they are known.
pub(crate) fn read(file: &str, bytes: &[u8], stores: Option<&ReadStores>) -> (ReadRules, Vec<Diagnostic>) {
    let (mut faults, document) = reading::open(file, bytes);
    let mut out = ReadRules::default();
    if let Some(document) = document {
        let whole = document.whole;
        Reader { faults: &mut faults, stores, whole, given: Given::default() }.all(&document.root, &mut out);
    }
    out.broken = faults.broken();
    (out, faults.into_faults())
}

struct Reader<'f, 't> {
    faults: &'f mut Diagnostics<'t>,
    stores: Option<&'f ReadStores>,
    whole: bool,
    given: Given,
}

impl Reader<'_, '_> {
    fn all(&mut self, root: &Node, out: &mut ReadRules) {
        let path = Path::Root;
        let Some(top) = self.faults.object(root, &path, "an object; an empty policy is {}") else { return };
        self.faults.only_known(top, &path, &TOP);
        self.given = self.given(top, &path);
        out.given = self.given;
        if let Some(node) = top.get("workers") {
            // 0 says what leaving it out says.
            let workers = self.faults.whole(node, &path.member("workers"), &(0..=WORKERS_MAX));
            out.workers = workers.filter(|workers| *workers > 0);
        }
        if let Some(node) = top.get(IGNORED) {
            self.ignored(node, &path.member(IGNORED), &mut out.ignored);
        }
        if let Some(node) = top.get(DEFAULTS) {
            let path = path.member(DEFAULTS);
            let mut list = self.rules(node, &path);
            self.judge(&mut list, &path, "every space without a list of its own");
            out.defaults = list.rules;
        }
        if let Some(node) = top.get(OWN) {
            self.own(node, &path.member(OWN), out);
        }
    }

    fn given(&mut self, members: Members<'_>, path: &Path<'_>) -> Given {
        let compare = members.get("compare").and_then(|node| {
            let path = path.member("compare");
            match self.faults.text(node, &path, "\"everything\" or \"differences\"")? {
                "everything" => Some(Compare::Everything),
                "differences" => Some(Compare::Differences),
                _ => {
                    self.faults.error(node.at, &path, "this must be \"everything\" or \"differences\"");
                    None
                }
            }
        });
        let remove_vanished =
            members.get("removeVanished").and_then(|node| self.faults.boolean(node, &path.member("removeVanished")));
        Given { compare, remove_vanished }
    }

    fn ignored(&mut self, node: &Node, path: &Path<'_>, out: &mut BTreeSet<SpaceId>) {
        for (index, item) in
            self.faults.list(node, path, "a list of the ids of spaces").into_iter().flatten().enumerate()
        {
            out.extend(self.faults.id(item, &path.index(index), "the id of a space", SpaceId::new));
        }
    }

    fn own(&mut self, node: &Node, path: &Path<'_>, out: &mut ReadRules) {
        let Some(spaces) = self.faults.object(node, path, "an object with a list for each space") else { return };
        for member in spaces.all {
            let path = path.member(&member.name);
            let mut list = self.rules(&member.value, &path);
            let empty = list.rules.policies.is_empty();
            let space = match SpaceId::new(member.name.as_str()) {
                Ok(space) => space,
                Err(error) => {
                    self.faults.error(member.at, &path, error.to_string());
                    continue;
                }
            };
            if is_internal(&space) {
                let message = "this list has no effect: spaces whose ids begin with `x-` are never duplicated";
                self.faults.warn(member.at, &path, message);
            } else if out.ignored.contains(&space) {
                if !empty {
                    let message =
                        "this list has no effect, since `spacesToIgnore` names the space too; remove one of the two";
                    self.faults.warn(member.at, &path, message);
                }
            } else if empty && !out.defaults.policies.is_empty() {
                let message = "an empty list is as good as none: `defaultPolicies` apply; to leave the space alone, \
                    name it in `spacesToIgnore`";
                self.faults.warn(member.at, &path, message);
            } else {
                self.judge(&mut list, &path, &format!("space {}", quoted(&member.name)));
            }
            out.own.insert(space, list.rules);
        }
    }

    /// Reads a list of store policies; what is given twice alike is kept once.
    fn rules(&mut self, node: &Node, path: &Path<'_>) -> List {
        let mut out = List::default();
        let mut seen: BTreeMap<(StoreId, StoreId), StorePolicy> = BTreeMap::new();
        for (index, item) in self.faults.list(node, path, "a list of store policies").into_iter().flatten().enumerate()
        {
            let path = path.index(index);
            let Some((policy, origins)) = self.policy(item, &path) else { continue };
            match seen.insert((policy.source.clone(), policy.destination.clone()), policy.clone()) {
                Some(first) if first == policy => {
                    self.faults.warn(item.at, &path, "the same store policy stands above already; remove one");
                }
                Some(_) => {
                    let message = "a store policy for these two stores, with other settings, stands above; keep one";
                    self.faults.error(item.at, &path, message);
                }
                None => {
                    out.rules.policies.push(policy);
                    out.rules.origins.push(origins);
                    out.places.push(Place { at: item.at, index });
                }
            }
        }
        out
    }

    fn policy(&mut self, item: &Node, path: &Path<'_>) -> Option<(StorePolicy, SettingOrigins)> {
        let wanted = "a store policy, such as {\"srcStoreId\": \"1\", \"destStoreId\": \"2\"}";
        let members = self.faults.object(item, path, wanted)?;
        self.faults.only_known(members, path, &POLICY);
        let given = self.given(members, path);
        let source = self.store(members, path, "srcStoreId");
        let destination = self.store(members, path, "destStoreId");
        let (source, destination) = (source?, destination?);
        if !self.apart(members, path, &source, &destination) {
            return None;
        }
        let (compare, of_compare) = first(given.compare, self.given.compare, Compare::Everything);
        let (remove_vanished, of_remove) = first(given.remove_vanished, self.given.remove_vanished, true);
        let origins = SettingOrigins { compare: of_compare, remove_vanished: of_remove };
        Some((StorePolicy { source, destination, compare, remove_vanished }, origins))
    }

    fn store(&mut self, members: Members<'_>, path: &Path<'_>, name: &str) -> Option<StoreId> {
        let node = self.faults.needed(members, path, name, self.whole)?;
        let path = path.member(name);
        let id = self.faults.id(node, &path, "the id of a store, such as \"1\"", StoreId::new)?;
        if let Some(stores) = self.stores.filter(|stores| stores.all_ids && !stores.ids.contains(&id)) {
            let known: Vec<&str> = stores.ids.iter().take(20).map(StoreId::as_str).collect();
            let message = format!(
                "no store {} stands in the account's stores file (there: {}); correct the id or add the store",
                quoted(id.as_str()),
                known.join(", ")
            );
            self.faults.error(node.at, &path, message);
        }
        Some(id)
    }

    /// Whether source and destination are two places, as they must be.
    fn apart(&mut self, members: Members<'_>, path: &Path<'_>, source: &StoreId, destination: &StoreId) -> bool {
        let at = members.get("destStoreId").map_or(members.at, |node| node.at);
        let path = path.member("destStoreId");
        if source == destination {
            let message = format!("source and destination are the same store, `{source}`; give another destination");
            self.faults.error(at, &path, message);
            return false;
        }
        if let Some(stores) = self.stores
            && let (Some(source), Some(destination)) = (stores.spec(source), stores.spec(destination))
            && source.kind.overlaps(&destination.kind)
        {
            self.faults.error(at, &path, overlap_message(source, destination));
            return false;
        }
        true
    }

    /// Stops the spaces of a list that contradicts itself.
    fn judge(&mut self, list: &mut List, path: &Path<'_>, whose: &str) {
        let conflicts = conflicts(&list.rules.policies);
        for conflict in &conflicts {
            let Some(place) = list.places.get(conflict.index) else { continue };
            let message = format!("{}; until then {whose} is stopped", conflict.reason);
            self.faults.stop(place.at, &path.index(place.index), message);
        }
        list.rules.stopped = conflicts.first().map(|first| match conflicts.len() - 1 {
            0 => first.reason.clone(),
            more => format!("{} (and {more} more)", first.reason),
        });
    }
}

/// A list of store policies, and where in the file each of them stands.
#[derive(Default)]
struct List {
    rules: Rules,
    places: Vec<Place>,
}

struct Place {
    at: usize,
    index: usize,
}

/// The setting of the store policy, else of the file, else the default.
fn first<T>(policy: Option<T>, file: Option<T>, default: T) -> (T, SettingOrigin) {
    match (policy, file) {
        (Some(value), _) => (value, SettingOrigin::Policy),
        (None, Some(value)) => (value, SettingOrigin::File),
        (None, None) => (default, SettingOrigin::Default),
    }
}
