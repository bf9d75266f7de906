//! Splits a body into chunks that can be sent more than once.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_smithy_types::base64;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use mill_model::ItemAddress;
use mill_ports::{Body, StoreError};
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{MEMORY_UNIT, StoreInner};
use crate::connection::ANSWER_MAX;

/// Splits a body of known size into chunks.
pub(super) struct BodyChunker<'a> {
    pub(super) inner: &'a StoreInner,
    pub(super) item: &'a ItemAddress,
    pub(super) body: Body,
    /// Bytes still to come.
    left: u64,
    /// Bytes of the next chunk that came already.
    buffered: Bytes,
}

/// A chunk, and its permit for memory.
pub(super) struct BodyChunk {
    pub(super) bytes: Bytes,
    pub(super) memory: OwnedSemaphorePermit,
}

impl<'a> BodyChunker<'a> {
    pub(super) fn new(inner: &'a StoreInner, item: &'a ItemAddress, body: Body, size: u64) -> Self {
        Self { inner, item, body, left: size, buffered: Bytes::new() }
    }

    /// Returns the next chunk of `most` bytes, or the rest. After the last chunk the body must end.
    ///
    /// A chunk larger than the whole memory budget takes all of it: otherwise it would wait for ever, and so would all later
    /// ones.
    pub(super) async fn next_chunk(&mut self, most: u64) -> Result<BodyChunk, StoreError> {
        let length = most.min(self.left);
        let units = u32::try_from(length.div_ceil(MEMORY_UNIT)).unwrap_or(u32::MAX);
        let units = units.min(self.inner.memory_units);
        let memory = Arc::clone(&self.inner.memory).acquire_many_owned(units).await;
        let memory = memory.map_err(|closed| self.wrong(closed.to_string()))?;
        let length = usize::try_from(length).map_err(|_| self.wrong("a piece that memory cannot hold"))?;
        let bytes = self.gather(length).await?;
        self.left -= bytes.len() as u64;
        if self.left == 0 {
            self.expect_end().await?;
        }
        Ok(BodyChunk { bytes, memory })
    }

    async fn gather(&mut self, length: usize) -> Result<Bytes, StoreError> {
        // A body that arrives in one piece, as small ones do, is not copied.
        let mut whole = std::mem::take(&mut self.buffered);
        if whole.len() >= length {
            self.buffered = whole.split_off(length);
            return Ok(whole);
        }
        let mut out = BytesMut::new();
        loop {
            let Some(more) = self.body.next().await else { return Err(self.wrong("fewer bytes came than announced")) };
            let mut more = more?;
            if whole.is_empty() && out.is_empty() && more.len() >= length {
                self.buffered = more.split_off(length);
                return Ok(more);
            }
            if out.is_empty() {
                out.reserve(length);
                out.extend_from_slice(&std::mem::take(&mut whole));
            }
            let wanted = more.len().min(length - out.len());
            self.buffered = more.split_off(wanted);
            out.extend_from_slice(&more);
            if out.len() == length {
                return Ok(out.freeze());
            }
        }
    }

    /// Checks that the body has ended: with more bytes, the item would be truncated.
    async fn expect_end(&mut self) -> Result<(), StoreError> {
        if !self.buffered.is_empty() {
            return Err(self.wrong("more bytes came than announced"));
        }
        while let Some(more) = self.body.next().await {
            if !more?.is_empty() {
                return Err(self.wrong("more bytes came than announced"));
            }
        }
        Ok(())
    }

    fn wrong(&self, why: impl Into<mill_ports::BoxError>) -> StoreError {
        self.inner.unexpected("writing", self.item, why)
    }
}

/// The slowest connection on which a body still arrives, in bytes per second.
const SLOWEST: u64 = 64 << 10;

/// Bodies up to this size arrive in the usual time even on such a connection, and use the sockets that all calls share.
const SOON_SENT: usize = 1 << 20;

/// The timeouts of a request with a body of so many bytes, whose response can only come once all are sent. The limit is on
/// the whole attempt, since the SDK separates connection pools by the read timeout.
pub(super) fn upload_timeouts(bytes: usize) -> aws_sdk_s3::config::Builder {
    let config = aws_sdk_s3::Config::builder();
    if bytes <= SOON_SENT {
        return config;
    }
    let most = ANSWER_MAX + Duration::from_secs(bytes as u64 / SLOWEST);
    config.timeout_config(TimeoutConfig::builder().disable_read_timeout().operation_attempt_timeout(most).build())
}

/// The CRC-64/NVME of bytes, in the form of a header.
pub(super) fn crc64(bytes: &[u8]) -> String {
    crc64_header(crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, bytes))
}

/// A CRC-64 in the form of a header.
pub(super) fn crc64_header(crc: u64) -> String {
    base64::encode(crc.to_be_bytes())
}

/// The SHA-256 of bytes, in the form of a header.
pub(super) fn sha256(bytes: &[u8]) -> String {
    base64::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use mill_local::OsClock;
    use mill_model::{AccountId, ContentId, SpaceId, StoreAddress, StoreId};

    use super::*;
    use crate::{Connection, ConnectionSettings, S3Settings, S3Store, SpaceLayout};

    #[test]
    fn a_body_has_time_to_be_sent() {
        let attempt =
            |bytes| upload_timeouts(bytes).build().timeout_config().and_then(TimeoutConfig::operation_attempt_timeout);
        assert_eq!(attempt(SOON_SENT), None);
        assert_eq!(attempt(8 << 20), Some(ANSWER_MAX + Duration::from_secs(128)));
        assert_eq!(attempt(1 << 30), Some(ANSWER_MAX + Duration::from_secs(16_384)));
    }

    #[tokio::test]
    async fn a_piece_larger_than_the_memory_holds_up_nobody_for_ever() {
        let access = ConnectionSettings { region: Some("us-east-1".into()), ..ConnectionSettings::default() };
        let connection = Connection::open(access).await.unwrap();
        let address = StoreAddress { account: AccountId::new("account").unwrap(), store: StoreId::new("1").unwrap() };
        let spaces = SpaceLayout::InBucket("bucket".into());
        let settings = S3Settings::new(address, spaces, Arc::new(OsClock));
        let settings = S3Settings { part_bytes: 64 << 10, memory_bytes: 128 << 10, ..settings };
        let inner = S3Store::new(&connection, settings).0;
        let item = ItemAddress { space: SpaceId::new("space").unwrap(), id: ContentId::new("a").unwrap() };
        let taken = async |size: u32| {
            let bytes = Bytes::from(vec![7; size as usize]);
            let mut chunker = BodyChunker::new(&inner, &item, stream::iter([Ok(bytes)]).boxed(), size.into());
            tokio::time::timeout(Duration::from_secs(10), chunker.next_chunk(size.into()))
                .await
                .expect("it waits for ever")
        };
        let large = taken(1 << 20).await.unwrap();
        assert_eq!((large.bytes.len(), inner.memory.available_permits()), (1 << 20, 0));
        drop(large);
        let small = taken(1).await.unwrap();
        assert_eq!((small.bytes.len(), inner.memory.available_permits()), (1, 1));
    }
}
