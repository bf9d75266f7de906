//! The promises that must hold at every moment, each in a file of its own. A new one is a file here and a line in [`all`].

mod checkpoints;
mod dead_letters;
mod delays;
mod deletes;
mod ended_runs;
mod failure_counts;
mod fences;
mod follow_ups;
mod grants;
mod histories;
mod in_sync;
mod leases;
mod newest;
mod owners;
mod producers;
mod runs;
mod sources;
mod spellings;
mod sums;
mod tasks;
mod whole;

use super::event::Event;
use super::model::WorldModel;

/// A promise that events can break.
pub(crate) trait Invariant: Send {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Judges an event that the model has applied already.
    ///
    /// # Errors
    /// A message for a person, if the promise is broken.
    fn see(&mut self, event: &Event<'_>, model: &WorldModel) -> Result<(), String>;
}

/// All of them.
pub(crate) fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(tasks::NoTaskIsLost),
        Box::new(follow_ups::FollowUpsComeFirst),
        Box::new(histories::HistoriesGrow),
        Box::new(failure_counts::OnlyFailuresCount),
        Box::new(delays::DelaysKept),
        Box::new(dead_letters::RetriedOnceSent),
        Box::new(dead_letters::DecisionsStand),
        Box::new(leases::LeasedEffects),
        Box::new(sources::SourcesUntouched),
        Box::new(whole::WholeItems),
        Box::new(spellings::OwnNames),
        Box::new(newest::NeverBack),
        Box::new(deletes::ProvenDeletes),
        Box::new(grants::GrantedDeletes::default()),
        Box::new(checkpoints::LogsOnlyGrow::default()),
        Box::new(owners::OneOwner::default()),
        Box::new(producers::OneProducer::default()),
        Box::new(fences::BookIsFenced::default()),
        Box::new(runs::CompleteRuns),
        Box::new(runs::RunsWaitForNoOther),
        Box::new(sums::SumsAddUp),
        Box::new(in_sync::InSyncIsSo::default()),
        Box::new(ended_runs::EndedRunsSayWhatIsSo),
    ]
}
