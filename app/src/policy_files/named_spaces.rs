//! Spaces that a policy names and that are not in the folder it copies them from: a mistyped name copies nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;

use mill_model::{SpaceId, StoreId};
use mill_policy::{AccountPolicy, Diagnostic, Severity};

use super::roots;
use crate::wait_limit::WaitLimit;

/// Warns of each space with a list of its own, or left out by name, that its source does not have. Sources in S3 are not asked,
/// and neither is a root that is not there, or does not answer, now.
pub(super) async fn faults(policies: &[AccountPolicy], base: &Path) -> Vec<Diagnostic> {
    let wait_limit = roots::one_look();
    let looks = policies.iter().map(async |policy| missing(policy, base, &wait_limit).await);
    futures::future::join_all(looks).await.into_iter().flatten().collect()
}

async fn missing(policy: &AccountPolicy, base: &Path, wait_limit: &WaitLimit) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for space in policy.named_spaces() {
        let decision = policy.for_space(space);
        let sources: BTreeSet<&StoreId> = decision.policies.iter().map(|of| &of.source).collect();
        for source in sources {
            let root = policy.store(source).and_then(|store| roots::root(store, base));
            let Some(root) = root else { continue };
            let (at, name) = (root.clone(), space.clone());
            let is_missing = wait_limit.look(&root, move || Ok(lacks(&at, &name))).await;
            if is_missing.unwrap_or(false) {
                faults.push(warning(policy, space, (source, &root)));
            }
        }
    }
    faults
}

/// Whether a root can be read and has no such directory.
fn lacks(root: &Path, space: &SpaceId) -> bool {
    let is_there = std::fs::read_dir(root).is_ok();
    is_there
        && std::fs::symlink_metadata(root.join(space.as_str())).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn warning(policy: &AccountPolicy, space: &SpaceId, (source, root): (&StoreId, &Path)) -> Diagnostic {
    let message = format!(
        "space `{space}` is not in store `{source}` (`{}`), so nothing is copied of it: is its name right?",
        root.display()
    );
    let file = AccountPolicy::policy_file_name(policy.account());
    Diagnostic { severity: Severity::Warning, ..Diagnostic::of_file(file, message) }
}
