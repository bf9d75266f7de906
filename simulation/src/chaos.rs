//! Random acts while the fleet works, one after the other, drawn by the weights of the swarm.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{
    AccountId, DeleteListId, DuplicateScope, DuplicateTask, Envelope, QueueName, RemoveTask, SpaceId, SpacePair,
    StoreId, Task, TaskArgs as _, TaskId, TaskKind, Timestamp, wire,
};
use mill_ports::OutgoingMessage;
use mill_records::delete_lists::DeleteLists;

use super::checker;
use super::event::USERS;
use super::fault::SimFault;
use super::fleet::{ProcessHandle, SimFleet};
use super::in_flight_bodies;
use super::operator::Operator;
use super::policies;
use super::probe_task;
use super::sim_store::{SimStore, StoreTrouble};
use super::users::Users;
use super::world::World;

/// One kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChaosAct {
    Users,
    UsersMany,
    Spaces,
    Mounts,
    Policies,
    PoliciesBroken,
    Stores,
    Storms,
    Clocks,
    Kills,
    Frozen,
    Starved,
    Purges,
    Strange,
    Letters,
    Confirms,
    Stops,
    Deaf,
}

/// The chaos around one fleet.
pub(crate) struct Chaos<'w> {
    pub(crate) world: &'w Arc<World>,
    pub(crate) fleet: &'w mut SimFleet,
}

impl Chaos<'_> {
    /// Runs all phases of work, with nights between them.
    pub(crate) async fn run(&mut self) {
        let swarm = &self.world.swarm;
        for phase in 0..swarm.phases {
            self.fleet.start_all(true);
            for _ in 0..swarm.acts {
                self.wait().await;
                if self.world.is_over() {
                    return;
                }
                self.act().await;
            }
            if swarm.on.strange > 0 {
                // Once more, since delete lists exist now that such tasks can name.
                self.send_strange().await;
            }
            self.wait().await;
            if swarm.on.letters > 0 {
                Operator::new(self.world).decide_dead_letters(false).await;
            }
            if phase + 1 < swarm.phases && swarm.nights {
                self.night().await;
            } else {
                let gently = self.world.rng.below(2) == 0;
                self.fleet.stop_all(gently).await;
            }
        }
    }

    async fn wait(&self) {
        let pause = self.world.rng.duration(Duration::ZERO, self.world.swarm.pause_max);
        let until = self.world.now().plus(pause);
        while !self.world.is_over() {
            let now = self.world.now();
            arrive(self.world).await;
            in_flight_bodies::judge(self.world);
            if until <= now {
                break;
            }
            let next = self.world.sim_queues.values().filter_map(|sim_queue| sim_queue.next_late()).min();
            let next = next.map_or(until, |next| next.min(until));
            let slept = self.world.sleep(next.since(now).max(Duration::from_millis(1)));
            futures::future::select(std::pin::pin!(self.world.over.cancelled()), std::pin::pin!(slept)).await;
        }
        checker::scan(self.world);
    }

    async fn night(&mut self) {
        self.world.count(SimFault::FleetDown, "world");
        self.fleet.stop_all(self.world.rng.below(2) == 0).await;
        let hours = self.world.rng.between(1, 13);
        self.world.sleep(Duration::from_hours(hours)).await;
        arrive(self.world).await;
    }

    fn some_act(&self) -> ChaosAct {
        let on = &self.world.swarm.on;
        let weights = [
            (on.people, ChaosAct::Users),
            (on.people_many, ChaosAct::UsersMany),
            (on.spaces, ChaosAct::Spaces),
            (on.mounts, ChaosAct::Mounts),
            (on.policies, ChaosAct::Policies),
            (on.policies_broken, ChaosAct::PoliciesBroken),
            (on.stores, ChaosAct::Stores),
            (on.storms, ChaosAct::Storms),
            (on.clocks, ChaosAct::Clocks),
            (on.kills, ChaosAct::Kills),
            (on.frozen, ChaosAct::Frozen),
            (on.starved, ChaosAct::Starved),
            (on.purges, ChaosAct::Purges),
            (on.strange, ChaosAct::Strange),
            (on.letters, ChaosAct::Letters),
            (on.confirms, ChaosAct::Confirms),
            (on.stops, ChaosAct::Stops),
            (on.deaf, ChaosAct::Deaf),
        ];
        let mut drawn = self.world.rng.below(weights.iter().map(|(weight, _)| u64::from(*weight)).sum());
        for (weight, act) in weights {
            match drawn.checked_sub(u64::from(weight)) {
                Some(rest) => drawn = rest,
                None => return act,
            }
        }
        ChaosAct::Users
    }

    async fn act(&mut self) {
        let world = self.world;
        match self.some_act() {
            ChaosAct::Users => {
                for _ in 0..world.rng.between(1, 3) {
                    Users::somewhere(world).act();
                }
            }
            ChaosAct::UsersMany => Users::somewhere(world).delete_many(),
            ChaosAct::Spaces => Users::somewhere(world).move_space(),
            ChaosAct::Mounts => Users::somewhere(world).move_disk(),
            ChaosAct::Policies => policies::edit(world),
            ChaosAct::PoliciesBroken => self.break_policies(),
            ChaosAct::Stores => self.put_store_in_trouble(),
            ChaosAct::Storms => self.storm(),
            ChaosAct::Clocks => self.shift_a_clock(),
            ChaosAct::Kills => self.on_one(SimFault::KilledAtMoment, |handle| handle.process.die()),
            ChaosAct::Stops => self.on_one(SimFault::StoppedGently, |handle| handle.stop.gentle.cancel()),
            ChaosAct::Frozen => {
                let until = world.now().plus(world.rng.duration(Duration::from_secs(5), Duration::from_mins(15)));
                self.on_one(SimFault::Frozen, |handle| handle.process.freeze_until(until));
            }
            ChaosAct::Starved => {
                let until = world.now().plus(world.rng.duration(Duration::from_secs(30), Duration::from_mins(15)));
                let fault = |handle: &ProcessHandle| {
                    *handle.process.starved_until.lock() = until;
                    handle.process.trouble_until(until);
                };
                if let Some(handle) = self.some_process() {
                    let producer = handle.process.name.starts_with("producer");
                    world.count(
                        if producer { SimFault::ProducerStarved } else { SimFault::LeaseStarved },
                        &handle.process.name,
                    );
                    fault(&handle);
                }
            }
            ChaosAct::Purges => {
                let name = *world.rng.pick(&[QueueName::DuplicationLow, QueueName::DuplicationHigh]);
                world.count(SimFault::QueuePurged, "operator");
                world.sim_queues[&name].purge(world);
            }
            ChaosAct::Strange => self.send_strange().await,
            ChaosAct::Deaf => {
                let until = world.now().plus(world.rng.duration(Duration::from_secs(5), Duration::from_mins(5)));
                let sim_queues: Vec<_> = world.sim_queues.values().collect();
                world.rng.pick(&sim_queues).deaf_until(until);
            }
            ChaosAct::Confirms => Operator::new(world).confirm(false).await,
            ChaosAct::Letters if world.rng.below(2) == 0 => {
                world.count(SimFault::LettersByTwo, "operator");
                let (one, other) = (Operator::new(world), Operator::new(world));
                tokio::join!(one.decide_dead_letters(false), other.decide_dead_letters(false));
            }
            ChaosAct::Letters => {
                Operator::new(world).decide_dead_letters(false).await;
            }
        }
    }

    fn some_process(&self) -> Option<ProcessHandle> {
        let handle = self.fleet.running_processes();
        (!handle.is_empty()).then(|| self.world.rng.pick(&handle).clone())
    }

    fn on_one(&self, fault: SimFault, act: impl FnOnce(&ProcessHandle)) {
        if let Some(handle) = self.some_process().filter(|handle| !handle.process.is_dead()) {
            self.world.count(fault, &handle.process.name);
            act(&handle);
        }
    }

    fn break_policies(&self) {
        let world = self.world;
        if world.swarm.policies_quiet || world.rng.below(2) == 0 {
            policies::break_one(world);
        } else {
            world.count(SimFault::PoliciesGone, "policies");
            let until = world.now().plus(world.rng.duration(Duration::from_secs(5), Duration::from_mins(20)));
            world.policy_store.trouble(*world.rng.pick(&[StoreTrouble::Gone, StoreTrouble::Denied]), until);
        }
    }

    fn some_store(&self) -> &Arc<SimStore> {
        let all: Vec<&Arc<SimStore>> = self.world.sim_stores.values().collect();
        let picked: &Arc<SimStore> = self.world.rng.pick::<&Arc<SimStore>>(&all);
        picked
    }

    fn put_store_in_trouble(&self) {
        let world = self.world;
        let (fault, trouble) = *world.rng.pick(&[
            (SimFault::StoreGone, StoreTrouble::Gone),
            (SimFault::CredentialsGone, StoreTrouble::Denied),
            (SimFault::DiskFull, StoreTrouble::Full),
        ]);
        let store = self.some_store();
        world.count(fault, &store.address.to_string());
        store.trouble(trouble, world.now().plus(world.rng.duration(Duration::from_secs(5), Duration::from_mins(20))));
    }

    fn storm(&self) {
        let world = self.world;
        let store = self.some_store();
        world.count(SimFault::ThrottlingStorm, &store.address.to_string());
        let share = *world.rng.pick(&[300, 500, 1000]);
        let until = world.now().plus(world.rng.duration(Duration::from_secs(10), Duration::from_mins(10)));
        store.trouble(StoreTrouble::Storm(share), until);
    }

    fn shift_a_clock(&self) {
        let Some(handle) = self.some_process() else { return };
        let hour: i64 = 3_600_000;
        let by = self.world.rng.below(2 * hour.unsigned_abs()).cast_signed() - hour;
        let offset = handle.process.clock.shift(by);
        // A clock is never off by more than an hour.
        let off = offset.clamp(-hour, hour);
        handle.process.clock.shift(off - offset);
        self.world.count(if by < 0 { SimFault::ClockBack } else { SimFault::ClockOff }, &handle.process.name);
    }

    async fn send_strange(&self) {
        let world = self.world;
        world.count(SimFault::StrangeTask, USERS);
        let account = world.rng.pick(&world.accounts).clone();
        let task = |kind: TaskKind| Task { kind, account: account.clone(), detail: serde_json::Map::new() };
        let queue = *world.rng.pick(&[QueueName::DuplicationLow, QueueName::DuplicationHigh]);
        let encoded = |task: Task| {
            let mut chance = [0; 10];
            chance[..8].copy_from_slice(&world.rng.next().to_le_bytes());
            let id = TaskId::new(Timestamp::from_millis(1_795_000_000_000), chance);
            wire::encode(&Envelope::new(id, queue, Timestamp::from_millis(1_795_000_000_000), task)).unwrap_or_default()
        };
        let behavior = world.rng.next();
        let body = match world.rng.below(if world.swarm.errands { 12 } else { 6 }) {
            0 => Bytes::from(format!("no envelope {behavior}")),
            1 => encoded(task(TaskKind::new("unheard-of"))),
            2 => encoded(task(DuplicateTask::KIND)),
            scope @ 3..6 => match self.some_duplicate(&account, scope == 5) {
                Some(duplicate) => encoded(duplicate.to_task().unwrap()),
                None => Bytes::new(),
            },
            _ => {
                for rare in [behavior, behavior / 7] {
                    let task = probe_task::task(&account, probe_task::rare_behavior(rare), &format!("e{rare:x}.rare"));
                    let out = OutgoingMessage { group: account.clone(), body: encoded(task), delay: Duration::ZERO };
                    world.sim_queues[&queue].put_strange(world, USERS, out).await;
                }
                encoded(probe_task::task(&account, behavior, &format!("e{behavior:x}")))
            }
        };
        let remove = self.some_remove().map(|remove| encoded(remove.to_task().unwrap()));
        let group = AccountId::new("strange").unwrap();
        for body in remove.into_iter().chain([body]) {
            let out = OutgoingMessage { group: group.clone(), body, delay: Duration::ZERO };
            world.sim_queues[&queue].put_strange(world, USERS, out).await;
        }
    }
}

impl Chaos<'_> {
    /// A task for the first row of a random delete list, or for its space; preferably of a list that nobody granted.
    fn some_remove(&self) -> Option<RemoveTask> {
        let world = self.world;
        let rows = world.tables[DeleteLists::TABLE].rows();
        let heads = rows.iter().filter(|(key, _)| key.sort.ends_with("/head"));
        let is_held = |value: &Bytes| String::from_utf8_lossy(value).contains("\"held\"");
        let (held, others): (Vec<_>, Vec<_>) = heads.partition(|(_, value)| is_held(value));
        let from = if held.is_empty() { others } else { held };
        if from.is_empty() {
            return None;
        }
        let (head, _) = *world.rng.pick(&from);
        let list = head.sort.strip_prefix("list/")?.strip_suffix("/head")?;
        let mut ids = head.partition.splitn(4, '/');
        let pair = SpacePair {
            account: AccountId::new(ids.next()?).ok()?,
            source: StoreId::new(ids.next()?).ok()?,
            destination: StoreId::new(ids.next()?).ok()?,
            space: SpaceId::new(ids.next()?).ok()?,
        };
        Some(RemoveTask { pair, list: DeleteListId::parse(list).ok()?, row: (world.rng.below(8) > 0).then_some(0) })
    }

    /// A task that a policy covers but no producer queued, whoever owns the destination: of `all` items of a space, or of one.
    fn some_duplicate(&self, account: &AccountId, all: bool) -> Option<DuplicateTask> {
        let world = self.world;
        let desired_policy = world.desired_policies.lock().0.get(account).cloned()?;
        let space = world.rng.pick(&world.spaces);
        let desired_copies = desired_policy.of_space(space);
        if desired_copies.is_empty() {
            return None;
        }
        let desired_copy = world.rng.pick(desired_copies);
        let items = world.sim_store(account, &desired_copy.source)?.inner.contents(space).unwrap_or_default();
        let ids: Vec<_> = items.into_keys().collect();
        let pair = SpacePair {
            account: account.clone(),
            source: desired_copy.source.clone(),
            destination: desired_copy.destination.clone(),
            space: space.clone(),
        };
        if all && ids.len() > 1 {
            return Some(DuplicateTask { pair, scope: DuplicateScope::Items(ids) });
        }
        Some(DuplicateTask::of(pair, (!ids.is_empty()).then(|| world.rng.pick(&ids).clone())))
    }
}

/// Lets late bodies arrive and hidden spaces come back that are due.
pub(crate) async fn arrive(world: &World) {
    Users::bring_spaces_back(world, world.now());
    for sim_queue in world.sim_queues.values() {
        sim_queue.arrive(world.now()).await;
    }
}
