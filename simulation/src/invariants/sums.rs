//! Every entry under the root of a source is copied, named, or left out by a named rule: a complete run lists at least the items
//! that were there all the time, its sum adds up, and no space is skipped without a report.

use mill_model::{ItemAddress, Monotonic, StoreAddress};
use mill_producer::{SessionEnd, SessionReport};

use super::Invariant;
use crate::desired_policies::DesiredPolicy;
use crate::event::Event;
use crate::model::{ItemSnapshot, StoreModel, WorldModel, back};
use crate::users::DISK;

pub(super) struct SumsAddUp;

impl Invariant for SumsAddUp {
    fn name(&self) -> &'static str {
        "every entry is accounted for"
    }

    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String> {
        let Event::Session { by, report } = event else { return Ok(()) };
        report.survey.check().map_err(|why| format!("the sum of {by}'s session is wrong: {why}"))?;
        let SessionEnd::Finished { .. } = &report.ended else { return Ok(()) };
        if report.failed() || model.policies_troubled.is_some() {
            return Ok(());
        }
        let mut listed_least = 0;
        for (account, began) in model.runs_of_session(by) {
            // Judged only if the policies were the same all the time, as every process knows them.
            let mut desired_policies =
                model.policies_since(back(began, model.tolerances.refresh + model.tolerances.tries_age));
            let (Some(desired_policies), None) = (desired_policies.next(), desired_policies.next()) else { continue };
            let Some(desired_policy) = desired_policies.0.get(account) else { continue };
            for (store, store_model) in model.stores.iter().filter(|(store, _)| store.account == *account) {
                spaces_are_named(report, (desired_policy, store, store_model), began)
                    .map_err(|why| format!("{by}: {why}"))?;
                listed_least +=
                    standing_since(store_model, began).map(|item| copies(desired_policy, store, item)).sum::<u64>();
            }
        }
        let listed = report.survey.listed;
        if listed < listed_least {
            return Err(format!(
                "{by} ended a run that listed {listed} entries, where {listed_least} stood all the while"
            ));
        }
        Ok(())
    }
}

/// The items that are unchanged since before a run began, except for those that an unmounted disk may hide.
fn standing_since(store_model: &StoreModel, began: Monotonic) -> impl Iterator<Item = &ItemAddress> {
    let stood = move |(item, snapshot): &(&ItemAddress, &ItemSnapshot)| {
        snapshot.since < began && !item.id.as_str().starts_with(DISK)
    };
    store_model.standing().filter(stood).map(|(item, _)| item)
}

/// How many pairs copy an item of a store.
fn copies(desired_policy: &DesiredPolicy, store: &StoreAddress, item: &ItemAddress) -> u64 {
    desired_policy.of_space(&item.space).iter().filter(|desired_copy| desired_copy.source == store.store).count() as u64
}

/// Judges that each space of a store that default policies read is covered, or reported with the rule that leaves it out.
fn spaces_are_named(
    report: &SessionReport,
    (desired_policy, store, store_model): (&DesiredPolicy, &StoreAddress, &StoreModel),
    began: Monotonic,
) -> Result<(), String> {
    if report.resumed || !desired_policy.defaults.iter().any(|desired_copy| desired_copy.source == store.store) {
        return Ok(());
    }
    for (space, (here, since)) in &store_model.spaces {
        if !*here || *since >= began || !desired_policy.ignored.contains(space) {
            continue;
        }
        let named = report.findings.left_out.first.iter().any(|entry| {
            entry.account == store.account
                && entry.store.as_ref() == Some(&store.store)
                && entry.shown == space.to_string()
        });
        if !named {
            return Err(format!("the run says nothing of space {space} of {store}, which a rule leaves out"));
        }
    }
    Ok(())
}
