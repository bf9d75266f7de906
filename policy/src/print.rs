//! A policy as the files that say it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::account::AccountPolicy;
use crate::decision::{SettingOrigin, SettingOrigins, StorePolicy};
use crate::policy_file::SpaceRules;
use crate::stores::{Buckets, Dialect, S3Spec, SecretReference, StoreKind, StoreSpec};

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
struct StoresOut<'p> {
    stores: Vec<StoreOut<'p>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct StoreOut<'p> {
    id: &'p str,
    r#type: &'p str,
    #[serde(skip_serializing_if = "Option::is_none")]
    root: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_prefix: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'p str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    path_style: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conditional_writes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_checksums: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_tags: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_side_copies: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    primary: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    transfers_max: Option<u32>,
}

impl AccountPolicy {
    /// The policy file that says this policy: reading it gives an equal one.
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

    /// The stores file that says these stores: reading it gives equal ones. No secret stands in it.
    pub fn print_stores(&self) -> String {
        print(&StoresOut { stores: self.stores().iter().map(store).collect() })
    }
}

fn print(value: &impl Serialize) -> String {
    // Plain structs with text keys always can be written.
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

fn store(spec: &StoreSpec) -> StoreOut<'_> {
    let mut out = StoreOut {
        id: spec.id.as_str(),
        primary: spec.primary,
        transfers_max: spec.transfers_max,
        r#type: spec.kind.type_name(),
        ..StoreOut::default()
    };
    match &spec.kind {
        StoreKind::Folder { root } => {
            out.root = Some(root.to_string_lossy().into_owned());
        }
        StoreKind::S3(s3) => s3_store(s3, &mut out),
    }
    out
}

fn s3_store<'p>(s3: &'p S3Spec, out: &mut StoreOut<'p>) {
    match &s3.buckets {
        Buckets::One(bucket) => out.bucket = Some(bucket),
        Buckets::Prefix(prefix) => out.bucket_prefix = Some(prefix),
    }
    out.endpoint = s3.endpoint.as_deref();
    out.region = s3.region.as_deref();
    out.path_style = s3.path_style;
    let usual = Dialect::usual(s3.endpoint.is_none());
    let unusual = |is: bool, usual: bool| (is != usual).then_some(is);
    out.conditional_writes = unusual(s3.dialect.conditional_writes, usual.conditional_writes);
    out.whole_checksums = unusual(s3.dialect.whole_checksums, usual.whole_checksums);
    out.sha256 = unusual(s3.dialect.sha256, usual.sha256);
    out.md5_tags = unusual(s3.dialect.md5_tags, usual.md5_tags);
    out.server_side_copies = unusual(s3.dialect.server_side_copies, usual.server_side_copies);
    out.profile = s3.profile.as_deref();
    out.role_arn = s3.role.as_ref().map(|role| role.arn.as_str());
    out.external_id = s3.role.as_ref().and_then(|role| role.external_id.as_deref());
    out.credentials = s3.credentials.as_ref().map(|credentials| {
        let all = [
            ("accessKeyId", Some(&credentials.access_key_id)),
            ("secretAccessKey", Some(&credentials.secret_access_key)),
            ("sessionToken", credentials.session_token.as_ref()),
        ];
        let named = |(name, reference): (&str, Option<&SecretReference>)| match reference? {
            SecretReference::Env(variable) => Some((format!("{name}Env"), variable.clone())),
            SecretReference::File(path) => Some((format!("{name}File"), path.to_string_lossy().into_owned())),
        };
        all.into_iter().filter_map(named).collect()
    });
}
