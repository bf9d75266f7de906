//! Stores of policy files that hold the same files, found by what their roots lead to now.

use std::path::{Path, PathBuf};

use mill_local::folder::{Extent, Overlap, overlaps};
use mill_model::{AccountId, StoreId};
use mill_policy::{AccountPolicy, Fault, StoreKind, StoreSpec};

use crate::misplaced::overlapping;

/// A destination in a folder, and what it holds.
struct Destination<'p> {
    account: &'p AccountId,
    store: &'p StoreId,
}

/// Every pair of stores of which one may not be a copy of the other, and every two destinations in one place.
///
/// What is not there now is passed over: what it holds is not known.
pub(super) fn faults(policies: &[AccountPolicy], base: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut destinations, mut extents) = (Vec::new(), Vec::new());
    for policy in policies {
        let account = policy.account();
        let stores = |id: &StoreId| policy.store(id).and_then(|store| Some((store, root(store, base)?)));
        for (source, destination) in policy.pairs() {
            let (Some((from, from_root)), Some((to, to_root))) = (stores(source), stores(destination)) else {
                continue;
            };
            let written = from.kind.overlaps(&to.kind);
            let extents = Extent::of(&from_root).and_then(|from| Ok((from, Extent::of(&to_root)?)));
            let found = extents.ok().and_then(|(from, to)| from.overlap(&to)).filter(|_| !written);
            faults.extend(found.map(|overlap| of_pair(account, (source, destination), &overlap)));
        }
        for destination in policy.destinations() {
            if let Some((_, root)) = stores(destination)
                && let Ok(extent) = Extent::of(&root)
            {
                destinations.push(Destination { account, store: destination });
                extents.push(extent);
            }
        }
    }
    let shared =
        overlaps(&extents).into_iter().map(|(a, b, overlap)| of_two(&destinations[a], &destinations[b], &overlap));
    faults.extend(shared);
    faults
}

/// The root of a store in a folder.
fn root(store: &StoreSpec, base: &Path) -> Option<PathBuf> {
    match &store.kind {
        StoreKind::Folder { root } => Some(base.join(root)),
        StoreKind::S3(_) => None,
    }
}

fn of_pair(account: &AccountId, (source, destination): (&StoreId, &StoreId), overlap: &Overlap) -> Fault {
    let file = AccountPolicy::stores_file_name(account);
    Fault::of_file(file, format!("stores `{source}` and `{destination}`: {}", overlapping(overlap)))
}

fn of_two(one: &Destination<'_>, other: &Destination<'_>, overlap: &Overlap) -> Fault {
    let message = format!(
        "store `{}` of account `{}` and store `{}` of account `{}` are both written, and {overlap}; each would remove what \
         the other copies. Give them separate places",
        one.store, one.account, other.store, other.account
    );
    Fault::of_file(AccountPolicy::stores_file_name(other.account), message)
}
