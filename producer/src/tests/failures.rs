//! A failed survey is recorded, for the status, until a later one succeeds.

use std::sync::Arc;
use std::time::Duration;

use mill_model::SpacePair;
use mill_ports::{Clock as _, DeletableStore};
use mill_records::producer_state::{DuplicationRows, ProducerState, SurveyFailure, SurveySubject};
use mill_testkit::{FaultKind, FaultPlan, FaultyStore, SeededRng};

use super::world::{DEFAULT, TWO, World, account, address, space, store};
use crate::{DuplicationProducer, RunStart};

async fn failures(world: &World) -> Vec<SurveyFailure<SpacePair>> {
    let state =
        ProducerState::<DuplicationRows>::to_read(world.state.clone(), world.clock.clone(), DuplicationProducer::NAME);
    state.failures().await.unwrap().into_iter().map(|kept| kept.record).collect()
}

/// Lets a store's calls fail until the plan is calm.
fn outage(world: &World, id: &str) -> Arc<FaultPlan> {
    let plan = FaultPlan::new(world.clock.clone(), Arc::new(SeededRng::new(1)));
    plan.set_outage(Some(FaultKind::Unreachable));
    let inner: Arc<dyn DeletableStore> = Arc::new(world.store(id).clone());
    world.replace(id, Arc::new(FaultyStore::new(inner, address("a", id), plan.clone())));
    plan
}

/// A run of its own, which tries failures no longer than it must.
async fn begun(world: &World) {
    world
        .session_with(|settings| {
            (settings.looping.run_start, settings.looping.give_up_after) = (RunStart::Now, Duration::ZERO);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_loops_could_not_survey_is_written_down_until_one_can() {
    let pair = |destination| {
        let (account, source, space) = (account("a"), store("1"), space("s"));
        SurveySubject::Morsel(SpacePair { account, source, destination: store(destination), space })
    };
    for (policy, ill, subject) in [(TWO, "3", pair("3")), (DEFAULT, "1", SurveySubject::Store(address("a", "1")))] {
        let world = World::new(policy);
        world.insert("1", "item", 5);
        world.store("2").insert_space(&space("s"));
        begun(&world).await;
        assert_eq!(failures(&world).await, []);

        let plan = outage(&world, ill);
        let mut firsts = Vec::new();
        for loops in 1..=3 {
            world.clock.sleep(Duration::from_hours(1)).await;
            let before = world.clock.now();
            begun(&world).await;
            let failures = failures(&world).await;
            let failure = failures.iter().find(|failure| failure.subject == subject);
            let failure = failure.unwrap_or_else(|| panic!("{loops}: {failures:?}"));
            assert!(failure.last >= before && failure.reason.contains("does not answer"), "{failure:?}");
            firsts.push(failure.first);
        }
        assert!(firsts.iter().all(|first| *first == firsts[0]), "since the first of them: {firsts:?}");

        plan.calm();
        begun(&world).await;
        assert_eq!(failures(&world).await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_closing_survey_could_not_see_is_written_down() {
    let world = World::new(TWO);
    world.insert("1", "item", 5);
    begun(&world).await;
    let _plan = outage(&world, "3");
    world.producer().closing_survey(&|_, _| false, &tokio_util::sync::CancellationToken::new()).await.unwrap();
    let [failure] = &failures(&world).await[..] else { panic!("one") };
    assert!(matches!(&failure.subject, SurveySubject::Morsel(pair) if pair.destination == store("3")), "{failure:?}");
}
