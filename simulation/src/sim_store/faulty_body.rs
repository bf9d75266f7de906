//! Bodies in transfer: a process may die in the middle of one, and a body may fail, end early or be damaged.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use mill_model::{ItemAddress, ItemFacts};
use mill_ports::{Body, PutRequest, StoreErrorKind};

use super::StoreClient;
use crate::audit_world::is_log;
use crate::fault::SimFault;
use crate::policies;

/// The bit that is flipped on the way to a store, and the bit on the way back. Neither of them, nor both, turn a letter that
/// users write into another such letter: so damage is never undone and never looks like an item that somebody wrote.
const FLIPPED_THERE: u8 = 0x80;
const FLIPPED_BACK: u8 = 0x40;

/// The fault of a body, and at which byte it strikes.
#[derive(Debug, Clone, Copy)]
enum BodyFault {
    Broken(u64),
    Cut(u64),
    Flipped(u64),
}

/// A body with its fault.
struct FaultyBody {
    client: StoreClient,
    op: &'static str,
    subject: String,
    body: Body,
    passed: u64,
    body_fault: Option<BodyFault>,
    damaged: Arc<AtomicBool>,
    over: bool,
    /// Whether its pieces come without delay: the files of a log are read and written whole, and not piece by piece.
    whole: bool,
}

impl StoreClient {
    /// Returns the body as the process reads it. A bit is flipped only if the store states a checksum: otherwise nobody could
    /// notice.
    pub(super) fn read_body(&self, item: &ItemAddress, facts: &ItemFacts, body: Body) -> Body {
        // A damaged list of accounts is believed, and what is to be recorded of an account that it lacks is thrown away.
        let is_policies = self.process.world.audit.is_some() && item.space == policies::space();
        let may_flip = !facts.checksums.is_empty() && !is_log(&item.space) && !is_policies;
        let body_fault = self.body_fault(facts.size, may_flip);
        self.with_fault("read", item, body, body_fault).0
    }

    /// Returns the body as it arrives at the store, and whether the world damaged it. No bit of a log is flipped: its stores
    /// check what they are sent.
    pub(super) fn written_body(&self, item: &ItemAddress, content: &PutRequest, body: Body) -> (Body, Arc<AtomicBool>) {
        let body_fault = self.body_fault(content.size, self.sim_store.checks && !is_log(&item.space));
        self.with_fault("put", item, body, body_fault)
    }

    fn body_fault(&self, size: u64, may_flip: bool) -> Option<BodyFault> {
        let world = &self.process.world;
        let rates = &world.swarm.rates;
        let happens = |rate| !world.is_calm() && world.rng.happens(rate);
        let at = || world.rng.below(size.max(1));
        if happens(rates.broken) {
            return Some(BodyFault::Broken(at()));
        }
        if size > 0 && happens(rates.truncated) {
            return Some(BodyFault::Cut(at()));
        }
        (size > 0 && may_flip && happens(rates.flipped)).then(|| BodyFault::Flipped(at()))
    }

    fn with_fault(
        &self,
        op: &'static str,
        item: &ItemAddress,
        body: Body,
        body_fault: Option<BodyFault>,
    ) -> (Body, Arc<AtomicBool>) {
        let damaged = Arc::new(AtomicBool::new(false));
        let (client, subject) = (self.clone(), item.to_string());
        let faulty_body = FaultyBody {
            client,
            op,
            subject,
            body,
            passed: 0,
            body_fault,
            damaged: damaged.clone(),
            over: false,
            whole: is_log(&item.space),
        };
        let body = stream::unfold(faulty_body, |mut faulty_body| async move {
            faulty_body.next().await.map(|piece| (piece, faulty_body))
        });
        (body.boxed(), damaged)
    }
}

impl FaultyBody {
    async fn next(&mut self) -> Option<Result<Bytes, mill_ports::StoreError>> {
        if self.over {
            return None;
        }
        if self.whole {
            self.client.process.step().await;
        } else {
            self.client.process.enter().await;
        }
        let piece = match self.body.next().await {
            Some(Ok(piece)) => piece,
            other => {
                self.over = true;
                // What was to break in a body without bytes breaks at its end.
                if other.is_none() && matches!(self.body_fault, Some(BodyFault::Broken(at)) if at >= self.passed) {
                    return Some(Err(self.broken()));
                }
                return other;
            }
        };
        let from = self.passed;
        self.passed += piece.len() as u64;
        match self.body_fault {
            Some(BodyFault::Broken(at)) if at < self.passed => {
                self.over = true;
                Some(Err(self.broken()))
            }
            Some(BodyFault::Cut(at)) if at < self.passed => {
                self.over = true;
                self.count(SimFault::BodyTruncated);
                Some(Ok(piece.slice(..(at - from) as usize)))
            }
            Some(BodyFault::Flipped(at)) if (from..self.passed).contains(&at) => {
                self.damaged.store(true, Relaxed);
                self.count(SimFault::BodyFlipped);
                let mut bytes = BytesMut::from(&piece[..]);
                bytes[(at - from) as usize] ^= if self.op == "put" { FLIPPED_THERE } else { FLIPPED_BACK };
                Some(Ok(bytes.freeze()))
            }
            _ => Some(Ok(piece)),
        }
    }

    fn count(&self, fault: SimFault) {
        self.client.process.world.count(fault, &self.client.process.name);
    }

    fn broken(&self) -> mill_ports::StoreError {
        self.count(SimFault::BodyBroken);
        self.client.error(self.op, &self.subject, StoreErrorKind::Unexpected)
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{ContentId, Properties, Version};
    use mill_ports::{DestinationStore as _, Precondition, Presence, SourceStore as _};

    use super::*;
    use crate::rng::SimRng;
    use crate::seed;
    use crate::sim_process::SimProcess;
    use crate::swarm::{Rates, Swarm};

    /// What comes back of bytes that are written and read again in a world that flips a bit each time.
    async fn damaged_twice(bytes: &[u8]) -> Vec<u8> {
        let rng = SimRng::new(1);
        let rates = Rates { flipped: 1000, ..Rates::default() };
        let swarm = Swarm { rates, destination_checksums: 3, ..Swarm::draw(&rng) };
        let world = seed::empty_world(swarm, &rng, None, false);
        world.set_calm(false);
        let sim_store = world.sim_stores.values().find(|sim_store| sim_store.address.store.as_str() == "2").unwrap();
        let client = StoreClient::new(&SimProcess::new(&world, "workman"), sim_store, false);
        let item = ItemAddress { space: world.spaces[0].clone(), id: ContentId::new("a").unwrap() };
        client.create_space(&item.space).await.unwrap();
        let content = PutRequest::new(bytes.len() as u64, Properties::default());
        let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed();
        let written = client.put(&item, &content, &Precondition::Absent, body).await.unwrap();
        assert_ne!(sim_store.inner.content(&item).unwrap().0, bytes, "damaged on the way there");
        let version: Option<&Version> = Some(&written.version);
        let Presence::Present(mut reading) = client.open(&item, None, version).await.unwrap() else {
            panic!("it is there")
        };
        let mut back = Vec::new();
        while let Some(piece) = reading.body.next().await {
            back.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(world.journal().counts.of(SimFault::BodyFlipped), 2);
        back
    }

    #[tokio::test(start_paused = true)]
    async fn the_world_never_undoes_its_own_damage() {
        for letter in b'a'..=b'z' {
            // Of one byte: both flips meet in it.
            let back = damaged_twice(&[letter]).await;
            assert!(back.len() == 1 && !back[0].is_ascii_lowercase(), "{letter}: {back:?}");
        }
    }

    #[test]
    fn damage_never_looks_like_what_people_write() {
        for letter in b'a'..=b'z' {
            for flipped in [FLIPPED_THERE, FLIPPED_BACK, FLIPPED_THERE ^ FLIPPED_BACK] {
                assert!(!(letter ^ flipped).is_ascii_lowercase(), "{letter} {flipped}");
            }
        }
    }
}
