//! The operator: retries or discards dead letters, confirms held deletes, releases spaces.

use std::sync::Arc;

use mill_hooks::{PlantedBug, is_planted};
use mill_model::{
    AccountId, AuditTask, PublishLogTask, QueueName, SpaceId, StoreAddress, StoreId, TaskArgs as _, TaskKind,
};
use mill_ports::Clock as _;
use mill_records::dead_letters::{DeadLetter, DeadLetterFilter, DeadLetterState, OperatorDecision};
use mill_records::owners::DestinationSpace;

use super::event::{Event, OPERATOR};
use super::fault::SimFault;
use super::fleet::ProcessDeps;
use super::planted_calls;
use super::sim_process::SimProcess;
use super::world::World;

fn is_of_log(kind: Option<&TaskKind>) -> bool {
    kind.is_some_and(|kind| *kind == AuditTask::KIND || *kind == PublishLogTask::KIND)
}

/// A person at the command line.
pub(crate) struct Operator {
    pub(crate) process_deps: ProcessDeps,
}

impl Operator {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { process_deps: ProcessDeps::new(&SimProcess::operator(world)) }
    }

    fn world(&self) -> &World {
        &self.process_deps.process.world
    }

    fn decision(&self) -> OperatorDecision {
        OperatorDecision { by: OPERATOR.to_owned(), at: self.process_deps.process.clock.now() }
    }

    async fn open_dead_letters(&self) -> Option<Vec<DeadLetter>> {
        let filter = DeadLetterFilter { state: Some(DeadLetterState::Open.as_str()), ..DeadLetterFilter::default() };
        self.process_deps.dead_letters().list(&filter, None, 1000).await.ok().map(|page| page.letters)
    }

    /// Decides about open dead letters: all of them, or some. Returns how many there were, or `None` if they could not be listed.
    pub(crate) async fn decide_dead_letters(&self, all: bool) -> Option<usize> {
        let letters = self.open_dead_letters().await?;
        let rng = &self.world().rng;
        for letter in &letters {
            if !all && rng.below(3) == 0 {
                continue;
            }
            let hopeless = letter.account.is_none() || letter.origin.is_none() || letter.history.len() > 6;
            let discard = hopeless || (!all && rng.below(2) == 0);
            // What is to be recorded is never thrown away.
            let to = is_of_log(letter.kind.as_ref()).then_some(QueueName::Audit);
            let discard = discard && to.is_none();
            let book = self.process_deps.dead_letters();
            let decided = if discard {
                book.discard(&letter.id, "not worth it", self.decision()).await
            } else {
                book.retry(&letter.id, to, self.process_deps.queues(), self.decision()).await.map(drop)
            };
            match decided {
                Ok(()) if !self.world().is_calm() => {
                    self.world()
                        .count(if discard { SimFault::LetterDiscarded } else { SimFault::LetterRetried }, OPERATOR);
                }
                Ok(()) => {}
                Err(error) => self.world().note(OPERATOR, format_args!("{}", mill_ports::error_chain(&error))),
            }
        }
        Some(letters.len())
    }

    /// Confirms held deletes: all of them, or some.
    pub(crate) async fn confirm(&self, all: bool) {
        let lists = self.process_deps.delete_lists();
        for mut held in lists.held().await.unwrap_or_default() {
            if !all && self.world().rng.below(4) == 0 {
                continue;
            }
            let (now, deletes) = (self.process_deps.process.clock.now(), held.count());
            self.world().see(&Event::Confirming { list: &held.list });
            match lists.grant(&mut held, OPERATOR, now).await {
                Ok(()) => {
                    self.world().see(&Event::Confirmed { deletes });
                    if is_planted(PlantedBug::ConfirmedForAll) {
                        planted_calls::grant_all(&lists, now).await;
                    }
                    if !self.world().is_calm() {
                        self.world().count(SimFault::HeldConfirmed, OPERATOR);
                    }
                }
                Err(error) => self.world().note(OPERATOR, format_args!("{}", mill_ports::error_chain(&error))),
            }
        }
    }

    /// Releases every space whose owner is not the source that the current policies name.
    pub(crate) async fn release(&self) {
        let desired_policies = self.world().desired_policies.lock().clone();
        for (key, owner) in self.world().tables["owners"].rows() {
            let Some((account, store)) = key.partition.split_once('/') else { continue };
            let (account, store) = (AccountId::new(account).unwrap(), StoreId::new(store).unwrap());
            let (store, space) = (StoreAddress { account, store }, SpaceId::new(key.sort).unwrap());
            let owner = String::from_utf8_lossy(&owner).into_owned();
            let wanted = desired_policies.copies_into(&store, &space).next();
            if wanted
                .is_some_and(|wanted| owner.split_once('/').map(|(_, source)| source) != Some(wanted.source.as_str()))
            {
                self.world().note(OPERATOR, format_args!("releases {space} in {store} from {owner}"));
                let _ = self.process_deps.owners().release(&DestinationSpace { store, space }).await;
            }
        }
    }
}
