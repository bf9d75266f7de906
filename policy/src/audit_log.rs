//! `auditLog` of a stores file: where the audit log of an account is, and what signs it.
//!
//! ```json
//! { "stores": [ … ],
//!   "auditLog": { "stores": ["2", "3"], "origin": "archive.example.org/audit", "signingKeyFile": "/run/secrets/audit-key" } }
//! ```

use std::collections::BTreeSet;

use mill_model::{SpaceId, StoreId};
use serde_json::Value;

use crate::members::{AUDIT_LOG, names};
use crate::object_reader::ObjectReader;
use crate::store_types::SecretReference;

/// Where the audit log of an account is, and what signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLogSpec {
    /// The stores that have the whole log, each once.
    pub stores: Vec<StoreId>,
    /// The space of the log in each of them.
    pub space: SpaceId,
    /// The log's name in its checkpoints, by which a verifier tells it from others.
    pub origin: String,
    /// Where the signing key is. Never the key itself.
    pub signing_key: SecretReference,
}

/// The space of a log whose file names none. Store policies never cover spaces whose ids begin with `x-`.
pub const AUDIT_LOG_SPACE: &str = "x-audit-log";

impl AuditLogSpec {
    /// Reads the object. `known`: the ids of all stores, if all of them could be read.
    pub(crate) fn read(object: &mut ObjectReader<'_, '_>, known: Option<&BTreeSet<StoreId>>) -> Option<Self> {
        object.only_known_members(&names(&[AUDIT_LOG]));
        let stores = Self::stores(object, known);
        let space = object.optional_text("space", "the id of a space")?.unwrap_or_else(|| AUDIT_LOG_SPACE.to_owned());
        let space = SpaceId::new(space).map_err(|error| object.error("space", error.to_string())).ok();
        let origin = object.optional_text("origin", "the log's name, such as \"archive.example.org/audit\"")?;
        if origin.is_none() {
            object
                .error_of_missing("add `origin`: a name that no other log has, such as \"archive.example.org/audit\"");
        }
        if origin.as_ref().is_some_and(|origin| origin.contains('+')) {
            object.error("origin", "this must be a name without `+`");
            return None;
        }
        let key = SecretReference::read(object, ["signingKeyEnv", "signingKeyFile"])?;
        if key.is_none() {
            object.error_of_missing("add `signingKeyFile` or `signingKeyEnv`; `mill audit new-key` makes a key");
        }
        Some(Self { stores: stores?, space: space?, origin: origin?, signing_key: key? })
    }

    fn stores(object: &mut ObjectReader<'_, '_>, known: Option<&BTreeSet<StoreId>>) -> Option<Vec<StoreId>> {
        let mut stores = Vec::new();
        for id in object.required_ids("stores", "a list of the ids of stores that keep the log", StoreId::new)? {
            if stores.contains(&id) {
                object.error("stores", format!("store `{id}` is named twice"));
                return None;
            }
            if known.is_some_and(|known| !known.contains(&id)) {
                object.error("stores", format!("no store has the id `{id}`"));
                return None;
            }
            stores.push(id);
        }
        if stores.is_empty() {
            object.error("stores", "name at least one store, which keeps the log");
            return None;
        }
        Some(stores)
    }

    /// Its members, in the order of the file.
    pub(crate) fn printed(&self) -> Value {
        let key = match &self.signing_key {
            SecretReference::Env(variable) => ("signingKeyEnv", Value::from(variable.as_str())),
            SecretReference::File(path) => ("signingKeyFile", path.to_string_lossy().into()),
        };
        let stores = self.stores.iter().map(|store| Value::from(store.as_str())).collect();
        let all = [
            ("stores", Value::Array(stores)),
            ("space", self.space.as_str().into()),
            ("origin", self.origin.as_str().into()),
            key,
        ];
        Value::Object(all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::stores_file;

    use super::*;

    fn read(log: &str, audited: bool) -> Result<Option<AuditLogSpec>, Vec<String>> {
        let audited = if audited { ", \"audited\": true" } else { "" };
        let file = format!(
            "{{ \"stores\": [{{ \"id\": \"1\", \"type\": \"folder\", \"root\": \"a\"{audited} }}]{}{log} }}",
            if log.is_empty() { "" } else { ", \"auditLog\": " }
        );
        let (read, faults) = stores_file::read("stores", file.as_bytes());
        if faults.is_empty() { Ok(read.audit_log) } else { Err(faults.iter().map(ToString::to_string).collect()) }
    }

    #[test]
    fn a_log_names_its_stores_its_origin_and_where_its_key_is() {
        let log = r#"{ "stores": ["1"], "origin": "example.org/log", "signingKeyFile": "/run/key" }"#;
        let spec = read(log, true).unwrap().unwrap();
        assert_eq!((spec.space.as_str(), spec.origin.as_str()), ("x-audit-log", "example.org/log"));
        assert_eq!(spec.signing_key, SecretReference::File("/run/key".into()));
        assert_eq!(read("", false), Ok(None));
    }

    #[test]
    fn what_is_wrong_with_a_log_is_named() {
        for (log, wanted) in [
            (r#"{ "origin": "o", "signingKeyEnv": "K" }"#, "`stores`"),
            (r#"{ "stores": [], "origin": "o", "signingKeyEnv": "K" }"#, "at least one store"),
            (r#"{ "stores": ["1", "1"], "origin": "o", "signingKeyEnv": "K" }"#, "named twice"),
            (r#"{ "stores": ["9"], "origin": "o", "signingKeyEnv": "K" }"#, "no store has the id `9`"),
            (r#"{ "stores": ["1"], "signingKeyEnv": "K" }"#, "add `origin`"),
            (r#"{ "stores": ["1"], "origin": "a+b", "signingKeyEnv": "K" }"#, "without `+`"),
            (r#"{ "stores": ["1"], "origin": "o" }"#, "mill audit new-key"),
            (r#"{ "stores": ["1"], "origin": "o", "signingKeyEnv": "K", "space": "a/b" }"#, "space id"),
            (r#"{ "stores": ["1"], "origin": "o", "signingKeyEnv": "K", "signingkey": "x" }"#, "signingkey"),
        ] {
            let faults = read(log, false).unwrap_err();
            assert!(faults[0].contains(wanted), "{log}: {faults:?}");
        }
        let faults = read("", true).unwrap_err();
        assert!(faults[0].contains("add `auditLog`"), "{faults:?}");
    }
}
