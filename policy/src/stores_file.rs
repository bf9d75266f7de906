//! Reads a stores file member by member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use mill_model::StoreId;

use crate::audit_log::AuditLogSpec;
use crate::diagnostic::{Diagnostic, Diagnostics, MemberPath};
use crate::file_content::FileContent;
use crate::json::JsonNode;
use crate::json_schema::{self, Members, quoted};
use crate::members::{STORE, STORES_FILE, names};
use crate::object_reader::ObjectReader;
use crate::store_types::{STORE_TYPES, StoreKind, lexically_normalized, names_of_types};
use crate::stores::{StoreSpec, TRANSFERS_MAX};

/// The stores of one file, as far as they could be read.
#[derive(Debug, Default)]
pub(crate) struct ParsedStores {
    pub(crate) specs: Vec<StoreSpec>,
    /// Every id of a store, even if the rest of its entry is wrong.
    pub(crate) ids: BTreeSet<StoreId>,
    /// Whether `ids` has all of them. Then any other id is certainly unknown.
    pub(crate) all_ids: bool,
    pub(crate) audit_log: Option<AuditLogSpec>,
    pub(crate) broken: bool,
}

impl ParsedStores {
    pub(crate) fn spec(&self, id: &StoreId) -> Option<&StoreSpec> {
        self.specs.iter().find(|spec| spec.id == *id)
    }
}

/// Reads a stores file.
pub(crate) fn read<'b>(file: &str, content: impl Into<FileContent<&'b [u8]>>) -> (ParsedStores, Vec<Diagnostic>) {
    let (mut faults, document) = json_schema::open(file, content.into());
    let mut out = ParsedStores::default();
    if let Some(document) = document {
        StoresFileReader { faults: &mut faults, whole: document.whole }.read_file(&document.root, &mut out);
    }
    out.broken = faults.broken();
    (out, faults.into_diagnostics())
}

/// One entry of the list, as far as it could be read.
struct ParsedStore {
    id: Option<(usize, StoreId)>,
    spec: Option<StoreSpec>,
}

/// The entries that say that they are the primary.
#[derive(Default)]
struct PrimaryClaims {
    /// The offset and the index of each such entry.
    found: Vec<(usize, usize)>,
    /// How many entries were checked.
    seen: usize,
    /// Whether no unread entry can say it.
    sure: bool,
}

struct StoresFileReader<'f, 't> {
    faults: &'f mut Diagnostics<'t>,
    whole: bool,
}

impl StoresFileReader<'_, '_> {
    fn read_file(&mut self, root: &JsonNode, out: &mut ParsedStores) {
        let path = MemberPath::Root;
        let Some(members) = self.faults.object(root, &path, "an object with the member `stores`") else { return };
        ObjectReader { faults: &mut *self.faults, whole: self.whole, members, path: &path }
            .only_known_members(&names(&[STORES_FILE]));
        let Some(list) = self.faults.required(members, &path, "stores", self.whole) else { return };
        let root = &path;
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
        let known = out.all_ids.then_some(&out.ids);
        let mut file = ObjectReader { faults: &mut *self.faults, whole: self.whole, members, path: root };
        let wanted = "an object that says where the audit log is";
        let read = file.optional_object(("auditLog", wanted), |object| AuditLogSpec::read(object, known));
        if let Some(read) = read {
            out.audit_log = read;
            let audited = out.specs.iter().find(|spec| spec.audited).filter(|_| out.audit_log.is_none());
            if let Some(StoreSpec { id, .. }) = audited {
                file.error_of_missing(format!("store `{id}` is audited; add `auditLog`, which says where its log is"));
            }
        }
    }

    /// Checks that exactly one store is the primary. A single store is the primary by itself.
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

    /// Warns of two stores in one place: each would treat the other's content as its own.
    fn warn_of_shared_roots(&mut self, items: &[JsonNode], path: &MemberPath<'_>, specs: &[StoreSpec]) {
        let mut roots: BTreeMap<PathBuf, &StoreId> = BTreeMap::new();
        for (index, (item, spec)) in items.iter().zip(specs).enumerate() {
            let Some(root) = spec.kind.folder_root() else { continue };
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
        let audited = match members.get("audited") {
            Some(node) => self.faults.boolean(node, &path.member("audited")),
            None => Some(false),
        };
        let kind = self.kind(members, path);
        let spec = match (&id, kind, primary, transfers_max, audited) {
            (Some((_, id)), Some(kind), Some((_, primary)), Some(transfers_max), Some(audited)) => {
                Some(StoreSpec { id: id.clone(), kind, primary, transfers_max, audited })
            }
            _ => None,
        };
        ParsedStore { id, spec }
    }

    fn kind(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> Option<StoreKind> {
        let types = names_of_types(|name| format!("\"{name}\""));
        let node = self.faults.required(members, path, "type", self.whole);
        let name =
            node.and_then(|node| self.faults.text(node, &path.member("type"), &format!("the store's type: {types}")));
        let found = STORE_TYPES.iter().find(|of| Some(of.name) == name);
        if let (None, Some(name), Some(node)) = (found, name, node) {
            let message = format!("no type of store is called {}; write {types}", quoted(name));
            self.faults.error(node.at, &path.member("type"), message);
        }
        let mut entry = ObjectReader { faults: &mut *self.faults, whole: self.whole, members, path };
        // For a store of an unknown type, the members of every type are accepted.
        let possible = STORE_TYPES.iter().filter(|of| found.is_none_or(|found| found.name == of.name));
        let known: Vec<_> = [STORE].into_iter().chain(possible.map(|of| of.members)).collect();
        entry.only_known_members(&names(&known));
        found.and_then(|of| (of.read)(&mut entry))
    }
}
