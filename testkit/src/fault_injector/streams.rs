//! Streams that fail in the middle.

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use mill_ports::{Body, Listing};

use super::InjectedFault;
use super::store::InjectedErrorContext;

/// A fault, and how many bytes pass before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct MidFault {
    pub(super) fault: InjectedFault,
    pub(super) at: u64,
}

/// A body that fails, ends or has a flipped bit after so many bytes.
pub(super) fn body(body: Body, mid: Option<MidFault>, context: InjectedErrorContext) -> Body {
    let Some(MidFault { fault, at }) = mid else {
        return body;
    };
    match fault {
        InjectedFault::Damage => damaged(body, at),
        InjectedFault::Mid(kind) => {
            let error = stream::once(async move { Err(context.error(kind)) });
            first(body, at).chain(error).boxed()
        }
        _ => first(body, at),
    }
}

/// The first `bytes` of a body.
fn first(body: Body, bytes: u64) -> Body {
    stream::try_unfold((body, bytes), |(mut body, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let Some(mut piece) = body.try_next().await? else {
            return Ok(None);
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (body, left))))
    })
    .boxed()
}

/// A body with one flipped bit in the byte at `at`.
fn damaged(body: Body, at: u64) -> Body {
    let mut passed = 0;
    let turn = move |piece: Bytes| {
        let from = passed;
        passed += piece.len() as u64;
        if !(from..passed).contains(&at) {
            return piece;
        }
        let mut bytes = BytesMut::from(&piece[..]);
        bytes[(at - from) as usize] ^= 1;
        bytes.freeze()
    };
    body.map_ok(turn).boxed()
}

/// A listing that `fault` ends early, after at most `pages` pages.
pub(super) fn listing(
    listing: Listing,
    fault: Option<InjectedFault>,
    pages: u64,
    context: InjectedErrorContext,
) -> Listing {
    let Some(fault) = fault else {
        return listing;
    };
    let pages = if matches!(fault, InjectedFault::Before(_)) { 0 } else { pages as usize };
    let call_fault = |page: &Result<mill_ports::ListPage, _>| page.as_ref().is_ok_and(|page| !page.end);
    let some = listing.take_while(move |page| futures::future::ready(call_fault(page))).take(pages);
    if fault == InjectedFault::Truncate {
        return some.boxed();
    }
    some.chain(stream::once(async move { Err(context.error(fault.kind())) })).boxed()
}
