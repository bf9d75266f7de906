//! How keys are written in records: form-encoded, as Amazon says, except by Ceph.

use super::error::{EventFault, KeyFault};
use crate::store::hex_byte;

/// Whether a service writes keys in its records as they are.
///
/// Source: Ceph, `rgw_pubsub_s3_event::dump` in `rgw_pubsub.cc`; seen in suitenumerique/meet#1455.
pub(super) fn writes_keys_plainly(service: &str) -> bool {
    service == "ceph:s3"
}

/// The key of a form-encoded text: `+` is a blank and `%` begins a byte; all else stands for itself. Amazon leaves `/` as it
/// is, MinIO encodes it.
///
/// # Errors
/// A `%` without two hexadecimal digits, or no UTF-8. Such a key is not guessed: a wrong one would be another object.
pub(super) fn form_decoded(written: &str) -> Result<String, EventFault> {
    let fault = |why| EventFault::Key { written: written.to_owned(), why };
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                bytes.push(hex_byte(behind).ok_or_else(|| fault(KeyFault::Percent))?);
                rest = &behind[2..];
            }
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| fault(KeyFault::NotUtf8))
}
