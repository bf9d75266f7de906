//! Writes a policy as files.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::account::AccountPolicy;
use crate::decision::{SettingOrigin, SettingOrigins, StorePolicy};
use crate::policy_file::SpaceRules;
use crate::stores::StoreSpec;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyOut<'p> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    space_duplication_store_policies: BTreeMap<&'p str, Vec<StorePolicyOut<'p>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    default_policies: Vec<StorePolicyOut<'p>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spaces_to_ignore: Vec<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_vanished: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StorePolicyOut<'p> {
    src_store_id: &'p str,
    dest_store_id: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remove_vanished: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compare: Option<&'p str>,
}

#[derive(Serialize)]
struct StoresOut {
    stores: Vec<StoreOut>,
    #[serde(rename = "auditLog", skip_serializing_if = "Option::is_none")]
    audit_log: Option<Value>,
}

/// The members of a store, in the order of the file.
struct StoreOut(Vec<(&'static str, Value)>);

impl Serialize for StoreOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl AccountPolicy {
    /// The policy file of this policy. Reading it gives an equal policy.
    pub fn print_policy(&self) -> String {
        print(&PolicyOut {
            space_duplication_store_policies: self
                .per_space
                .iter()
                .map(|(id, rules)| (id.as_str(), list(rules)))
                .collect(),
            default_policies: list(&self.defaults),
            spaces_to_ignore: self.ignored.iter().map(mill_model::SpaceId::as_str).collect(),
            remove_vanished: self.file_settings.remove_vanished,
            compare: self.file_settings.compare.map(crate::Compare::as_str),
            workers: self.workers(),
        })
    }

    /// The stores file of these stores. Reading it gives equal stores. It contains no secret.
    pub fn print_stores(&self) -> String {
        print(&StoresOut {
            stores: self.stores().iter().map(store).collect(),
            audit_log: self.audit_log().map(crate::AuditLogSpec::printed),
        })
    }
}

fn print(value: &impl Serialize) -> String {
    // Plain structs with text keys can always be written.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

fn list(rules: &SpaceRules) -> Vec<StorePolicyOut<'_>> {
    rules.policies.iter().zip(&rules.origins).map(|(policy, origins)| store_policy(policy, *origins)).collect()
}

fn store_policy(policy: &StorePolicy, origins: SettingOrigins) -> StorePolicyOut<'_> {
    StorePolicyOut {
        src_store_id: policy.source.as_str(),
        dest_store_id: policy.destination.as_str(),
        remove_vanished: (origins.remove_vanished == SettingOrigin::Policy).then_some(policy.remove_vanished),
        compare: (origins.compare == SettingOrigin::Policy).then_some(policy.compare.as_str()),
    }
}

fn store(spec: &StoreSpec) -> StoreOut {
    let mut out = vec![("id", spec.id.as_str().into()), ("type", spec.kind.type_name().into())];
    out.extend(spec.kind.printed());
    out.extend(spec.primary.then_some(("primary", true.into())));
    out.extend(spec.transfers_max.map(|most| ("transfersMax", most.into())));
    out.extend(spec.audited.then_some(("audited", true.into())));
    StoreOut(out)
}
