//! How an object is stored: what a copy onto itself must name, or the bucket's own rules take its place.

use aws_sdk_s3::types::{ServerSideEncryption, StorageClass};

/// How an object is stored, as far as a HEAD tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct StoredAs {
    pub(super) storage_class: Option<StorageClass>,
    /// Encryption with a key of the key service. What a service encrypts by itself is not named: it is the bucket's rule.
    pub(super) key_encryption: Option<ServerSideEncryption>,
    /// The id of that key.
    pub(super) key_id: Option<String>,
    /// Whether a key of the bucket stands between, which saves requests to the key service.
    pub(super) bucket_key: Option<bool>,
}

impl StoredAs {
    /// `encryption` and the other two of a response.
    pub(super) fn of(
        storage_class: Option<&StorageClass>,
        encryption: Option<&ServerSideEncryption>,
        (key_id, bucket_key): (Option<&str>, Option<bool>),
    ) -> Self {
        let with_key = |how: &&ServerSideEncryption| {
            matches!(how, ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse)
        };
        let key_encryption = encryption.filter(with_key).cloned();
        let has_key = key_encryption.is_some();
        Self {
            storage_class: storage_class.cloned(),
            key_id: key_id.filter(|_| has_key).map(str::to_owned),
            bucket_key: bucket_key.filter(|_| key_encryption == Some(ServerSideEncryption::AwsKms)),
            key_encryption,
        }
    }
}

/// Sets [`StoredAs`] on a request of any call that makes an object.
macro_rules! stored_as {
    ($request:expr, $stored_as:expr) => {{
        let stored_as = $stored_as;
        $request
            .set_storage_class(stored_as.storage_class.clone())
            .set_server_side_encryption(stored_as.key_encryption.clone())
            .set_ssekms_key_id(stored_as.key_id.clone())
            .set_bucket_key_enabled(stored_as.bucket_key)
    }};
}

pub(super) use stored_as;
