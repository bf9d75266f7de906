//! Sync proofs: for each item of a store policy's space, the states in which its two sides were proven equal.
//!
//! A row remembers a proof and is none by itself: losing one costs a re-read, keeping one that no longer
//! matches costs nothing, since it then proves nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use mill_model::{Algorithm, Checksum, ContentId, SpacePair, Version};
use mill_ports::{KeyRange, PlantedBug, RowKey, RowPage, RowPrecondition, Table, TableError, TableErrorKind, planted};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::pair_key::pair_key;

/// Both sides' states, as marks, and the checksum of the bytes that both held in them.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncProof {
    source: VersionDigest,
    destination: VersionDigest,
    algorithm: Algorithm,
    /// The checksum's value; a shorter one than SHA-256 takes the beginning, the rest is zero.
    checksum: [u8; 32],
}

/// A version's token, cut short to 16 bytes of SHA-256: it is compared with one other, never searched for, and whoever
/// can choose tokens can write the item anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionDigest([u8; 16]);

impl VersionDigest {
    const BYTES: usize = 16;

    /// The digest of a version's token.
    pub fn of(version: &Version) -> Self {
        let mut digest = [0; Self::BYTES];
        digest.copy_from_slice(&Sha256::digest(version.token())[..Self::BYTES]);
        Self(digest)
    }

    /// Reads a digest as it was displayed.
    pub fn parse(text: &str) -> Option<Self> {
        let whole = text.len() == 2 * Self::BYTES && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| whole).map(|number| Self(number.to_be_bytes()))
    }
}

impl std::fmt::Display for VersionDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// What the table holds of an item: that Mill wrote the copy, and perhaps a proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncProofRow {
    /// The state in which this pair left the destination, or found it equal to its source.
    destination: Option<VersionDigest>,
    /// The state of the source that was written or found there, where that is known.
    source: Option<VersionDigest>,
    /// The state in which the copy was no copy of what the source has under another spelling of its name.
    no_twin: Option<VersionDigest>,
    /// The proof, where both states could prove something.
    pub proof: Option<SyncProof>,
}

impl SyncProofRow {
    /// Whether both sides are in the states in which this pair copied the one to the other, or found them equal. Where no
    /// seal says so, the states were too young then to prove that nothing changed since.
    pub fn is_copy(&self, source: &Version, destination: &Version) -> bool {
        self.is_ours(destination) && self.is_of(source)
    }

    /// Whether it was the source in this state that was copied, or found to be equal.
    pub fn is_of(&self, source: &Version) -> bool {
        self.source.is_some_and(|seen| is_same(&seen, source))
    }

    /// Whether a destination in this state holds what this pair wrote there, or proved to be equal to its source.
    pub fn is_ours(&self, destination: &Version) -> bool {
        self.destination.is_some_and(|left| is_same(&left, destination))
    }

    /// Whether a destination in this state was compared with what the source has under another spelling of its name, and
    /// holds other bytes.
    pub fn is_no_twin(&self, destination: &Version) -> bool {
        self.no_twin.is_some_and(|seen| is_same(&seen, destination))
    }
}

impl SyncProof {
    /// The written form's own version, so that a later form is not misread.
    const FORM: u8 = 1;
    const HEAD_BYTES: usize = 2 + 2 * size_of::<VersionDigest>();

    /// A seal on two sides that were proven alike, in bytes and properties, in these states.
    ///
    /// `None` unless both versions are settled: an unsettled mark could be borne by a later state too.
    pub fn of(source: &Version, destination: &Version, checksum: &Checksum) -> Option<Self> {
        if !source.settled() || !destination.settled() {
            return None;
        }
        Self::from_digests(
            VersionDigest::of(source),
            VersionDigest::of(destination),
            checksum.algorithm,
            &checksum.value,
        )
    }

    /// Whether both sides are as sealed: the same bytes and properties at both, without reading any.
    pub fn holds(&self, source: &Version, destination: &Version) -> bool {
        (is_same(&self.source, source) && is_same(&self.destination, destination))
            || planted(PlantedBug::StaleSealBelieved)
    }

    /// The checksum of the destination's bytes, if it is in the state that was sealed.
    pub fn checksum_of_destination(&self, destination: &Version) -> Option<Checksum> {
        is_same(&self.destination, destination).then(|| self.checksum())
    }

    /// The checksum of the source's bytes, if it is in the state that was sealed.
    pub fn checksum_of_source(&self, source: &Version) -> Option<Checksum> {
        is_same(&self.source, source).then(|| self.checksum())
    }

    /// The checksum of the bytes that both sides held when they were sealed, whatever they hold now.
    pub fn checksum(&self) -> Checksum {
        Checksum { algorithm: self.algorithm, value: self.checksum[..value_bytes(self.algorithm)].into() }
    }

    fn from_digests(
        source: VersionDigest,
        destination: VersionDigest,
        algorithm: Algorithm,
        value: &[u8],
    ) -> Option<Self> {
        if value.len() != value_bytes(algorithm) {
            return None;
        }
        let mut checksum = [0; 32];
        checksum[..value.len()].copy_from_slice(value);
        Some(Self { source, destination, algorithm, checksum })
    }

    fn encode(&self) -> Bytes {
        let value = &self.checksum[..value_bytes(self.algorithm)];
        let mut out = Vec::with_capacity(Self::HEAD_BYTES + value.len());
        out.extend([Self::FORM, algorithm_tag(self.algorithm)]);
        out.extend(self.source.0);
        out.extend(self.destination.0);
        out.extend(value);
        out.into()
    }

    fn decode(written: &[u8]) -> Option<Self> {
        let (&[form, tag], rest) = written.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (destination, value) = rest.split_first_chunk()?;
        let algorithm = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme]
            .into_iter()
            .find(|known| algorithm_tag(*known) == tag)?;
        if form != Self::FORM {
            return None;
        }
        Self::from_digests(VersionDigest(*source), VersionDigest(*destination), algorithm, value)
    }
}

impl std::fmt::Debug for SyncProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncProof").field("checksum", &self.checksum()).finish_non_exhaustive()
    }
}

/// What was sealed was settled, so an equal mark proves that nothing changed since, however young it looks now.
fn is_same(proven: &VersionDigest, version: &Version) -> bool {
    *proven == VersionDigest::of(version)
}

const fn value_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Crc64Nvme => 8,
        Algorithm::Md5 => 16,
        Algorithm::Sha256 => 32,
    }
}

/// Written in rows: a tag keeps its meaning for ever.
const fn algorithm_tag(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Crc64Nvme => 3,
    }
}

/// The repository of sync proofs: one row per item.
#[derive(Debug, Clone)]
pub struct SyncProofs {
    table: Arc<dyn Table>,
}

impl SyncProofs {
    /// The rows that one step of a stream asks for: some 100 KiB of them.
    const PAGE_ROWS: usize = 1_000;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The seal on an item, if there is one that can be read.
    ///
    /// # Errors
    /// The table's own; a caller loses no correctness by going on without a seal.
    pub async fn get(&self, pair: &SpacePair, item: &ContentId) -> Result<Option<SyncProof>, TableError> {
        Ok(self.table.get(&key(pair, item)).await?.and_then(|row| read_row(&row.value)?.proof))
    }

    /// Writes an item's seal over any that there is.
    ///
    /// # Errors
    /// The table's own; whether the seal is there is then unknown, and matters not.
    pub async fn put(&self, pair: &SpacePair, item: &ContentId, proof: &SyncProof) -> Result<(), TableError> {
        self.table.put(&key(pair, item), proof.encode(), RowPrecondition::Always).await.map(drop)
    }

    /// Notes that this pair wrote the copy that the destination holds in this state, where nothing could be proven. It
    /// takes the place of any seal that there is: that one was on other bytes, or in other states.
    ///
    /// # Errors
    /// The table's own; a copy that nothing is known of is not deleted unasked.
    pub async fn put_written(
        &self,
        pair: &SpacePair,
        item: &ContentId,
        destination: &Version,
    ) -> Result<(), TableError> {
        let mut value = vec![WRITTEN_FORM];
        value.extend(VersionDigest::of(destination).0);
        self.table.put(&key(pair, item), value.into(), RowPrecondition::Always).await.map(drop)
    }

    /// As [`Self::put_written`], where it is known in which state the source was.
    ///
    /// # Errors
    /// As [`Self::put_written`].
    pub async fn put_copied(
        &self,
        pair: &SpacePair,
        item: &ContentId,
        source: &Version,
        destination: &Version,
    ) -> Result<(), TableError> {
        let mut value = vec![WRITTEN_FORM];
        value.extend(VersionDigest::of(destination).0);
        value.extend(VersionDigest::of(source).0);
        self.table.put(&key(pair, item), value.into(), RowPrecondition::Always).await.map(drop)
    }

    /// Notes that what the destination holds in this state is no copy of what the source has under another spelling of its
    /// name. What else is known of it stays known, as far as nobody writes it at the same moment.
    ///
    /// # Errors
    /// The table's own; the two are compared once more then.
    pub async fn put_no_twin(
        &self,
        pair: &SpacePair,
        item: &ContentId,
        destination: &Version,
    ) -> Result<(), TableError> {
        let key = key(pair, item);
        let known = self.table.get(&key).await?.map(|row| row.value);
        let mut value = vec![NO_TWIN_FORM];
        value.extend(VersionDigest::of(destination).0);
        value.extend(known.as_deref().map_or(&[][..], without_no_twin));
        self.table.put(&key, value.into(), RowPrecondition::Always).await.map(drop)
    }

    /// Removes an item's seal, if there is one.
    ///
    /// # Errors
    /// The table's own; a seal left behind proves nothing about an item that is gone.
    pub async fn remove(&self, pair: &SpacePair, item: &ContentId) -> Result<(), TableError> {
        self.table.delete(&key(pair, item), RowPrecondition::Always).await
    }

    /// What is known of a pair's items, in the byte order of their ids, those after `after`; a page at a time in memory.
    ///
    /// A row that cannot be read is left out, as if it had been lost. The stream is over at its first error.
    pub fn stream(
        &self,
        pair: &SpacePair,
        after: Option<&ContentId>,
    ) -> BoxStream<'static, Result<(ContentId, SyncProofRow), TableError>> {
        let start = StreamPosition { after: after.map(|id| id.as_str().to_owned()), end: false };
        let place = (self.table.clone(), pair_key(pair));
        stream::try_unfold((place, start), |(place, next)| async move {
            if next.end {
                return Ok(None);
            }
            let range = KeyRange { prefix: String::new(), after: next.after };
            let page = place.0.query(&place.1, &range, Self::PAGE_ROWS).await?;
            let next = StreamPosition::behind(&page, place.0.name())?;
            let proofs = page.rows.into_iter().filter_map(|row| read(row.sort, &row.value)).map(Ok);
            Ok::<_, TableError>(Some((stream::iter(proofs), (place, next))))
        })
        .try_flatten()
        .boxed()
    }
}

/// Where a stream goes on.
struct StreamPosition {
    after: Option<String>,
    end: bool,
}

impl StreamPosition {
    fn behind(page: &RowPage, table: &str) -> Result<Self, TableError> {
        let after = page.rows.last().map(|row| row.sort.clone());
        if after.is_none() && !page.end {
            // It promised more and gave nothing to go on from: asking again would ask for ever.
            return Err(TableError {
                kind: TableErrorKind::Unexpected,
                op: "query",
                table: table.to_owned(),
                source: Some("an empty page that is not the last".into()),
            });
        }
        Ok(Self { after, end: page.end })
    }
}

fn key(pair: &SpacePair, item: &ContentId) -> RowKey {
    RowKey::new(pair_key(pair), item.as_str())
}

/// The form of a row that only says what was written; an earlier Mill passes over it.
const WRITTEN_FORM: u8 = 2;

/// The form of a row that says of which state of the copy it is known that it is no twin's; behind that comes the row of
/// another form that stood there, if any did. An earlier Mill passes over it.
const NO_TWIN_FORM: u8 = 3;

/// What stands behind the state of which a row says that it is no twin's.
fn without_no_twin(value: &[u8]) -> &[u8] {
    match value.split_first() {
        Some((&NO_TWIN_FORM, rest)) => rest.get(VersionDigest::BYTES..).unwrap_or_default(),
        _ => value,
    }
}

fn read_row(value: &[u8]) -> Option<SyncProofRow> {
    if let Some((&NO_TWIN_FORM, rest)) = value.split_first() {
        let (no_twin, rest) = rest.split_first_chunk()?;
        let known = read_row(rest).filter(|_| rest.first() != Some(&NO_TWIN_FORM)).unwrap_or_default();
        return Some(SyncProofRow { no_twin: Some(VersionDigest(*no_twin)), ..known });
    }
    if let Some(proof) = SyncProof::decode(value) {
        let (destination, source) = (Some(proof.destination), Some(proof.source));
        return Some(SyncProofRow { destination, source, proof: Some(proof), ..SyncProofRow::default() });
    }
    let (&form, digests) = value.split_first()?;
    let (destination, source) = digests.split_first_chunk()?;
    let source = if source.is_empty() { None } else { Some(VersionDigest(source.try_into().ok()?)) };
    let destination = Some(VersionDigest(*destination));
    (form == WRITTEN_FORM).then_some(SyncProofRow { destination, source, ..SyncProofRow::default() })
}

fn read(sort: String, value: &[u8]) -> Option<(ContentId, SyncProofRow)> {
    let found = ContentId::new(sort).ok().zip(read_row(value));
    if found.is_none() {
        debug!("passed over a sync proof that cannot be read");
    }
    found
}

#[cfg(test)]
mod tests;
