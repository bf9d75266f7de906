//! Watches the bytes of a copy go by. The last of them is let through only after all were found good, so that a
//! destination never holds all that was announced of an item that was cut, changed or flipped on the way.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mill_model::digest::Digester;
use mill_model::{Algorithm, Checksum};
use mill_ports::{Body, DeliveryLease, PlantedBug, StoreError, StoreErrorKind, TransferGuard, planted};
use tokio_util::sync::CancellationToken;

/// What to watch for.
pub(super) struct VerifyOptions {
    /// How many bytes must come.
    pub(super) size: u64,
    /// The checksums that the source states.
    pub(super) stated: Vec<Checksum>,
    /// The checksums that the destination will tell of what it wrote.
    pub(super) told: BTreeSet<Algorithm>,
    /// Where the bytes are counted.
    pub(super) transferring: Arc<TransferGuard>,
    /// The task must still be this worker's when the last byte goes.
    pub(super) lease: DeliveryLease,
    pub(super) cancelled: CancellationToken,
    /// The error to end the body with; another kind of finding takes its place in it.
    pub(super) damaged: StoreError,
}

/// The checksums of all bytes, SHA-256 first, as soon as all were found good.
pub(super) type VerifiedChecksums = Arc<OnceLock<Vec<Checksum>>>;

/// The same body, watched. An empty one is judged at once: a store need not look at it.
///
/// # Errors
/// An empty body's own failure.
pub(super) async fn verify_body(body: Body, watch: VerifyOptions) -> Result<(Body, VerifiedChecksums), StoreError> {
    let stated = watch.stated.iter().map(|stated| stated.algorithm);
    let mut others: BTreeSet<_> = stated.chain(watch.told.iter().copied()).collect();
    others.remove(&Algorithm::Sha256);
    // It costs next to nothing, and many a store tells it: what is told and was not computed has to be read back.
    others.insert(Algorithm::Crc64Nvme);
    let algorithms: Vec<_> = [Algorithm::Sha256].into_iter().chain(others).collect();
    let witnessed = VerifiedChecksums::default();
    let empty = watch.size == 0;
    let watched =
        VerifyingStream { body, held: None, digester: Digester::new(&algorithms), watch, witnessed: witnessed.clone() };
    let mut watched = stream::unfold(Some(watched), next).boxed();
    if empty {
        if let Some(chunk) = watched.next().await {
            chunk?; // No bytes are ever let through of none announced, so this is an error.
        }
        watched = stream::empty().boxed();
    }
    Ok((watched, witnessed))
}

struct VerifyingStream {
    body: Body,
    /// What came last, until it is known whether anything follows.
    held: Option<Bytes>,
    digester: Digester,
    watch: VerifyOptions,
    witnessed: VerifiedChecksums,
}

/// `None` in the state means that the body is over.
async fn next(state: Option<VerifyingStream>) -> Option<(Result<Bytes, StoreError>, Option<VerifyingStream>)> {
    let mut watched = state?;
    loop {
        let chunk = match watched.body.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Some((Err(error), None)),
            None => return watched.over().map(|last| (last, None)),
        };
        watched.digester.update(&chunk);
        if watched.digester.bytes() > watched.watch.size {
            return Some((Err(watched.watch.finding("more bytes came than announced")), None));
        }
        watched.watch.transferring.moved(chunk.len() as u64);
        if chunk.is_empty() {
            continue;
        }
        if let Some(before) = watched.held.replace(chunk) {
            return Some((Ok(before), Some(watched)));
        }
    }
}

impl VerifyingStream {
    /// Judges the whole, and gives its last bytes.
    fn over(self) -> Option<Result<Bytes, StoreError>> {
        let Self { held, digester, watch, witnessed, .. } = self;
        if digester.bytes() != watch.size {
            return Some(Err(watch.finding("fewer bytes came than announced")));
        }
        let checksums = digester.finish();
        let differs = |ours: &Checksum| {
            watch.stated.iter().any(|stated| stated.algorithm == ours.algorithm && stated.value != ours.value)
        };
        if checksums.iter().any(differs) && !planted(PlantedBug::DamageLetThrough) {
            return Some(Err(watch.damaged));
        }
        if watch.cancelled.is_cancelled() || !watch.lease.holds() {
            return Some(Err(watch.finding("the task's lease ended while the item was copied")));
        }
        let _ = witnessed.set(checksums); // Set once: the state is consumed here.
        held.map(Ok)
    }
}

impl VerifyOptions {
    fn finding(self, why: &'static str) -> StoreError {
        StoreError { kind: StoreErrorKind::Unexpected, source: Some(why.into()), ..self.damaged }
    }
}

#[cfg(test)]
mod tests;
