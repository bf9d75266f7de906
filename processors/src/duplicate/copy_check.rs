//! What the bytes of a copy must be: as many as announced, with the checksums that the source states, under a lease that holds.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mill_hooks::{PlantedBug, is_planted};
use mill_model::digest::Digester;
use mill_model::{Algorithm, Checksum};
use mill_ports::{Body, DeliveryLease, StoreError, StoreErrorKind, TransferGuard};
use tokio_util::sync::CancellationToken;

use crate::verified_body::{BodyCheck, verify_body};

/// What the body is verified against.
pub(super) struct VerifyOptions {
    /// How many bytes the body must have.
    pub(super) size: u64,
    /// The checksums that the source states.
    pub(super) stated: Vec<Checksum>,
    /// The algorithms of the checksums that the destination is known to return.
    pub(super) computed: BTreeSet<Algorithm>,
    /// Where the bytes are counted.
    pub(super) transfer_guard: Arc<TransferGuard>,
    /// The lease of the task, which must hold when the last bytes pass.
    pub(super) lease: DeliveryLease,
    pub(super) cancelled: CancellationToken,
    /// The error of a damaged body; errors of another kind are made from it.
    pub(super) damaged: StoreError,
}

/// The checksums of all bytes, SHA-256 first. Set once all bytes were found good.
pub(super) type VerifiedChecksums = Arc<OnceLock<Vec<Checksum>>>;

/// Wraps a body in its verification. An empty body is verified at once, since a store need not read it.
///
/// # Errors
/// The error of an empty body.
pub(super) async fn verify_copy(body: Body, options: VerifyOptions) -> Result<(Body, VerifiedChecksums), StoreError> {
    let stated = options.stated.iter().map(|stated| stated.algorithm);
    let mut others: BTreeSet<_> = stated.chain(options.computed.iter().copied()).collect();
    others.remove(&Algorithm::Sha256);
    // It costs next to nothing, and many stores return it. A copy with only unexpected checksums must be read back.
    others.insert(Algorithm::Crc64Nvme);
    let algorithms: Vec<_> = [Algorithm::Sha256].into_iter().chain(others).collect();
    let verified = VerifiedChecksums::default();
    let empty = options.size == 0;
    let check = CopyCheck { digester: Digester::new(&algorithms), options, verified: verified.clone() };
    let mut verifying = verify_body(body, check);
    if empty {
        if let Some(chunk) = verifying.next().await {
            chunk?; // No bytes ever pass of none announced, so this is an error.
        }
        verifying = stream::empty().boxed();
    }
    Ok((verifying, verified))
}

struct CopyCheck {
    digester: Digester,
    options: VerifyOptions,
    verified: VerifiedChecksums,
}

impl BodyCheck for CopyCheck {
    fn update(mut self, chunk: &Bytes) -> Result<Self, StoreError> {
        self.digester.update(chunk);
        if self.digester.bytes() > self.options.size {
            return Err(self.options.error("more bytes came than announced"));
        }
        self.options.transfer_guard.moved(chunk.len() as u64);
        Ok(self)
    }

    fn finish(self) -> Result<(), StoreError> {
        let Self { digester, options, verified } = self;
        if digester.bytes() != options.size {
            return Err(options.error("fewer bytes came than announced"));
        }
        let checksums = digester.finish();
        let differs = |ours: &Checksum| {
            options.stated.iter().any(|stated| stated.algorithm == ours.algorithm && stated.value != ours.value)
        };
        if checksums.iter().any(differs) && !is_planted(PlantedBug::DamageLetThrough) {
            return Err(options.damaged);
        }
        if options.cancelled.is_cancelled() || !options.lease.holds() {
            return Err(options.error("the task's lease ended while the item was copied"));
        }
        let _ = verified.set(checksums); // Set once: the check is consumed here.
        Ok(())
    }
}

impl VerifyOptions {
    fn error(self, why: &'static str) -> StoreError {
        StoreError { kind: StoreErrorKind::Unexpected, source: Some(why.into()), ..self.damaged }
    }
}

#[cfg(test)]
mod tests;
