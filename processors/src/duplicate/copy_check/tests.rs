use mill_model::{AccountId, Monotonic, StoreAddress, StoreId};
use mill_ports::Statistics;
use mill_testkit::SimClock;

use super::*;

fn options_for(announced: &[u8]) -> VerifyOptions {
    let mut digester = Digester::new(&[Algorithm::Md5]);
    digester.update(announced);
    let store = StoreAddress { account: AccountId::new("a").unwrap(), store: StoreId::new("s").unwrap() };
    let subject = "p/x".to_owned();
    VerifyOptions {
        size: announced.len() as u64,
        computed: BTreeSet::new(),
        stated: digester.finish(),
        transfer_guard: Arc::new(Arc::new(Statistics::default()).begin_transfer(String::new, 0)),
        lease: DeliveryLease::until(Arc::new(SimClock::new()), Monotonic::from_origin(std::time::Duration::MAX)),
        cancelled: CancellationToken::new(),
        damaged: StoreError { kind: StoreErrorKind::Damaged, op: "read", store, subject, source: None },
    }
}

fn of(pieces: &[&'static str]) -> Body {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
    stream::iter(pieces).boxed()
}

/// The bytes that pass before the end or an error, and the error.
async fn through(mut body: Body) -> (String, Option<StoreErrorKind>) {
    let mut seen = String::new();
    loop {
        match body.next().await {
            Some(Ok(piece)) => seen.push_str(std::str::from_utf8(&piece).unwrap()),
            Some(Err(error)) => {
                assert!(body.next().await.is_none(), "nothing comes after an error");
                return (seen, Some(error.kind));
            }
            None => return (seen, None),
        }
    }
}

#[tokio::test]
async fn a_good_body_passes_unchanged_and_leaves_its_checksums() {
    for pieces in [&["abcdef"][..], &["abc", "", "def"], &["a", "b", "c", "d", "e", "f", ""]] {
        let (body, verified) = verify_copy(of(pieces), options_for(b"abcdef")).await.unwrap();
        assert!(verified.get().is_none());
        assert_eq!(through(body).await, ("abcdef".to_owned(), None));
        let algorithms: Vec<_> = verified.get().unwrap().iter().map(|sum| sum.algorithm).collect();
        assert_eq!(algorithms, [Algorithm::Sha256, Algorithm::Crc64Nvme, Algorithm::Md5]);
    }
}

#[tokio::test]
async fn all_announced_bytes_are_let_through_only_after_all_were_found_good() {
    for (pieces, kind) in [
        (&["abc", "deX"][..], StoreErrorKind::Damaged),
        (&["abc", "deX", ""], StoreErrorKind::Damaged),
        (&["abcdeX"], StoreErrorKind::Damaged),
        (&["Xbc", "def"], StoreErrorKind::Damaged),
        (&["abc", "de"], StoreErrorKind::Unexpected),
        (&[], StoreErrorKind::Unexpected),
        (&["abc", "defg"], StoreErrorKind::Unexpected),
        (&["abc", "def", "g"], StoreErrorKind::Unexpected),
    ] {
        let (body, verified) = verify_copy(of(pieces), options_for(b"abcdef")).await.unwrap();
        let (seen, error) = through(body).await;
        assert!(seen.len() < 6, "{pieces:?}");
        assert_eq!(error, Some(kind), "{pieces:?}");
        assert!(verified.get().is_none());
    }
}

#[tokio::test]
async fn an_empty_body_is_judged_before_any_store_sees_it() {
    let (body, verified) = verify_copy(of(&[""]), options_for(b"")).await.unwrap();
    assert!(verified.get().is_some());
    assert_eq!(through(body).await, (String::new(), None));
    let error = verify_copy(of(&["a"]), options_for(b"")).await.err().unwrap();
    assert_eq!(error.kind, StoreErrorKind::Unexpected);
}
