//! The simulated fleet, in small: `simulate` runs it at length (see `docs/simulation.md`).

use mill_hooks::planted_bugs::PlantedBug;
use mill_simulation::campaign::{self, Campaign};
use mill_simulation::fault::SimFault;

const QUIET: Campaign = Campaign { from: 0, seeds: 60, threads: 2, planted: None, stops: false };

#[test]
fn worlds_in_which_everything_goes_wrong_keep_every_promise() {
    let tally = QUIET.run(&|_| {});
    let broken: Vec<_> = tally.violations.iter().map(|outcome| (outcome.seed, &outcome.violation)).collect();
    assert!(broken.is_empty(), "{broken:?}");
    assert!(tally.faults.total() > 1_000 && tally.deliveries > 1_000);
    let never: Vec<_> = tally.faults.each().filter(|(_, count)| *count == 0).map(|(fault, _)| fault).collect();
    assert!(never.len() < SimFault::ALL.len() / 5, "{never:?}");
}

#[test]
fn a_seed_has_one_trace() {
    assert_eq!(campaign::replay(1_000, 20), None);
}

/// All of them are looked for by `simulate --planted all`, which `./test` runs.
#[test]
fn bugs_on_purpose_are_found() {
    for bug in [
        PlantedBug::LetterAfterAcknowledge,
        PlantedBug::AcknowledgeBeforeWrite,
        PlantedBug::HistoryReset,
        PlantedBug::SnoozeCountsAsFailure,
        PlantedBug::UngrantedListDeletes,
        PlantedBug::PropertiesForgotten,
        PlantedBug::SizeAloneCompared,
        PlantedBug::StateLeaseIgnored,
        PlantedBug::StaleSealBelieved,
        PlantedBug::UnprovenCalledInSync,
        PlantedBug::WriteNotAtomic,
        PlantedBug::EndsWhileProducing,
        PlantedBug::SnoozedTakenAsDone,
        PlantedBug::SkippedSpaceForgotten,
        PlantedBug::ChangedWithoutIntent,
        PlantedBug::PlacesForgotten,
        PlantedBug::LastArrivalIndexed,
    ] {
        let tally = Campaign { seeds: 400, planted: Some(bug), stops: true, ..QUIET }.run(&|_| {});
        assert!(!tally.violations.is_empty(), "{}", bug.as_str());
    }
}
