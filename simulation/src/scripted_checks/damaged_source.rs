//! A disk damages an item of a source, and a verification finds it: whatever becomes of the source then, its copy stays as it is until
//! somebody writes other bytes.

use std::num::NonZeroUsize;
use std::sync::Arc;

use mill_model::{Algorithm, ItemAddress, SpacePair, StoreAddress};
use mill_ports::{Presence, SourceStore as _};
use mill_processors::verify::{Verification, Witness};
use mill_records::sync_proofs::SyncProofs;
use mill_records::tables;

use crate::quiescence::{Quiescence, current_policies};
use crate::users::{DISK, Users};
use crate::world::World;

pub(super) async fn run(quiescence: &mut Quiescence<'_>) -> Option<()> {
    let world = quiescence.world.clone();
    for (account, desired_policy) in current_policies(&world).0 {
        for space in &world.spaces {
            // What users do not write themselves is the copy of another store, which would repair it.
            let written_by_users = |store: &str| store == "1" || store == "4";
            let copies = desired_policy.of_space(space).iter();
            for desired_copy in copies.filter(|desired_copy| written_by_users(desired_copy.source.as_str())) {
                let (source, destination) = (desired_copy.source.clone(), desired_copy.destination.clone());
                let pair = SpacePair { account: account.clone(), source, destination, space: space.clone() };
                let Some(item) = proven_item(&world, &pair).await else { continue };
                return follow(quiescence, &pair, &item, desired_copy.remove).await;
            }
        }
    }
    Some(())
}

/// An item whose proof a verification can use.
async fn proven_item(world: &World, pair: &SpacePair) -> Option<ItemAddress> {
    let [from, to] = [pair.source_address(), pair.destination_address()].map(|store| &world.sim_stores[&store].inner);
    for (id, (bytes, _)) in from.contents(&pair.space)? {
        let item = ItemAddress { space: pair.space.clone(), id };
        let proof = proofs(world).get(pair, &item.id).await.ok().flatten();
        let Some(proof) = proof.filter(|proof| proof.checksum().algorithm == Algorithm::Sha256) else { continue };
        let (Ok(Presence::Present(here)), Ok(Presence::Present(there))) =
            (from.head(&item).await, to.head(&item).await)
        else {
            continue;
        };
        if !bytes.is_empty() && !item.id.as_str().starts_with(DISK) && proof.holds(&here.version, &there.version) {
            return Some(item);
        }
    }
    None
}

fn proofs(world: &World) -> SyncProofs {
    SyncProofs::new(world.tables[tables::SYNC_PROOFS].clone())
}

async fn follow(quiescence: &mut Quiescence<'_>, pair: &SpacePair, item: &ItemAddress, removes: bool) -> Option<()> {
    let world = quiescence.world.clone();
    let (source, destination) = (&world.sim_stores[&pair.source_address()], pair.destination_address());
    let (good, properties) = source.inner.content(item)?;
    world.note("drill", format_args!("the disk of {} damages {item}, and it is verified", source.address));
    source.inner.rot(item, |bytes| bytes[0] ^= 0x20);
    verify(&world, pair).await;
    let users = Users { world: &world, sim_store: source };
    let damaged = source.inner.content(item)?.0;
    // The same bytes in another version: somebody changed its rights, or touched it.
    users.write(item, damaged.to_vec(), properties.clone());
    quiescence.one_loop().await?;
    stays(&world, (&destination, item), &good, "when its source was touched")?;
    if removes {
        users.delete(item);
        quiescence.one_loop().await?;
        quiescence.confirmed_loop().await?;
        stays(&world, (&destination, item), &good, "when its source was deleted")?;
    }
    // It is brought back, and is an item as any other then.
    users.write(item, good.to_vec(), properties);
    quiescence.one_loop().await?;
    stays(&world, (&destination, item), &good, "when it was brought back")?;
    Some(())
}

async fn verify(world: &World, pair: &SpacePair) {
    let store = |address: StoreAddress| Arc::new(world.sim_stores[&address].inner.clone());
    let verification = Verification {
        source: store(pair.source_address()),
        destination: store(pair.destination_address()),
        space: pair.space.clone(),
        sample: 100,
        concurrency: NonZeroUsize::MIN,
        witness: Some(Witness { proofs: proofs(world), pair: pair.clone() }),
    };
    match verification.run(&world.rng).await {
        Ok(report) if report.damaged_sources == 1 => {}
        other => world.violated("a verification finds what a disk damaged", format!("{pair:?}: {other:?}")),
    }
}

fn stays(world: &World, (store, item): (&StoreAddress, &ItemAddress), good: &[u8], when: &str) -> Option<()> {
    let same = world.sim_stores[store].inner.content(item).is_some_and(|(bytes, _)| *bytes == *good);
    if !same {
        world.violated("the copy of a damaged source stays", format!("{item} in {store} changed {when}"));
    }
    same.then_some(())
}
