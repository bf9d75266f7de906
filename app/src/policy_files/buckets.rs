//! Stores of policy files that share objects, found by their addresses with the environment and profiles applied.

use std::collections::BTreeMap;

use anyhow::Result;
use mill_model::{AccountId, StoreId};
use mill_policy::{AccountPolicy, Diagnostic, S3Spec, StoreKind};

use crate::placement_checks::overlapping;
use crate::store_choice;

/// Reports every policy whose source and destination overlap, and every two destinations in one place.
///
/// Overlaps that the files themselves show are left out: they were reported already.
pub(super) async fn faults(policies: &[AccountPolicy]) -> Result<Vec<Diagnostic>> {
    let mut specs: BTreeMap<(&AccountId, &StoreId), &S3Spec> = BTreeMap::new();
    for policy in policies {
        for store in policy.stores() {
            if let StoreKind::S3(spec) = &store.kind {
                specs.insert((policy.account(), &store.id), spec);
            }
        }
    }
    let stores: Vec<(&AccountId, &StoreId)> = specs.keys().copied().collect();
    let specs: Vec<&S3Spec> = specs.into_values().collect();
    let mut faults = Vec::new();
    for (one, other, overlap) in store_choice::overlaps_in_s3(&specs).await? {
        let written = specs[one].overlaps(specs[other]);
        let ((account, store), (others_account, others)) = (stores[one], stores[other]);
        let of = |account| policies.iter().find(|policy| policy.account() == account);
        let (Some(policy), Some(others_policy)) = (of(account), of(others_account)) else { continue };
        let file = AccountPolicy::stores_file_name(others_account);
        let is_pair = |(source, destination): (&StoreId, &StoreId)| {
            account == others_account && [(source, destination), (destination, source)].contains(&(store, others))
        };
        if policy.pairs().into_iter().any(is_pair) {
            if !written {
                faults.push(Diagnostic::of_file(
                    file,
                    format!("stores `{store}` and `{others}`: {}", overlapping(&overlap)),
                ));
            }
        } else if policy.destinations().contains(store) && others_policy.destinations().contains(others) {
            let message = format!(
                "store `{store}` of account `{account}` and store `{others}` of account `{others_account}` are both written, \
                 and {overlap}; each would remove what the other copies. Give them separate places"
            );
            faults.push(Diagnostic::of_file(file, message));
        }
    }
    Ok(faults)
}
