//! Bringing a space back from one of its copies: what is whole comes back, the rest is named.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use mill_model::digest::Digester;
use mill_model::{Algorithm, Checksum, ContentId, ItemAddress, ItemFacts, SpaceId, StoreAddress};
use mill_ports::{
    Body, Content, CrashPoint, DestinationStore, Listed, Presence, Reading, SourceStore, StoreError, StoreErrorKind,
    When, chain, crash_point,
};
use mill_records::seals::{Pair, Seal, Seals};
use tokio::task::JoinSet;

use crate::verify::{Fault, Finding, checksums, differing};

/// A copy, and where its items are to go.
#[derive(Debug, Clone)]
pub struct Restoration {
    /// The store that holds the copy; it is only read.
    pub copy: Arc<dyn SourceStore>,
    /// Its name, for messages.
    pub from: StoreAddress,
    /// The space to bring back, of the same id at both.
    pub space: SpaceId,
    /// Where it goes.
    pub to: Arc<dyn DestinationStore>,
    /// What was proven of this copy: under these names its items were sealed when they were written.
    pub sealed: Vec<Pair>,
    /// The book of those seals.
    pub seals: Seals,
    /// Whether items at `to` that differ are replaced; else they are kept and named.
    pub overwrite: bool,
    /// Whether items whose bytes are not those that were sealed are brought back too. They are named all the same.
    pub unproven: bool,
    /// Items in hand at once.
    pub at_once: NonZeroUsize,
}

/// What a restoration came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Items brought back.
    pub copied: u64,
    /// Items that were there already, byte for byte.
    pub unchanged: u64,
    /// Of both: how many had a seal that vouches for their bytes.
    pub proven: u64,
    /// Content bytes written.
    pub bytes: u64,
    /// Each item that did not come back, or not as it was sealed, and why.
    pub faults: Vec<Finding>,
}

enum Came {
    Back { bytes: u64, proven: bool },
    ThereAlready { proven: bool },
    Not(String),
    BackUnproven { bytes: u64, why: String },
}

impl Restoration {
    /// Brings back what is whole.
    ///
    /// # Errors
    /// When the copy cannot be listed, or `to` cannot be written at all.
    pub async fn run(self) -> Result<Restored, StoreError> {
        self.to.create_space(&self.space).await?;
        crash_point(CrashPoint::RestoreBegun);
        let mut restored = Restored::default();
        let mut moving = JoinSet::new();
        let mut pages = self.copy.list(&self.space, None);
        while let Some(page) = pages.try_next().await? {
            for entry in page.entries {
                match entry {
                    Listed::Refused { shown, reason } => {
                        restored.faults.push(Finding { item: shown, what: Fault::Refused(reason.to_string()) });
                    }
                    Listed::Hidden { shown } => {
                        let why = "a directory that could not be entered".to_owned();
                        restored.faults.push(Finding { item: shown, what: Fault::Unreadable(why) });
                    }
                    Listed::Item(id, facts) => {
                        while moving.len() >= self.at_once.get() {
                            restored.take(moving.join_next().await);
                        }
                        moving.spawn(self.clone().bring(id, facts));
                    }
                }
            }
        }
        while let Some(joined) = moving.join_next().await {
            restored.take(Some(joined));
        }
        self.missing(&mut restored).await?;
        restored.faults.sort_by(|a, b| a.item.cmp(&b.item));
        restored.faults.dedup();
        Ok(restored)
    }

    async fn bring(self, id: ContentId, listed: ItemFacts) -> (ContentId, Result<Came, StoreError>) {
        let item = ItemAddress { space: self.space.clone(), id: id.clone() };
        let came = self.bring_item(&item, &listed).await;
        (id, came)
    }

    async fn bring_item(&self, item: &ItemAddress, listed: &ItemFacts) -> Result<Came, StoreError> {
        let sealed = self.seal(&item.id).await;
        let Some(expected) = sealed.map(|seal| seal.checksum()) else {
            return self.write(item, None).await;
        };
        match self.write(item, Some(&expected)).await {
            Err(error) if error.kind == StoreErrorKind::Damaged => {
                let as_left = sealed_as(self.seal(&item.id).await.as_ref(), listed);
                let why = if as_left {
                    "its bytes are not those that were copied here, though nothing seems to have written it"
                } else {
                    "it was changed since it was copied here, so its bytes cannot be vouched for"
                };
                if !self.unproven {
                    return Ok(Came::Not(why.into()));
                }
                Ok(match self.write(item, None).await? {
                    Came::Back { bytes, .. } => Came::BackUnproven { bytes, why: why.into() },
                    Came::BackUnproven { bytes, why: more } => {
                        Came::BackUnproven { bytes, why: format!("{why}; and {more}") }
                    }
                    other => other,
                })
            }
            other => other,
        }
    }

    /// Writes one item, if its bytes are those expected.
    async fn write(&self, item: &ItemAddress, expected: Option<&Checksum>) -> Result<Came, StoreError> {
        let proven = expected.is_some();
        let when = match self.to.head(item).await? {
            Presence::Absent => When::Absent,
            Presence::Here(there) => match self.compare(item, expected).await? {
                Some(true) => return Ok(Came::ThereAlready { proven }),
                None => return Ok(Came::Not("it went away while it was read".into())),
                Some(false) if !self.overwrite => {
                    return Ok(Came::Not("another file of this name is there; --overwrite replaces it".into()));
                }
                Some(false) => When::VersionIs(there.version),
            },
        };
        let Presence::Here(Reading { facts, body }) = self.copy.open(item, None, None).await? else {
            return Ok(Came::Not("it went away while it was read".into()));
        };
        let unknown = facts.properties.is_none();
        let content = Content { size: facts.size, properties: facts.properties.unwrap_or_default() };
        let body = match expected {
            Some(expected) => {
                let digester = Digester::new(&[expected.algorithm]);
                let otherwise = self.damaged(item);
                let judged = Judged { body, held: None, digester, expected: expected.clone(), otherwise };
                futures::stream::unfold(Some(judged), next).boxed()
            }
            None => body,
        };
        crash_point(CrashPoint::RestoreBeforeWrite);
        self.to.put(item, &content, &when, body).await?;
        crash_point(CrashPoint::RestoreWritten);
        if unknown {
            return Ok(Came::BackUnproven {
                bytes: content.size,
                why: "the copy's store does not tell all its properties".into(),
            });
        }
        Ok(Came::Back { bytes: content.size, proven })
    }

    /// Whether what is there already is what would be brought back. `None` when the copy's item went away.
    async fn compare(&self, item: &ItemAddress, expected: Option<&Checksum>) -> Result<Option<bool>, StoreError> {
        // What was sealed may be of another algorithm than Mill's own.
        let algorithms: Vec<_> =
            [Algorithm::Sha256].into_iter().chain(expected.map(|expected| expected.algorithm)).collect();
        let Presence::Here((ours, ours_facts)) = checksums(&*self.copy, item, &algorithms).await? else {
            return Ok(None);
        };
        if expected.is_some_and(|expected| !ours.contains(expected)) {
            return Err(self.damaged(item));
        }
        let Presence::Here((theirs, theirs_facts)) = checksums(&*self.to, item, &algorithms).await? else {
            return Ok(Some(false));
        };
        let alike = differing(ours_facts.properties.as_ref(), theirs_facts.properties.as_ref()).is_none();
        Ok(Some(ours == theirs && alike))
    }

    fn damaged(&self, item: &ItemAddress) -> StoreError {
        StoreError {
            kind: StoreErrorKind::Damaged,
            op: "restoring",
            store: self.from.clone(),
            subject: item.to_string(),
            source: None,
        }
    }

    /// The seal on an item under whichever source it was copied from. One that cannot be read is one that was lost.
    async fn seal(&self, id: &ContentId) -> Option<Seal> {
        for pair in &self.sealed {
            if let Ok(Some(seal)) = self.seals.get(pair, id).await {
                return Some(seal);
            }
        }
        None
    }

    /// Names the items that were sealed and are in the copy no more.
    async fn missing(&self, restored: &mut Restored) -> Result<(), StoreError> {
        for pair in &self.sealed {
            let mut seals = self.seals.stream(pair, None);
            while let Some(Ok((id, _))) = seals.next().await {
                let item = ItemAddress { space: self.space.clone(), id };
                let why = match self.copy.head(&item).await {
                    Ok(Presence::Here(_)) => continue,
                    Ok(Presence::Absent) => "it was copied here once and is not here any more".to_owned(),
                    // In a directory that may not be read, say: the listing has named that alone.
                    Err(error) if matches!(error.kind, StoreErrorKind::Refused(_)) => chain(&error),
                    Err(error) => return Err(error),
                };
                restored.faults.push(Finding { item: item.id.to_string(), what: Fault::NotRestored(why) });
            }
        }
        Ok(())
    }
}

type Joined = Result<(ContentId, Result<Came, StoreError>), tokio::task::JoinError>;

impl Restored {
    fn take(&mut self, joined: Option<Joined>) {
        let Some(joined) = joined else { return };
        let (item, why) = match joined {
            Ok((id, Ok(came))) => match came {
                Came::Back { bytes, proven } => return self.back(bytes, proven),
                Came::ThereAlready { proven } => {
                    self.unchanged += 1;
                    self.proven += u64::from(proven);
                    return;
                }
                Came::BackUnproven { bytes, why } => {
                    self.back(bytes, false);
                    (id.to_string(), format!("brought back, but {why}"))
                }
                Came::Not(why) => (id.to_string(), why),
            },
            Ok((id, Err(error))) => (id.to_string(), chain(&error)),
            Err(error) => ("?".to_owned(), error.to_string()),
        };
        self.faults.push(Finding { item, what: Fault::NotRestored(why) });
    }

    fn back(&mut self, bytes: u64, proven: bool) {
        self.copied += 1;
        self.proven += u64::from(proven);
        self.bytes += bytes;
    }
}

/// Whether the copy still bears the version under which it was sealed.
fn sealed_as(seal: Option<&Seal>, listed: &ItemFacts) -> bool {
    seal.is_some_and(|seal| seal.checksum_of_destination(&listed.version).is_some())
}

/// A body under judgement: its last bytes are let through only when all of them have the checksum expected.
struct Judged {
    body: Body,
    held: Option<Bytes>,
    digester: Digester,
    expected: Checksum,
    otherwise: StoreError,
}

/// `None` in the state means that the body is over.
async fn next(state: Option<Judged>) -> Option<(Result<Bytes, StoreError>, Option<Judged>)> {
    let mut judged = state?;
    loop {
        match judged.body.next().await {
            Some(Ok(chunk)) => {
                judged.digester.update(&chunk);
                if let Some(before) = judged.held.replace(chunk) {
                    return Some((Ok(before), Some(judged)));
                }
            }
            Some(Err(error)) => return Some((Err(error), None)),
            None => {
                let good = judged.digester.finish().first() == Some(&judged.expected);
                let last = if good { judged.held.map(Ok) } else { Some(Err(judged.otherwise)) };
                return last.map(|last| (last, None));
            }
        }
    }
}

#[cfg(test)]
mod tests;
