//! Sync proofs: for each item of a store policy's space, the states in which its two sides were proven equal.
//!
//! A row is only valid for the states that it names: a lost row costs one more comparison, and a row whose states no
//! longer match proves nothing and does no harm.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::{Algorithm, Checksum, ContentId, SpacePair, Version};
use mill_ports::{KeyRange, RowKey, RowPage, RowPrecondition, Table, TableError, TableErrorKind};
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::pair_key::pair_key;

/// The states of both sides, as digests, and the checksum of the bytes that both had in them.
#[derive(Clone, PartialEq, Eq)]
pub struct SyncProof {
    source: VersionDigest,
    destination: VersionDigest,
    algorithm: Algorithm,
    /// The checksum's value. One shorter than SHA-256 is at the beginning; the rest is zero.
    checksum: [u8; 32],
    /// The checksum of the other bytes that a verification found at the source in the proven state: its disk damaged them.
    damaged: Option<[u8; 32]>,
}

/// A digest of a version's token: the first 16 bytes of its SHA-256. That is enough, because it is compared with one
/// other digest, never searched for, and whoever can choose tokens can write the item anyway.
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

    /// Parses a displayed digest.
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

/// The row of an item: that Mill wrote the copy, and perhaps a proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncProofRow {
    /// The state in which this pair wrote the destination, or found it equal to its source.
    destination: Option<VersionDigest>,
    /// The state of the source that was copied or found equal, if it is known.
    source: Option<VersionDigest>,
    /// The state in which the destination item was found not to be a copy of the source's item with another spelling of
    /// the name.
    no_twin: Option<VersionDigest>,
    /// The proof, if both versions were settled.
    pub proof: Option<SyncProof>,
}

impl SyncProofRow {
    /// Whether both sides are in the states in which this pair copied the item, or found both equal. Without a proof in
    /// the row, the versions were too young to prove that nothing changed since.
    pub fn is_copy(&self, source: &Version, destination: &Version) -> bool {
        self.is_ours(destination) && self.is_of(source)
    }

    /// Whether the source was copied, or found equal, in this state.
    pub fn is_of(&self, source: &Version) -> bool {
        self.source.is_some_and(|seen| is_same(&seen, source))
    }

    /// Whether the destination in this state is what this pair wrote, or proved equal to its source.
    pub fn is_ours(&self, destination: &Version) -> bool {
        self.destination.is_some_and(|left| is_same(&left, destination))
    }

    /// Whether the destination in this state was compared with the source's item with another spelling of the name, and
    /// has other bytes.
    pub fn is_no_twin(&self, destination: &Version) -> bool {
        self.no_twin.is_some_and(|seen| is_same(&seen, destination))
    }
}

impl SyncProof {
    /// The version of the written form, so that a later form is not misread.
    const FORM: u8 = 1;
    /// The form with the checksum of damaged bytes at its end. An earlier Mill ignores it.
    const DAMAGED_FORM: u8 = 4;
    const HEAD_BYTES: usize = 2 + 2 * size_of::<VersionDigest>();

    /// Makes the proof that both sides have equal bytes and properties in these states.
    ///
    /// `None` unless both versions are settled: a later state could have the same unsettled version.
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

    /// Whether both sides are in the proven states. Then their bytes and properties are equal, without reading any.
    pub fn holds(&self, source: &Version, destination: &Version) -> bool {
        (is_same(&self.source, source) && is_same(&self.destination, destination))
            || is_planted(PlantedBug::StaleSealBelieved)
    }

    /// The checksum of the destination's bytes, if it is in the proven state.
    pub fn checksum_of_destination(&self, destination: &Version) -> Option<Checksum> {
        is_same(&self.destination, destination).then(|| self.checksum())
    }

    /// The checksum of the source's bytes, if it is in the proven state.
    pub fn checksum_of_source(&self, source: &Version) -> Option<Checksum> {
        is_same(&self.source, source).then(|| self.checksum())
    }

    /// The checksum of the bytes that both sides had in the proven states, whatever they have now.
    pub fn checksum(&self) -> Checksum {
        self.with_value(&self.checksum)
    }

    /// The proof of an item whose source has other bytes now, in the proven state: these are damaged, whatever version they get
    /// later.
    ///
    /// `None` if the two checksums are of different algorithms.
    pub fn with_damaged_source(&self, found: &Checksum) -> Option<Self> {
        let damaged = padded(&found.value, self.algorithm).filter(|_| found.algorithm == self.algorithm)?;
        Some(Self { damaged: Some(damaged), ..self.clone() })
    }

    /// The checksum of the damaged bytes that a verification found at the source.
    pub fn damaged_source(&self) -> Option<Checksum> {
        self.damaged.as_ref().map(|value| self.with_value(value))
    }

    fn with_value(&self, value: &[u8; 32]) -> Checksum {
        Checksum { algorithm: self.algorithm, value: value[..self.algorithm.value_bytes()].into() }
    }

    fn from_digests(
        source: VersionDigest,
        destination: VersionDigest,
        algorithm: Algorithm,
        value: &[u8],
    ) -> Option<Self> {
        let checksum = padded(value, algorithm)?;
        Some(Self { source, destination, algorithm, checksum, damaged: None })
    }

    fn encode(&self) -> Bytes {
        let bytes = self.algorithm.value_bytes();
        let mut out = Vec::with_capacity(Self::HEAD_BYTES + bytes);
        let form = if self.damaged.is_some() { Self::DAMAGED_FORM } else { Self::FORM };
        out.extend([form, algorithm_tag(self.algorithm)]);
        out.extend(self.source.0);
        out.extend(self.destination.0);
        for value in [Some(&self.checksum), self.damaged.as_ref()].into_iter().flatten() {
            out.extend(&value[..bytes]);
        }
        out.into()
    }

    fn decode(written: &[u8]) -> Option<Self> {
        let (&[form, tag], rest) = written.split_first_chunk()?;
        let (source, rest) = rest.split_first_chunk()?;
        let (destination, value) = rest.split_first_chunk()?;
        let algorithm = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Crc64Nvme]
            .into_iter()
            .find(|known| algorithm_tag(*known) == tag)?;
        let (value, damaged) = match form {
            Self::FORM => (value, None),
            Self::DAMAGED_FORM => {
                let (value, damaged) = value.split_at_checked(algorithm.value_bytes())?;
                (value, Some(padded(damaged, algorithm)?))
            }
            _ => return None,
        };
        let proof = Self::from_digests(VersionDigest(*source), VersionDigest(*destination), algorithm, value)?;
        Some(Self { damaged, ..proof })
    }
}

impl std::fmt::Debug for SyncProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SyncProof").field("checksum", &self.checksum()).finish_non_exhaustive()
    }
}

/// The proven version was settled, so an equal token proves that nothing changed since, even if the version is
/// unsettled now.
fn is_same(proven: &VersionDigest, version: &Version) -> bool {
    *proven == VersionDigest::of(version)
}

/// A checksum's value in the space of the longest. `None` if it is not as long as the algorithm's are.
fn padded(value: &[u8], algorithm: Algorithm) -> Option<[u8; 32]> {
    let mut padded = [0; 32];
    padded.get_mut(..value.len()).filter(|_| value.len() == algorithm.value_bytes())?.copy_from_slice(value);
    Some(padded)
}

/// Tags are stored in rows: a tag never changes its meaning.
const fn algorithm_tag(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::Md5 => 1,
        Algorithm::Sha256 => 2,
        Algorithm::Crc64Nvme => 3,
    }
}

/// The repository of sync proofs: one row for each item.
#[derive(Debug, Clone)]
pub struct SyncProofs {
    table: Arc<dyn Table>,
}

impl SyncProofs {
    /// The number of rows in one page of a stream, about 100 KiB.
    const PAGE_ROWS: usize = 1_000;

    /// The repository over `table`.
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    /// The sync proof of an item, if there is one that can be read.
    ///
    /// # Errors
    /// The table's. A caller may continue as if there were no proof.
    pub async fn get(&self, pair: &SpacePair, item: &ContentId) -> Result<Option<SyncProof>, TableError> {
        Ok(self.row(pair, item).await?.and_then(|row| row.proof))
    }

    /// What is known of an item, if anything that can be read.
    ///
    /// # Errors
    /// The table's.
    pub async fn row(&self, pair: &SpacePair, item: &ContentId) -> Result<Option<SyncProofRow>, TableError> {
        Ok(self.table.get(&key(pair, item)).await?.and_then(|row| read_row(&row.value)))
    }

    /// Whether both sides are in the states in which this pair copied the item, or found both equal.
    ///
    /// # Errors
    /// The table's.
    pub async fn is_copy(
        &self,
        pair: &SpacePair,
        item: &ContentId,
        (source, destination): (&Version, &Version),
    ) -> Result<bool, TableError> {
        Ok(self.row(pair, item).await?.is_some_and(|row| row.is_copy(source, destination)))
    }

    /// Writes an item's sync proof over an existing row.
    ///
    /// # Errors
    /// The table's. Whether the proof is written is then unknown, which does no harm.
    pub async fn put(&self, pair: &SpacePair, item: &ContentId, proof: &SyncProof) -> Result<(), TableError> {
        self.table.put(&key(pair, item), proof.encode(), RowPrecondition::Always).await.map(drop)
    }

    /// Records that this pair wrote the destination in this state, when nothing could be proven. It replaces an
    /// existing proof, which was about other bytes or states.
    ///
    /// # Errors
    /// The table's. A copy without a row is not deleted without a person's confirmation.
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

    /// As [`Self::put_written`], when the state of the source is known.
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

    /// Records that the destination in this state is not a copy of the source's item with another spelling of the name.
    /// The rest of the row stays, unless another process writes it at the same moment.
    ///
    /// # Errors
    /// The table's. Then the two items are compared once more.
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

    /// Removes an item's row, if there is one.
    ///
    /// # Errors
    /// The table's. A row that is left proves nothing about an item that is gone.
    pub async fn remove(&self, pair: &SpacePair, item: &ContentId) -> Result<(), TableError> {
        self.table.delete(&key(pair, item), RowPrecondition::Always).await
    }

    /// Streams the rows of a pair's items in byte order of their ids, starting after `after`. One page is in memory at
    /// a time.
    ///
    /// A row that cannot be read is skipped, as if it were lost. The stream ends at its first error.
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

/// Where a stream continues.
struct StreamPosition {
    after: Option<String>,
    end: bool,
}

impl StreamPosition {
    fn behind(page: &RowPage, table: &str) -> Result<Self, TableError> {
        let after = page.rows.last().map(|row| row.sort.clone());
        if after.is_none() && !page.end {
            // The page promised more but has no last row: the request would be repeated for ever.
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

/// The form of a row that only says what was written. An earlier Mill ignores it. (Forms 1 and 4 are proofs.)
const WRITTEN_FORM: u8 = 2;

/// The form of a row with the state in which the destination item was found to be no copy of a twin. The previous row,
/// of another form, follows if there was one. An earlier Mill ignores this form.
const NO_TWIN_FORM: u8 = 3;

/// The row of another form that follows the state in a row of [`NO_TWIN_FORM`].
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
