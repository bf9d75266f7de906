//! Bodies on their way, in the middle of which a process may die, and which may break, end or lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use mill_model::{ItemAddress, ItemFacts};
use mill_ports::{Body, PutRequest, StoreErrorKind};

use super::Way;
use crate::sim::fault::Fault;

/// The bit that is flipped on the way to a store, and the one on the way back. By neither of them, nor by both, do the
/// letters that people write become other letters: damage is never undone, and never looks like what somebody wrote.
const FLIPPED_THERE: u8 = 0x80;
const FLIPPED_BACK: u8 = 0x40;

/// What goes wrong with a body, and at which byte.
#[derive(Debug, Clone, Copy)]
enum Wrong {
    Broken(u64),
    Cut(u64),
    Flipped(u64),
}

/// A body, and what is to become of it.
struct Rest {
    way: Way,
    op: &'static str,
    subject: String,
    body: Body,
    passed: u64,
    wrong: Option<Wrong>,
    damaged: Arc<AtomicBool>,
    over: bool,
}

impl Way {
    /// What is read. A bit is flipped only where the store states what the bytes must come to: nobody can notice
    /// otherwise.
    pub(super) fn read_body(&self, item: &ItemAddress, facts: &ItemFacts, body: Body) -> Body {
        let wrong = self.wrong(facts.size, !facts.checksums.is_empty());
        self.on_its_way("read", item, body, wrong).0
    }

    /// What is written, and whether the world damaged it.
    pub(super) fn written_body(&self, item: &ItemAddress, content: &PutRequest, body: Body) -> (Body, Arc<AtomicBool>) {
        let wrong = self.wrong(content.size, self.shelf.checks);
        self.on_its_way("put", item, body, wrong)
    }

    fn wrong(&self, size: u64, may_flip: bool) -> Option<Wrong> {
        let world = &self.line.world;
        let rates = &world.swarm.rates;
        let strikes = |rate| !world.is_calm() && world.dice.happens(rate);
        let at = || world.dice.below(size.max(1));
        if strikes(rates.broken) {
            return Some(Wrong::Broken(at()));
        }
        if size > 0 && strikes(rates.truncated) {
            return Some(Wrong::Cut(at()));
        }
        (size > 0 && may_flip && strikes(rates.flipped)).then(|| Wrong::Flipped(at()))
    }

    fn on_its_way(
        &self,
        op: &'static str,
        item: &ItemAddress,
        body: Body,
        wrong: Option<Wrong>,
    ) -> (Body, Arc<AtomicBool>) {
        let damaged = Arc::new(AtomicBool::new(false));
        let (way, subject) = (self.clone(), item.to_string());
        let rest = Rest { way, op, subject, body, passed: 0, wrong, damaged: damaged.clone(), over: false };
        let body = stream::unfold(rest, |mut rest| async move { rest.next().await.map(|piece| (piece, rest)) });
        (body.boxed(), damaged)
    }
}

impl Rest {
    async fn next(&mut self) -> Option<Result<Bytes, mill_ports::StoreError>> {
        if self.over {
            return None;
        }
        self.way.line.enter().await;
        let piece = match self.body.next().await {
            Some(Ok(piece)) => piece,
            other => {
                self.over = true;
                // What was to break in a body without bytes breaks at its end.
                if other.is_none() && matches!(self.wrong, Some(Wrong::Broken(at)) if at >= self.passed) {
                    return Some(Err(self.broken()));
                }
                return other;
            }
        };
        let from = self.passed;
        self.passed += piece.len() as u64;
        match self.wrong {
            Some(Wrong::Broken(at)) if at < self.passed => {
                self.over = true;
                Some(Err(self.broken()))
            }
            Some(Wrong::Cut(at)) if at < self.passed => {
                self.over = true;
                self.count(Fault::BodyTruncated);
                Some(Ok(piece.slice(..(at - from) as usize)))
            }
            Some(Wrong::Flipped(at)) if (from..self.passed).contains(&at) => {
                self.damaged.store(true, Relaxed);
                self.count(Fault::BodyFlipped);
                let mut bytes = BytesMut::from(&piece[..]);
                bytes[(at - from) as usize] ^= if self.op == "put" { FLIPPED_THERE } else { FLIPPED_BACK };
                Some(Ok(bytes.freeze()))
            }
            _ => Some(Ok(piece)),
        }
    }

    fn count(&self, fault: Fault) {
        self.way.line.world.count(fault, &self.way.line.name);
    }

    fn broken(&self) -> mill_ports::StoreError {
        self.count(Fault::BodyBroken);
        self.way.error(self.op, &self.subject, StoreErrorKind::Unexpected)
    }
}

#[cfg(test)]
mod tests {
    use mill_model::{ContentId, Properties, Version};
    use mill_ports::{DestinationStore as _, Precondition, Presence, SourceStore as _};

    use super::*;
    use crate::sim::dice::Dice;
    use crate::sim::line::Line;
    use crate::sim::seed;
    use crate::sim::swarm::{Rates, Swarm};

    /// What comes back of bytes that are written and read again in a world that flips a bit each time.
    async fn damaged_twice(bytes: &[u8]) -> Vec<u8> {
        let dice = Dice::new(1);
        let rates = Rates { flipped: 1000, ..Rates::default() };
        let swarm = Swarm { rates, destination_checksums: 3, ..Swarm::draw(&dice) };
        let world = seed::empty(swarm, &dice, false);
        world.set_calm(false);
        let shelf = world.shelves.values().find(|shelf| shelf.address.store.as_str() == "2").unwrap();
        let way = Way::new(&Line::new(&world, "workman"), shelf, false);
        let item = ItemAddress { space: world.spaces[0].clone(), id: ContentId::new("a").unwrap() };
        way.create_space(&item.space).await.unwrap();
        let content = PutRequest { size: bytes.len() as u64, properties: Properties::default() };
        let body = stream::iter([Ok(Bytes::copy_from_slice(bytes))]).boxed();
        let written = way.put(&item, &content, &Precondition::Absent, body).await.unwrap();
        assert_ne!(shelf.inner.content(&item).unwrap().0, bytes, "damaged on the way there");
        let version: Option<&Version> = Some(&written.version);
        let Presence::Present(mut reading) = way.open(&item, None, version).await.unwrap() else {
            panic!("it is there")
        };
        let mut back = Vec::new();
        while let Some(piece) = reading.body.next().await {
            back.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(world.books().counts.of(Fault::BodyFlipped), 2);
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
