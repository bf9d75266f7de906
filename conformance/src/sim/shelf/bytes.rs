//! Bodies on their way, in the middle of which a process may die, and which may break, end or lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use mill_model::{ItemAddress, ItemFacts};
use mill_ports::{Body, Content, StoreErrorKind};

use super::Way;
use crate::sim::fault::Fault;

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
    pub(super) fn written_body(&self, item: &ItemAddress, content: &Content, body: Body) -> (Body, Arc<AtomicBool>) {
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
                // Another bit on the way back than on the way there: one is never undone by the other.
                bytes[(at - from) as usize] ^= if self.op == "put" { 1 } else { 2 };
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
