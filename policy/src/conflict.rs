//! Store policies of one space that contradict each other.

use std::collections::{BTreeMap, BTreeSet};

use mill_model::StoreId;

use crate::decision::StorePolicy;

/// A contradiction, and the index of the policy that shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) index: usize,
    pub(crate) reason: String,
}

/// Every contradiction among the policies of one list. No pair of stores may occur twice in the list.
pub(crate) fn conflicts(policies: &[StorePolicy]) -> Vec<Conflict> {
    let mut found = two_sources(policies);
    found.extend(cycle(policies));
    found.sort_by_key(|conflict| conflict.index);
    found
}

/// A destination with two sources would have to hold the content of both, and also only the content of each.
fn two_sources(policies: &[StorePolicy]) -> Vec<Conflict> {
    let mut sources: BTreeMap<&StoreId, &StoreId> = BTreeMap::new();
    let mut found = Vec::new();
    for (index, policy) in policies.iter().enumerate() {
        let first = *sources.entry(&policy.destination).or_insert(&policy.source);
        if *first != policy.source {
            let reason = format!(
                "store `{}` is the destination of both `{first}` and `{}`; keep one of the two",
                policy.destination, policy.source
            );
            found.push(Conflict { index, reason });
        }
    }
    found
}

/// A cycle would bring back deleted items: a deletion at one store and a copy from another would alternate for ever.
fn cycle(policies: &[StorePolicy]) -> Option<Conflict> {
    let mut into: BTreeMap<&StoreId, Vec<(&StoreId, usize)>> = BTreeMap::new();
    let mut out: BTreeMap<&StoreId, Vec<&StoreId>> = BTreeMap::new();
    for (index, policy) in policies.iter().enumerate() {
        into.entry(&policy.destination).or_default().push((&policy.source, index));
        out.entry(&policy.source).or_default().push(&policy.destination);
    }
    // A store without an incoming policy cannot be part of a cycle. After such stores are removed one after the other,
    // only cycles (and what they reach) are left.
    let mut reached: BTreeMap<&StoreId, usize> = into.iter().map(|(store, from)| (*store, from.len())).collect();
    let mut free: Vec<&StoreId> = out.keys().filter(|store| !into.contains_key(**store)).copied().collect();
    while let Some(store) = free.pop() {
        for next in out.get(store).into_iter().flatten() {
            let Some(count) = reached.get_mut(next) else { continue };
            *count -= 1;
            if *count == 0 {
                reached.remove(next);
                free.push(next);
            }
        }
    }
    // Every remaining store is reached from another remaining one, so a walk back must return to a store that it has
    // seen.
    let mut store = *reached.keys().next()?;
    let mut seen = BTreeSet::new();
    let mut steps = Vec::new();
    while seen.insert(store) {
        let (from, index) = *into.get(store)?.iter().find(|(from, _)| reached.contains_key(from))?;
        steps.push((from, store, index));
        store = from;
    }
    let start = steps.iter().position(|(_, to, _)| *to == store)?;
    let round = steps.get(start..)?;
    let mut names: Vec<String> = round.iter().rev().map(|(from, ..)| format!("`{from}`")).collect();
    names.push(format!("`{store}`"));
    let index = round.iter().map(|(.., index)| *index).max()?;
    let reason = format!("the store policies go round in a cycle ({}); remove one of them", names.join(" -> "));
    Some(Conflict { index, reason })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::Compare;

    fn found(pairs: &[(&str, &str)]) -> Vec<(usize, String)> {
        let id = |text: &str| StoreId::new(text).unwrap();
        let policies: Vec<StorePolicy> = pairs
            .iter()
            .map(|(source, destination)| StorePolicy {
                source: id(source),
                destination: id(destination),
                compare: Compare::Everything,
                remove_vanished: true,
            })
            .collect();
        conflicts(&policies).into_iter().map(|conflict| (conflict.index, conflict.reason)).collect()
    }

    #[test]
    fn chains_and_fans_are_fine() {
        assert!(found(&[("1", "2"), ("2", "3"), ("1", "4"), ("5", "6")]).is_empty());
        assert!(found(&[]).is_empty());
    }

    #[test]
    fn two_sources_of_one_destination_are_found() {
        let conflicts = found(&[("1", "3"), ("2", "3"), ("1", "2")]);
        assert_eq!(conflicts.len(), 1);
        assert_eq!(conflicts[0].0, 1);
        assert!(conflicts[0].1.contains("store `3` is the destination of both `1` and `2`"));
    }

    #[test]
    fn cycles_of_any_length_are_found() {
        assert!(found(&[("1", "2"), ("2", "1")])[0].1.contains("(`1` -> `2` -> `1`)"));
        let long = found(&[("0", "9"), ("1", "2"), ("2", "3"), ("3", "1"), ("3", "4")]);
        assert_eq!((long.len(), long[0].0), (1, 3));
        assert!(long[0].1.contains("(`1` -> `2` -> `3` -> `1`)"), "{}", long[0].1);
    }

    #[test]
    fn a_cycle_that_is_entered_from_outside_has_both_faults() {
        let conflicts = found(&[("0", "1"), ("1", "2"), ("2", "1")]);
        assert_eq!(conflicts.len(), 2);
    }

    #[test]
    fn a_long_list_is_judged_quickly() {
        let names: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
        let pairs: Vec<(&str, &str)> = names.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
        assert!(found(&pairs).is_empty());
    }
}
