//! What happens in the world while the fleet works: one act after the other, drawn by the swarm's weights.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mill_model::{
    AccountId, DeleteListId, Duplicate, Envelope, QueueName, Remove, SpaceId, StoreId, Task, TaskId, TaskKind,
    Timestamp, wire,
};
use mill_ports::OutgoingMessage;
use mill_records::delete_lists::DeleteLists;

use super::checker;
use super::errand;
use super::event::PEOPLE;
use super::fault::Fault;
use super::fleet::{Fleet, Living};
use super::hands;
use super::operator::Operator;
use super::people::People;
use super::policies;
use super::shelf::{Shelf, Trouble};
use super::world::{World, lock};

/// One kind of act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    People,
    PeopleMany,
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

/// The weather over one fleet.
pub(crate) struct Weather<'w> {
    pub(crate) world: &'w Arc<World>,
    pub(crate) fleet: &'w mut Fleet,
}

impl Weather<'_> {
    /// All phases of work, with nights in between.
    pub(crate) async fn blow(&mut self) {
        let swarm = &self.world.swarm;
        for phase in 0..swarm.phases {
            self.fleet.muster(true);
            for _ in 0..swarm.acts {
                self.wait().await;
                if self.world.is_over() {
                    return;
                }
                self.act().await;
            }
            if swarm.on.strange > 0 {
                // Once more, now that there are delete lists to name.
                self.send_strange().await;
            }
            self.wait().await;
            if swarm.on.letters > 0 {
                Operator::new(self.world).letters(false).await;
            }
            if phase + 1 < swarm.phases && swarm.nights {
                self.night().await;
            } else {
                let gently = self.world.dice.below(2) == 0;
                self.fleet.stand_down(gently).await;
            }
        }
    }

    async fn wait(&self) {
        let pause = self.world.dice.duration(Duration::ZERO, self.world.swarm.pause_max);
        let until = self.world.now().plus(pause);
        while !self.world.is_over() {
            let now = self.world.now();
            arrive(self.world).await;
            hands::judge(self.world);
            if until <= now {
                break;
            }
            let next = self.world.desks.values().filter_map(|desk| desk.next_late()).min();
            let next = next.map_or(until, |next| next.min(until));
            let slept = self.world.sleep(next.since(now).max(Duration::from_millis(1)));
            futures::future::select(std::pin::pin!(self.world.over.cancelled()), std::pin::pin!(slept)).await;
        }
        checker::scan(self.world);
    }

    async fn night(&mut self) {
        self.world.count(Fault::FleetDown, "world");
        self.fleet.stand_down(self.world.dice.below(2) == 0).await;
        let hours = self.world.dice.between(1, 13);
        self.world.sleep(Duration::from_hours(hours)).await;
        arrive(self.world).await;
    }

    fn some_act(&self) -> Act {
        let on = &self.world.swarm.on;
        let weights = [
            (on.people, Act::People),
            (on.people_many, Act::PeopleMany),
            (on.spaces, Act::Spaces),
            (on.mounts, Act::Mounts),
            (on.policies, Act::Policies),
            (on.policies_broken, Act::PoliciesBroken),
            (on.stores, Act::Stores),
            (on.storms, Act::Storms),
            (on.clocks, Act::Clocks),
            (on.kills, Act::Kills),
            (on.frozen, Act::Frozen),
            (on.starved, Act::Starved),
            (on.purges, Act::Purges),
            (on.strange, Act::Strange),
            (on.letters, Act::Letters),
            (on.confirms, Act::Confirms),
            (on.stops, Act::Stops),
            (on.deaf, Act::Deaf),
        ];
        let mut drawn = self.world.dice.below(weights.iter().map(|(weight, _)| u64::from(*weight)).sum());
        for (weight, act) in weights {
            match drawn.checked_sub(u64::from(weight)) {
                Some(rest) => drawn = rest,
                None => return act,
            }
        }
        Act::People
    }

    async fn act(&mut self) {
        let world = self.world;
        match self.some_act() {
            Act::People => {
                for _ in 0..world.dice.between(1, 3) {
                    People::somewhere(world).act();
                }
            }
            Act::PeopleMany => People::somewhere(world).delete_many(),
            Act::Spaces => People::somewhere(world).move_space(),
            Act::Mounts => People::somewhere(world).move_disk(),
            Act::Policies => policies::edit(world),
            Act::PoliciesBroken => self.break_policies(),
            Act::Stores => self.trouble_a_store(),
            Act::Storms => self.storm(),
            Act::Clocks => self.shift_a_clock(),
            Act::Kills => self.on_one(Fault::KilledAtMoment, |living| living.line.die()),
            Act::Stops => self.on_one(Fault::StoppedGently, |living| living.stop.gentle.cancel()),
            Act::Frozen => {
                let until = world.now().plus(world.dice.duration(Duration::from_secs(5), Duration::from_mins(15)));
                self.on_one(Fault::Frozen, |living| living.line.freeze_until(until));
            }
            Act::Starved => {
                let until = world.now().plus(world.dice.duration(Duration::from_secs(30), Duration::from_mins(15)));
                let fault = |living: &Living| {
                    *lock(&living.line.starved_until) = until;
                    living.line.trouble_until(until);
                };
                if let Some(living) = self.some_living() {
                    let producer = living.line.name.starts_with("producer");
                    world.count(if producer { Fault::ProducerStarved } else { Fault::LeaseStarved }, &living.line.name);
                    fault(&living);
                }
            }
            Act::Purges => {
                let name = *world.dice.pick(&[QueueName::DuplicationLow, QueueName::DuplicationHigh]);
                world.count(Fault::QueuePurged, "operator");
                world.desks[&name].purge(world);
            }
            Act::Strange => self.send_strange().await,
            Act::Deaf => {
                let until = world.now().plus(world.dice.duration(Duration::from_secs(5), Duration::from_mins(5)));
                let desks: Vec<_> = world.desks.values().collect();
                world.dice.pick(&desks).deaf_until(until);
            }
            Act::Confirms => Operator::new(world).confirm(false).await,
            Act::Letters if world.dice.below(2) == 0 => {
                world.count(Fault::LettersByTwo, "operator");
                let (one, other) = (Operator::new(world), Operator::new(world));
                tokio::join!(one.letters(false), other.letters(false));
            }
            Act::Letters => {
                Operator::new(world).letters(false).await;
            }
        }
    }

    fn some_living(&self) -> Option<Living> {
        let living = self.fleet.living();
        (!living.is_empty()).then(|| self.world.dice.pick(&living).clone())
    }

    fn on_one(&self, fault: Fault, act: impl FnOnce(&Living)) {
        if let Some(living) = self.some_living().filter(|living| !living.line.is_dead()) {
            self.world.count(fault, &living.line.name);
            act(&living);
        }
    }

    fn break_policies(&self) {
        let world = self.world;
        if world.swarm.policies_quiet || world.dice.below(2) == 0 {
            policies::break_one(world);
        } else {
            world.count(Fault::PoliciesGone, "policies");
            let until = world.now().plus(world.dice.duration(Duration::from_secs(5), Duration::from_mins(20)));
            world.policy_shelf.trouble(*world.dice.pick(&[Trouble::Gone, Trouble::Denied]), until);
        }
    }

    fn some_store(&self) -> &Arc<Shelf> {
        let all: Vec<&Arc<Shelf>> = self.world.shelves.values().collect();
        let picked: &Arc<Shelf> = self.world.dice.pick::<&Arc<Shelf>>(&all);
        picked
    }

    fn trouble_a_store(&self) {
        let world = self.world;
        let (fault, trouble) = *world.dice.pick(&[
            (Fault::StoreGone, Trouble::Gone),
            (Fault::CredentialsGone, Trouble::Denied),
            (Fault::DiskFull, Trouble::Full),
        ]);
        let store = self.some_store();
        world.count(fault, &store.address.to_string());
        store.trouble(trouble, world.now().plus(world.dice.duration(Duration::from_secs(5), Duration::from_mins(20))));
    }

    fn storm(&self) {
        let world = self.world;
        let store = self.some_store();
        world.count(Fault::ThrottlingStorm, &store.address.to_string());
        let share = *world.dice.pick(&[300, 500, 1000]);
        let until = world.now().plus(world.dice.duration(Duration::from_secs(10), Duration::from_mins(10)));
        store.trouble(Trouble::Storm(share), until);
    }

    fn shift_a_clock(&self) {
        let Some(living) = self.some_living() else { return };
        let hour: i64 = 3_600_000;
        let by = self.world.dice.below(2 * hour.unsigned_abs()).cast_signed() - hour;
        let offset = living.line.clock.shift(by);
        // Never off by more than an hour.
        let off = offset.clamp(-hour, hour);
        living.line.clock.shift(off - offset);
        self.world.count(if by < 0 { Fault::ClockBack } else { Fault::ClockOff }, &living.line.name);
    }

    async fn send_strange(&self) {
        let world = self.world;
        world.count(Fault::StrangeTask, PEOPLE);
        let account = world.dice.pick(&world.accounts).clone();
        let task = |kind: TaskKind| Task { kind, account: account.clone(), detail: serde_json::Map::new() };
        let queue = *world.dice.pick(&[QueueName::DuplicationLow, QueueName::DuplicationHigh]);
        let sealed = |task: Task| {
            let mut chance = [0; 10];
            chance[..8].copy_from_slice(&world.dice.next().to_le_bytes());
            let id = TaskId::new(Timestamp::from_millis(1_795_000_000_000), chance);
            wire::encode(&Envelope::new(id, queue, Timestamp::from_millis(1_795_000_000_000), task)).unwrap_or_default()
        };
        let deed = world.dice.next();
        let body = match world.dice.below(if world.swarm.errands { 12 } else { 6 }) {
            0 => Bytes::from(format!("no envelope {deed}")),
            1 => sealed(task(TaskKind::new("unheard-of"))),
            2 => sealed(task(TaskKind::DUPLICATE)),
            3..6 => match self.some_duplicate(&account) {
                Some(duplicate) => sealed(duplicate.into_task()),
                None => Bytes::new(),
            },
            _ => {
                for rare in [deed, deed / 7] {
                    let task = errand::task(&account, errand::some_rare(rare), &format!("e{rare:x}.rare"));
                    let out = OutgoingMessage { group: account.clone(), body: sealed(task), delay: Duration::ZERO };
                    world.desks[&queue].put_strange(world, PEOPLE, out).await;
                }
                sealed(errand::task(&account, deed, &format!("e{deed:x}")))
            }
        };
        let remove = self.some_remove().map(|remove| sealed(remove.into_task()));
        let group = AccountId::new("strange").unwrap();
        for body in remove.into_iter().chain([body]) {
            let out = OutgoingMessage { group: group.clone(), body, delay: Duration::ZERO };
            world.desks[&queue].put_strange(world, PEOPLE, out).await;
        }
    }
}

impl Weather<'_> {
    /// A task that names the first row of some delete list there is, or its space; rather of one that nobody granted.
    fn some_remove(&self) -> Option<Remove> {
        let world = self.world;
        let rows = world.tables[DeleteLists::BOOK].rows();
        let heads = rows.iter().filter(|(key, _)| key.sort.ends_with("/head"));
        let is_held = |value: &Bytes| String::from_utf8_lossy(value).contains("\"held\"");
        let (held, others): (Vec<_>, Vec<_>) = heads.partition(|(_, value)| is_held(value));
        let from = if held.is_empty() { others } else { held };
        if from.is_empty() {
            return None;
        }
        let (head, _) = *world.dice.pick(&from);
        let list = head.sort.strip_prefix("list/")?.strip_suffix("/head")?;
        let mut ids = head.partition.splitn(4, '/');
        Some(Remove {
            account: AccountId::new(ids.next()?).ok()?,
            source: StoreId::new(ids.next()?).ok()?,
            destination: StoreId::new(ids.next()?).ok()?,
            space: SpaceId::new(ids.next()?).ok()?,
            list: DeleteListId::parse(list).ok()?,
            row: (world.dice.below(8) > 0).then_some(0),
        })
    }

    /// A task that policy asks for, but that no producer found: whoever the destination belongs to.
    fn some_duplicate(&self, account: &AccountId) -> Option<Duplicate> {
        let world = self.world;
        let wish = lock(&world.wishes).0.get(account).cloned()?;
        let space = world.dice.pick(&world.spaces);
        let copyings = wish.of_space(space);
        if copyings.is_empty() {
            return None;
        }
        let copying = world.dice.pick(copyings);
        let items = world.shelf(account, &copying.source)?.inner.contents(space).unwrap_or_default();
        let ids: Vec<_> = items.into_keys().collect();
        Some(Duplicate {
            account: account.clone(),
            source: copying.source.clone(),
            destination: copying.destination.clone(),
            space: space.clone(),
            item: (!ids.is_empty()).then(|| world.dice.pick(&ids).clone()),
        })
    }
}

/// Late bodies arrive, and so do spaces that were out of sight.
pub(crate) async fn arrive(world: &World) {
    People::bring_spaces_back(world, world.now());
    for desk in world.desks.values() {
        desk.arrive(world.now()).await;
    }
}
