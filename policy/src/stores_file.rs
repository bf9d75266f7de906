//! A stores file, member by member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mill_model::StoreId;

use crate::diagnostic::{Diagnostic, Diagnostics, MemberPath};
use crate::json::{JsonNode, JsonValue};
use crate::json_schema::{self, Members, quoted};
use crate::members::{PolicyMember, STORE, names};
use crate::stores::{STORE_TYPES, StoreKind, StoreSpec, TRANSFERS_MAX, lexically_normalized};

/// The stores of one file, as far as they could be read.
#[derive(Debug, Default)]
pub(crate) struct ParsedStores {
    pub(crate) specs: Vec<StoreSpec>,
    /// Every id that is given to a store, right in all else or not.
    pub(crate) ids: BTreeSet<StoreId>,
    /// Whether `ids` is all of them, so that another id is surely unknown.
    pub(crate) all_ids: bool,
    pub(crate) broken: bool,
}

impl ParsedStores {
    pub(crate) fn spec(&self, id: &StoreId) -> Option<&StoreSpec> {
        self.specs.iter().find(|spec| spec.id == *id)
    }
}

/// Reads a stores file.
pub(crate) fn read(file: &str, bytes: &[u8]) -> (ParsedStores, Vec<Diagnostic>) {
    let (mut faults, document) = json_schema::open(file, bytes);
    let mut out = ParsedStores::default();
    if let Some(document) = document {
        StoresFileReader { faults: &mut faults, whole: document.whole }.read_file(&document.root, &mut out);
    }
    out.broken = faults.broken();
    (out, faults.into_diagnostics())
}

pub(crate) const NO_SECRETS: &str = "a secret may not stand in this file; remove it (change it too if others could read the file), \
    and under `credentials` name what holds it: `accessKeyIdEnv` and `secretAccessKeyEnv` an environment variable, \
    or `accessKeyIdFile` and `secretAccessKeyFile` a file";

/// One entry of the list, as far as it could be read.
struct ParsedStore {
    id: Option<(usize, StoreId)>,
    spec: Option<StoreSpec>,
}

/// Which entries say that they are the primary.
#[derive(Default)]
struct PrimaryClaims {
    /// Where it is said, and by which entry.
    found: Vec<(usize, usize)>,
    /// How many entries were looked at.
    seen: usize,
    /// Whether no further one can say it.
    sure: bool,
}

/// Reads one file, and notes its faults.
pub(crate) struct StoresFileReader<'f, 't> {
    pub(crate) faults: &'f mut Diagnostics<'t>,
    pub(crate) whole: bool,
}

impl StoresFileReader<'_, '_> {
    fn read_file(&mut self, root: &JsonNode, out: &mut ParsedStores) {
        let path = MemberPath::Root;
        let Some(members) = self.faults.object(root, &path, "an object with the member `stores`") else { return };
        self.only_known_members(members, &path, &["stores"]);
        let Some(list) = self.faults.required(members, &path, "stores", self.whole) else { return };
        let path = path.member("stores");
        let Some(items) = self.faults.list(list, &path, "a list of stores") else { return };
        if items.is_empty() && self.whole {
            self.faults.error(list.at, &path, "no store is given; give each store of the account an entry");
        }
        out.all_ids = self.whole;
        let mut primaries = PrimaryClaims { sure: self.whole, ..PrimaryClaims::default() };
        for (index, item) in items.iter().enumerate() {
            let path = path.index(index);
            let read = self.store(item, &path, &mut primaries);
            match read.id {
                Some((at, id)) if !out.ids.insert(id.clone()) => {
                    let message =
                        format!("another store has the id {} already; give this one another", quoted(id.as_str()));
                    self.faults.error(at, &path.member("id"), message);
                }
                Some(_) => out.specs.extend(read.spec),
                None => out.all_ids = false,
            }
        }
        self.check_one_primary(list.at, &path, &primaries, &mut out.specs);
        if out.specs.len() == items.len() {
            self.warn_of_shared_roots(items, &path, &out.specs);
        }
    }

    /// Exactly one store is the primary; an only store is it without saying so.
    fn check_one_primary(
        &mut self,
        at: usize,
        path: &MemberPath<'_>,
        primaries: &PrimaryClaims,
        specs: &mut [StoreSpec],
    ) {
        for (at, index) in primaries.found.iter().skip(1) {
            let message = "another store is the primary already; leave `primary` to one of them";
            self.faults.error(*at, &path.index(*index).member("primary"), message);
        }
        if !primaries.found.is_empty() || !primaries.sure {
            return;
        }
        match (primaries.seen, specs) {
            (0, _) => {}
            (1, specs) => specs.iter_mut().for_each(|only| only.primary = true),
            _ => self.faults.error(at, path, "no store is the primary; add `\"primary\": true` to the one that is"),
        }
    }

    /// Warns of two stores in one place: each would take the other's content for its own.
    fn warn_of_shared_roots(&mut self, items: &[JsonNode], path: &MemberPath<'_>, specs: &[StoreSpec]) {
        let mut roots: BTreeMap<PathBuf, &StoreId> = BTreeMap::new();
        for (index, (item, spec)) in items.iter().zip(specs).enumerate() {
            let StoreKind::Folder { root } = &spec.kind else { continue };
            if let Some(first) = roots.insert(lexically_normalized(root), &spec.id) {
                let message = format!(
                    "store `{first}` has this root too; two stores in one folder hold each other's content, so one id \
                     for it is enough"
                );
                self.faults.warn(item.at, &path.index(index).member("root"), message);
            }
        }
    }

    fn store(&mut self, item: &JsonNode, path: &MemberPath<'_>, primaries: &mut PrimaryClaims) -> ParsedStore {
        primaries.seen += 1;
        let Some(members) = self.faults.object(item, path, "a store: an object with `id`, `type` and more") else {
            primaries.sure = false;
            return ParsedStore { id: None, spec: None };
        };
        let id = self.faults.required(members, path, "id", self.whole).and_then(|node| {
            let id = self.faults.id(node, &path.member("id"), "the store's id, such as \"1\"", StoreId::new)?;
            Some((node.at, id))
        });
        let primary = match members.get("primary") {
            Some(node) => self.faults.boolean(node, &path.member("primary")).map(|is| (node.at, is)),
            None => Some((item.at, false)),
        };
        match primary {
            Some((at, true)) => primaries.found.push((at, primaries.seen - 1)),
            Some((_, false)) => {}
            None => primaries.sure = false,
        }
        let transfers_max = match members.get("transfersMax") {
            Some(node) => self.faults.whole_number(node, &path.member("transfersMax"), &(1..=TRANSFERS_MAX)).map(Some),
            None => Some(None),
        };
        let kind = self.kind(members, path);
        let spec = match (&id, kind, primary, transfers_max) {
            (Some((_, id)), Some(kind), Some((_, primary)), Some(transfers_max)) => {
                Some(StoreSpec { id: id.clone(), kind, primary, transfers_max })
            }
            _ => None,
        };
        ParsedStore { id, spec }
    }

    fn kind(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> Option<StoreKind> {
        let types: Vec<String> = STORE_TYPES.iter().map(|known| format!("\"{}\"", known.name)).collect();
        let types = types.join(" or ");
        let node = self.faults.required(members, path, "type", self.whole);
        let path_of_type = path.member("type");
        let named = node.and_then(|node| self.faults.text(node, &path_of_type, &format!("the store's type: {types}")));
        if let Some(known) = STORE_TYPES.iter().find(|known| Some(known.name) == named) {
            self.only_known_members(members, path, &names(&[STORE, known.members]));
            return (known.read)(self, members, path);
        }
        if let (Some(other), Some(node)) = (named, node) {
            let message = format!("no type of store is called {}; write {types}", quoted(other));
            self.faults.error(node.at, &path_of_type, message);
        }
        let lists: Vec<&'static [PolicyMember]> =
            [STORE].into_iter().chain(STORE_TYPES.iter().map(|known| known.members)).collect();
        self.only_known_members(members, path, &names(&lists));
        None
    }

    pub(crate) fn folder(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> Option<StoreKind> {
        let node = self.faults.required(members, path, "root", self.whole)?;
        let root = self.file_path(node, &path.member("root"), "the path of a folder")?;
        Some(StoreKind::Folder { root })
    }

    pub(crate) fn optional_boolean(
        &mut self,
        members: Members<'_>,
        path: &MemberPath<'_>,
        name: &'static str,
        usual: bool,
    ) -> Option<bool> {
        match members.get(name) {
            Some(node) => self.faults.boolean(node, &path.member(name)),
            None => Some(usual),
        }
    }

    pub(crate) fn file_path(&mut self, node: &JsonNode, path: &MemberPath<'_>, wanted: &str) -> Option<PathBuf> {
        let text = self.faults.text(node, path, wanted)?;
        if text.is_empty() || text.contains('\0') {
            self.faults.error(node.at, path, format!("this must be {wanted}, not empty and without NUL"));
        } else if text.starts_with('~') {
            self.faults.error(node.at, path, "`~` is not expanded; write the whole path");
        } else {
            return Some(PathBuf::from(text));
        }
        None
    }

    /// A text that may be left out, but not empty.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    pub(crate) fn optional_text(
        &mut self,
        members: Members<'_>,
        path: &MemberPath<'_>,
        name: &str,
        wanted: &str,
    ) -> Option<Option<String>> {
        let Some(node) = members.get(name) else { return Some(None) };
        let text = self.faults.text(node, &path.member(name), wanted)?;
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            let message = format!("this must be {wanted}, not empty and without blanks; or remove the member");
            self.faults.error(node.at, &path.member(name), message);
            return None;
        }
        Some(Some(text.to_owned()))
    }

    /// Notes members that are not known, and what looks like a secret in words of its own.
    pub(crate) fn only_known_members(&mut self, members: Members<'_>, path: &MemberPath<'_>, known: &[&str]) {
        for member in members.all {
            let name = member.name.as_str();
            if !known.contains(&name) && is_secret(name) && !matches!(member.value.value, JsonValue::Object(_)) {
                self.faults.error(member.at, &path.member(name), NO_SECRETS);
            } else if !known.contains(&name) {
                self.faults.error(member.at, &path.member(name), json_schema::unknown_member(name, known));
            }
        }
    }
}

/// Whether a member of this name would hold a secret itself.
pub(crate) fn is_secret(name: &str) -> bool {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let reference = name.ends_with("env") || name.ends_with("file");
    let words =
        ["secret", "password", "passwd", "passphrase", "token", "accesskey", "apikey", "privatekey", "credential"];
    !reference && words.iter().any(|word| name.contains(word))
}
