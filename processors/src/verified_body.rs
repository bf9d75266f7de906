//! Verifies the bytes of a body while they pass. The last bytes pass only after all were found good, so that a destination
//! never holds the whole of an item that was cut, changed or damaged on the way.

use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use mill_ports::{Body, StoreError};

/// What the bytes of a body must be.
pub(crate) trait BodyCheck: Sized + Send + 'static {
    /// Sees the next bytes before they pass.
    fn update(self, chunk: &Bytes) -> Result<Self, StoreError>;

    /// Judges the whole before its last bytes pass.
    fn finish(self) -> Result<(), StoreError>;
}

/// The body, whose last bytes pass only if `check` finds all of them good.
pub(crate) fn verify_body(body: Body, check: impl BodyCheck) -> Body {
    stream::unfold(Some(VerifyingStream { body, held: None, check }), next).boxed()
}

struct VerifyingStream<C> {
    body: Body,
    /// The last chunk, until it is known whether another follows.
    held: Option<Bytes>,
    check: C,
}

/// The next chunk. `None` as state means that the body is over.
async fn next<C: BodyCheck>(
    state: Option<VerifyingStream<C>>,
) -> Option<(Result<Bytes, StoreError>, Option<VerifyingStream<C>>)> {
    let VerifyingStream { mut body, mut held, mut check } = state?;
    loop {
        let chunk = match body.next().await {
            Some(Ok(chunk)) => chunk,
            Some(Err(error)) => return Some((Err(error), None)),
            None => {
                return check
                    .finish()
                    .map_or_else(|error| Some(Err(error)), |()| held.map(Ok))
                    .map(|last| (last, None));
            }
        };
        check = match check.update(&chunk) {
            Ok(check) => check,
            Err(error) => return Some((Err(error), None)),
        };
        if chunk.is_empty() {
            continue;
        }
        if let Some(before) = held.replace(chunk) {
            return Some((Ok(before), Some(VerifyingStream { body, held, check })));
        }
    }
}
