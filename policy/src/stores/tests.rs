use crate::stores_file::read;

#[test]
fn an_only_store_is_the_primary() {
    let (stores, faults) = read("f", br#"{"stores": [{"id": "1", "type": "folder", "root": "r"}]}"#);
    assert_eq!(faults, []);
    assert!(stores.specs[0].primary);
}
