//! Items that the service behind both stores copies by itself.

use super::*;
use mill_ports::StoreErrorKind;

/// Two stores of one service that stores a checksum of each item.
fn one_service() -> Fixture {
    let behavior = || StoreBehavior { service: Some(1), ..telling(Algorithm::Crc64Nvme) };
    Fixture::of(behavior(), behavior())
}

#[tokio::test(start_paused = true)]
async fn a_service_brings_new_and_changed_items_and_no_byte_is_read() {
    let site = one_service();
    for bytes in ["first", "second"] {
        site.source.insert(&at("x"), bytes, noted(bytes));
        site.run("x").await.unwrap();
        assert!(site.in_sync());
        assert_eq!((site.source_port.bytes_read(), site.destination_port.bytes_read()), (0, 0));
        assert!(!site.destination_port.calls().contains(&"put"));
        assert!(site.has_sync_proof("x").await);
    }
    let totals = site.totals();
    assert_eq!((totals.copied, totals.updated, totals.bytes), (1, 1, 11));
    site.run("x").await.unwrap();
    assert_eq!(site.totals().unchanged, 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_common_service_or_no_checksum_the_bytes_are_brought() {
    let of = |service| StoreBehavior { service, ..telling(Algorithm::Md5) };
    let blind = || StoreBehavior { service: Some(1), ..plain() };
    for (source, destination) in
        [(of(Some(1)), of(Some(2))), (of(Some(1)), of(None)), (of(None), of(Some(1))), (blind(), blind())]
    {
        let site = Fixture::of(source, destination);
        site.source.insert(&at("x"), "same", noted("n"));
        site.run("x").await.unwrap();
        assert!(site.in_sync());
        assert!(site.destination_port.calls().contains(&"put"));
    }
}

#[tokio::test(start_paused = true)]
async fn damage_at_rest_is_not_brought_over() {
    for before in [None, Some("older")] {
        let site = one_service();
        site.source.insert(&at("x"), "sound", noted("n"));
        if let Some(bytes) = before {
            site.destination.insert(&at("x"), bytes, noted("n"));
        }
        let stood = site.destination.content(&at("x"));
        site.source.rot(&at("x"), |bytes| bytes[0] ^= 1);
        site.run("x").await.unwrap_err();
        assert_eq!(site.destination.content(&at("x")), stood);
        assert!(!site.has_sync_proof("x").await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_tells_another_checksum_of_what_it_brought_is_not_believed() {
    let site = one_service();
    site.source.insert(&at("x"), "same", noted("n"));
    site.destination_port.meet("take", [ProbeFault::Lies]);
    assert_eq!(class(site.run("x").await), FailureClass::Retryable);
    assert!(!site.has_sync_proof("x").await);
    assert_eq!(site.totals().bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn what_changes_before_it_is_brought_is_looked_at_once_more() {
    let site = one_service();
    site.source.insert(&at("x"), "stale", noted("n"));
    let source = site.source.clone();
    site.destination_port
        .meet("take", [ProbeFault::Before(Box::new(move || source.insert(&at("x"), "newer", noted("newer"))))]);
    site.run("x").await.unwrap();
    assert!(site.in_sync());
    assert_eq!(site.totals().copied, 1);
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_service_that_brings_items_are_tried_again() {
    for way in [ProbeFault::Fails(StoreErrorKind::Unexpected), ProbeFault::DoneAndFails(StoreErrorKind::Unexpected)] {
        let site = one_service();
        site.source.insert(&at("x"), "same", noted("n"));
        site.destination_port.meet("take", [way]);
        site.run("x").await.unwrap();
        assert!(site.in_sync());
        assert!(site.has_sync_proof("x").await);
    }
}
