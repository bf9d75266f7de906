//! `<account>-duplication-policy.json`: DuraCloud's three members, and Mill's optional ones.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::{SpaceId, StoreId};

use crate::conflict::conflicts;
use crate::decision::{Compare, SettingOrigin, SettingOrigins, StorePolicy};
use crate::diagnostic::{Diagnostic, Diagnostics, MemberPath};
use crate::file_content::FileContent;
use crate::json::JsonNode;
use crate::json_schema::{self, Members, quoted};
use crate::members::{POLICY_FILE, STORE_POLICY, names};
use crate::stores::overlap_message;
use crate::stores_file::ParsedStores;

/// The most workers that a policy file may set.
pub(crate) const WORKERS_MAX: u32 = 1024;

/// A validated list of store policies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SpaceRules {
    pub(crate) policies: Vec<StorePolicy>,
    /// The origins of the settings of each.
    pub(crate) origins: Vec<SettingOrigins>,
    /// Why the list is stopped, if it is.
    pub(crate) stopped: Option<String>,
}

/// The settings at the top of the file, if they are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GivenSettings {
    pub(crate) compare: Option<Compare>,
    pub(crate) remove_vanished: Option<bool>,
}

/// A policy file, as far as it could be read.
#[derive(Debug, Default)]
pub(crate) struct ParsedPolicyFile {
    pub(crate) file_settings: GivenSettings,
    pub(crate) workers: Option<u32>,
    pub(crate) per_space: BTreeMap<SpaceId, SpaceRules>,
    pub(crate) defaults: SpaceRules,
    pub(crate) ignored: BTreeSet<SpaceId>,
    pub(crate) broken: bool,
}

const OWN: &str = "spaceDuplicationStorePolicies";
const DEFAULTS: &str = "defaultPolicies";
const IGNORED: &str = "spacesToIgnore";

/// Whether spaces of this id are internal and never duplicated.
pub(crate) fn is_internal(space: &SpaceId) -> bool {
    space.as_str().starts_with("x-")
}

/// Reads a policy file. `stores`, if known, are the stores that its ids must name.
pub(crate) fn read<'b>(
    file: &str,
    content: impl Into<FileContent<&'b [u8]>>,
    stores: Option<&ParsedStores>,
) -> (ParsedPolicyFile, Vec<Diagnostic>) {
    let (mut faults, document) = json_schema::open(file, content.into());
    let mut out = ParsedPolicyFile::default();
    if let Some(document) = document {
        let whole = document.whole;
        PolicyFileReader { faults: &mut faults, stores, whole, file_settings: GivenSettings::default() }
            .read_file(&document.root, &mut out);
    }
    out.broken = faults.broken();
    (out, faults.into_diagnostics())
}

struct PolicyFileReader<'f, 't> {
    faults: &'f mut Diagnostics<'t>,
    stores: Option<&'f ParsedStores>,
    whole: bool,
    file_settings: GivenSettings,
}

impl PolicyFileReader<'_, '_> {
    fn read_file(&mut self, root: &JsonNode, out: &mut ParsedPolicyFile) {
        let path = MemberPath::Root;
        let Some(top) = self.faults.object(root, &path, "an object; an empty policy is {}") else { return };
        self.faults.only_known(top, &path, &names(&[POLICY_FILE]));
        self.file_settings = self.given_settings(top, &path);
        out.file_settings = self.file_settings;
        if let Some(node) = top.get("workers") {
            // 0 means the same as leaving it out.
            let workers = self.faults.whole_number(node, &path.member("workers"), &(0..=WORKERS_MAX));
            out.workers = workers.filter(|workers| *workers > 0);
        }
        if let Some(node) = top.get(IGNORED) {
            self.read_ignored(node, &path.member(IGNORED), &mut out.ignored);
        }
        if let Some(node) = top.get(DEFAULTS) {
            let path = path.member(DEFAULTS);
            let mut list = self.read_list(node, &path);
            self.stop_on_conflict(&mut list, &path, "every space without a list of its own");
            out.defaults = list.rules;
        }
        if let Some(node) = top.get(OWN) {
            self.read_per_space(node, &path.member(OWN), out);
        }
    }

    fn given_settings(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> GivenSettings {
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
        GivenSettings { compare, remove_vanished }
    }

    fn read_ignored(&mut self, node: &JsonNode, path: &MemberPath<'_>, out: &mut BTreeSet<SpaceId>) {
        for (index, item) in
            self.faults.list(node, path, "a list of the ids of spaces").into_iter().flatten().enumerate()
        {
            out.extend(self.faults.id(item, &path.index(index), "the id of a space", SpaceId::new));
        }
    }

    fn read_per_space(&mut self, node: &JsonNode, path: &MemberPath<'_>, out: &mut ParsedPolicyFile) {
        let Some(spaces) = self.faults.object(node, path, "an object with a list for each space") else { return };
        for member in spaces.all {
            let path = path.member(&member.name);
            let mut list = self.read_list(&member.value, &path);
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
                self.stop_on_conflict(&mut list, &path, &format!("space {}", quoted(&member.name)));
            }
            out.per_space.insert(space, list.rules);
        }
    }

    /// Reads a list of store policies. Identical entries are kept once.
    fn read_list(&mut self, node: &JsonNode, path: &MemberPath<'_>) -> PositionedRules {
        let mut out = PositionedRules::default();
        let mut seen: BTreeMap<(StoreId, StoreId), StorePolicy> = BTreeMap::new();
        for (index, item) in self.faults.list(node, path, "a list of store policies").into_iter().flatten().enumerate()
        {
            let path = path.index(index);
            let Some((policy, origins)) = self.read_policy(item, &path) else { continue };
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
                    out.positions.push(PolicyPosition { at: item.at, index });
                }
            }
        }
        out
    }

    fn read_policy(&mut self, item: &JsonNode, path: &MemberPath<'_>) -> Option<(StorePolicy, SettingOrigins)> {
        let wanted = "a store policy, such as {\"srcStoreId\": \"1\", \"destStoreId\": \"2\"}";
        let members = self.faults.object(item, path, wanted)?;
        self.faults.only_known(members, path, &names(&[STORE_POLICY]));
        let given = self.given_settings(members, path);
        let source = self.read_store_id(members, path, "srcStoreId");
        let destination = self.read_store_id(members, path, "destStoreId");
        let (source, destination) = (source?, destination?);
        if !self.check_no_overlap(members, path, &source, &destination) {
            return None;
        }
        let (compare, of_compare) = setting_with_origin(given.compare, self.file_settings.compare, Compare::Everything);
        let (remove_vanished, of_remove) =
            setting_with_origin(given.remove_vanished, self.file_settings.remove_vanished, true);
        let origins = SettingOrigins { compare: of_compare, remove_vanished: of_remove };
        Some((StorePolicy { source, destination, compare, remove_vanished }, origins))
    }

    fn read_store_id(&mut self, members: Members<'_>, path: &MemberPath<'_>, name: &str) -> Option<StoreId> {
        let node = self.faults.required(members, path, name, self.whole)?;
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

    /// Checks that source and destination are two places.
    fn check_no_overlap(
        &mut self,
        members: Members<'_>,
        path: &MemberPath<'_>,
        source: &StoreId,
        destination: &StoreId,
    ) -> bool {
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
    fn stop_on_conflict(&mut self, list: &mut PositionedRules, path: &MemberPath<'_>, whose: &str) {
        let conflicts = conflicts(&list.rules.policies);
        for conflict in &conflicts {
            let Some(position) = list.positions.get(conflict.index) else { continue };
            let message = format!("{}; until then {whose} is stopped", conflict.reason);
            self.faults.error_of_space(position.at, &path.index(position.index), message);
        }
        list.rules.stopped = conflicts.first().map(|first| match conflicts.len() - 1 {
            0 => first.reason.clone(),
            more => format!("{} (and {more} more)", first.reason),
        });
    }
}

/// A list of store policies with their positions in the file.
#[derive(Default)]
struct PositionedRules {
    rules: SpaceRules,
    positions: Vec<PolicyPosition>,
}

struct PolicyPosition {
    at: usize,
    index: usize,
}

/// The setting of the store policy, else of the file, else the default.
fn setting_with_origin<T>(policy: Option<T>, file: Option<T>, default: T) -> (T, SettingOrigin) {
    match (policy, file) {
        (Some(value), _) => (value, SettingOrigin::Policy),
        (None, Some(value)) => (value, SettingOrigin::File),
        (None, None) => (default, SettingOrigin::Default),
    }
}
