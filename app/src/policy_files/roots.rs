//! Stores of policy files that share files, found by where their roots are now.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mill_local::folder::{Extent, Overlap, overlaps};
use mill_model::{AccountId, StoreId};
use mill_policy::{AccountPolicy, Diagnostic, Severity, StoreSpec};

use crate::placement_checks::overlapping;
use crate::wait_limit::WaitLimit;

/// A destination in a folder, and its extent.
struct Destination<'p> {
    account: &'p AccountId,
    store: &'p StoreId,
}

/// Reports every policy whose source and destination overlap, and every two destinations in one place.
///
/// A root that does not exist now is skipped, because its extent is unknown. A root that does not answer is reported.
pub(super) async fn faults(policies: &[AccountPolicy], base: &Path) -> Vec<Diagnostic> {
    let (known, mut faults) = extents_of(policies, base).await;
    let (mut destinations, mut extents) = (Vec::new(), Vec::new());
    for policy in policies {
        let account = policy.account();
        let stores = |id: &StoreId| policy.store(id).and_then(|store| Some((store, root(store, base)?)));
        for (source, destination) in policy.pairs() {
            let (Some((from, from_root)), Some((to, to_root))) = (stores(source), stores(destination)) else {
                continue;
            };
            let written = from.kind.overlaps(&to.kind);
            let extents = known.get(&from_root).zip(known.get(&to_root));
            let found = extents.and_then(|(from, to)| from.overlap(to)).filter(|_| !written);
            faults.extend(found.map(|overlap| of_pair(account, (source, destination), &overlap)));
        }
        for destination in policy.destinations() {
            if let Some((_, root)) = stores(destination)
                && let Some(extent) = known.get(&root)
            {
                destinations.push(Destination { account, store: destination });
                extents.push(extent.clone());
            }
        }
    }
    let shared =
        overlaps(&extents).into_iter().map(|(a, b, overlap)| of_two(&destinations[a], &destinations[b], &overlap));
    faults.extend(shared);
    faults
}

/// The extents of the stores' roots now, and those that do not answer.
async fn extents_of(policies: &[AccountPolicy], base: &Path) -> (BTreeMap<PathBuf, Extent>, Vec<Diagnostic>) {
    let wait_limit = one_look();
    let stores = policies.iter().flat_map(|policy| policy.stores().iter().map(move |store| (policy.account(), store)));
    let roots = stores.filter_map(|(account, store)| Some((account, &store.id, root(store, base)?)));
    let looks = roots.map(async |(account, store, root)| {
        let at = root.clone();
        let extent = wait_limit.look(&root, move || Ok(Extent::of(&at).ok())).await;
        extent.map(|extent| Some((root, extent?))).map_err(|_| silent(account, store))
    });
    let (mut extents, mut faults) = (BTreeMap::new(), Vec::new());
    for looked in futures::future::join_all(looks).await {
        match looked {
            Ok(found) => extents.extend(found),
            Err(fault) => faults.push(fault),
        }
    }
    (extents, faults)
}

/// How long to wait for a root: a check names one that hangs, and goes on.
pub(super) fn one_look() -> WaitLimit {
    WaitLimit { give_up_after: Duration::ZERO, ..WaitLimit::endless() }
}

fn silent(account: &AccountId, store: &StoreId) -> Diagnostic {
    let message = format!("the root of store `{store}` does not answer, so what it holds is not known");
    Diagnostic { severity: Severity::Warning, ..Diagnostic::of_file(AccountPolicy::stores_file_name(account), message) }
}

/// The root of a store in a folder.
pub(super) fn root(store: &StoreSpec, base: &Path) -> Option<PathBuf> {
    Some(base.join(store.kind.folder_root()?))
}

fn of_pair(account: &AccountId, (source, destination): (&StoreId, &StoreId), overlap: &Overlap) -> Diagnostic {
    let file = AccountPolicy::stores_file_name(account);
    Diagnostic::of_file(file, format!("stores `{source}` and `{destination}`: {}", overlapping(overlap)))
}

fn of_two(one: &Destination<'_>, other: &Destination<'_>, overlap: &Overlap) -> Diagnostic {
    let message = format!(
        "store `{}` of account `{}` and store `{}` of account `{}` are both written, and {overlap}; each would remove what \
         the other copies. Give them separate places",
        one.store, one.account, other.store, other.account
    );
    Diagnostic::of_file(AccountPolicy::stores_file_name(other.account), message)
}
