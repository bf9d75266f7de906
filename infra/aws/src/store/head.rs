//! Item facts from an object's headers.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ArchiveStatus, ChecksumType, ServerSideEncryption, StorageClass};
use aws_smithy_types::{DateTime, base64};
use mill_model::{Algorithm, Checksum, ItemFacts, ItemState, Timestamp, Version};

use super::properties::{ObjectHeaders, REDIRECT};
use super::stored_as::StoredAs;
use super::{S3Settings, StoreInner};

/// How old a change must be before an equal version proves that nothing changed, since the modification time has whole
/// seconds.
const VERSION_SETTLES_AFTER: Duration = Duration::from_secs(2);

/// An existing object.
#[derive(Debug)]
pub(super) struct FoundObject {
    pub(super) facts: ItemFacts,
    pub(super) etag: String,
    pub(super) stored_as: StoredAs,
    /// How many tags it has, if the store tells.
    pub(super) tag_count: Option<u32>,
}

/// The parts of a version.
#[derive(Debug, Clone, Copy)]
pub(super) struct ObjectState<'a> {
    pub(super) etag: &'a str,
    pub(super) size: u64,
    pub(super) modified: Option<&'a DateTime>,
}

impl ObjectState<'_> {
    fn seconds(self) -> i64 {
        self.modified.map_or(0, DateTime::secs)
    }

    fn token(self) -> String {
        format!("{}.{:x}.{:x}", unquoted(self.etag), self.size, self.seconds())
    }

    pub(super) fn modified_at(self) -> Option<Timestamp> {
        let seconds = u64::try_from(self.modified?.secs()).ok()?;
        Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
    }

    /// The version of an object that Mill has just written. A further change within the same second has the same version
    /// only with the same bytes, by another writer to Mill's space. So this version counts as settled.
    pub(super) fn version_as_written(self) -> Version {
        Version::settled_at(self.token())
    }
}

/// An entity tag without its quotes.
pub(super) fn unquoted(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// The entity tag in a version, in quotes, for a condition.
pub(super) fn etag_of(version: &Version) -> String {
    let mut parts = version.token().rsplitn(3, '.');
    let tag = parts.nth(2).unwrap_or_default();
    format!("\"{tag}\"")
}

/// The headers that HeadObject and GetObject have in common.
struct ResponseFields<'a> {
    state: ObjectState<'a>,
    object_headers: ObjectHeaders,
    /// Whether the response omits metadata that does not fit in headers.
    has_missing_metadata: bool,
    sha256: Option<&'a str>,
    crc64: Option<&'a str>,
    checksum_type: Option<&'a ChecksumType>,
    /// Whether the entity tag is of encrypted bytes.
    is_encrypted_etag: bool,
    stored_as: StoredAs,
    /// The archive tier of an object whose storage class does not name it.
    archive_status: Option<&'a str>,
    restore: Option<&'a str>,
    tag_count: Option<i32>,
}

pub(super) const NO_LENGTH: &str = "the answer tells no length";

impl ResponseFields<'_> {
    /// Checks that a response has the headers that every response about an object has. A page of a proxy has not.
    fn check_complete(&self, delete_marker: Option<bool>) -> Result<(), &'static str> {
        match () {
            () if delete_marker == Some(true) => Err("the answer says that it is there, and that it was deleted"),
            () if unquoted(self.state.etag).is_empty() => Err("the answer tells no entity tag"),
            () if self.state.modified.is_none() => Err("the answer tells no time of change"),
            () => Ok(()),
        }
    }
}

macro_rules! response_fields {
    ($answer:expr, $size:expr) => {{
        let answer = $answer;
        let headers = [
            ("cache-control", answer.cache_control()),
            ("content-disposition", answer.content_disposition()),
            ("content-encoding", answer.content_encoding()),
            ("content-language", answer.content_language()),
            ("content-type", answer.content_type()),
            ("expires", answer.expires_string()),
            (REDIRECT, answer.website_redirect_location()),
        ];
        ResponseFields {
            state: ObjectState {
                etag: answer.e_tag().unwrap_or_default(),
                size: $size,
                modified: answer.last_modified(),
            },
            object_headers: ObjectHeaders {
                headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect(),
                metadata: answer.metadata().cloned().unwrap_or_default(),
            },
            has_missing_metadata: answer.missing_meta().is_some_and(|count| count != 0),
            sha256: answer.checksum_sha256(),
            crc64: answer.checksum_crc64_nvme(),
            checksum_type: answer.checksum_type(),
            is_encrypted_etag: answer.sse_customer_algorithm().is_some()
                || matches!(
                    answer.server_side_encryption(),
                    Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse)
                ),
            stored_as: StoredAs::of(
                answer.storage_class(),
                answer.server_side_encryption(),
                (answer.ssekms_key_id(), answer.bucket_key_enabled()),
            ),
            archive_status: None,
            restore: answer.restore(),
            tag_count: answer.tag_count(),
        }
    }};
}

impl StoreInner {
    /// # Errors
    /// The required header that is missing, or that the object was deleted.
    pub(super) fn found_by_head(&self, answer: &HeadObjectOutput) -> Result<FoundObject, &'static str> {
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok()).ok_or(NO_LENGTH)?;
        let fields = ResponseFields {
            archive_status: answer.archive_status().map(ArchiveStatus::as_str),
            ..response_fields!(answer, size)
        };
        fields.check_complete(answer.delete_marker())?;
        Ok(self.found(fields))
    }

    /// `size` is that of the whole object. The response may contain only a part of it.
    ///
    /// # Errors
    /// Those of [`found_by_head`](Self::found_by_head).
    pub(super) fn found_by_get(&self, answer: &GetObjectOutput, size: u64) -> Result<FoundObject, &'static str> {
        let fields = response_fields!(answer, size);
        fields.check_complete(answer.delete_marker())?;
        Ok(self.found(fields))
    }

    fn found(&self, fields: ResponseFields<'_>) -> FoundObject {
        let state = fields.state;
        let restored = fields.restore.is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
        let tier = fields.archive_status.or(fields
            .stored_as
            .storage_class
            .as_ref()
            .map(StorageClass::as_str)
            .filter(|class| is_archive_class(class)));
        FoundObject {
            etag: state.etag.to_owned(),
            stored_as: fields.stored_as.clone(),
            tag_count: fields.tag_count.and_then(|count| u32::try_from(count).ok()),
            facts: ItemFacts {
                size: state.size,
                modified: state.modified_at(),
                version: self.version(state),
                checksums: checksums(&fields, &self.settings),
                // Some properties are missing, so the others must not pass for all.
                properties: (!fields.has_missing_metadata).then(|| fields.object_headers.decode()),
                state: item_state(tier.filter(|_| !restored)),
            },
        }
    }

    /// The version of an object that was found. It is settled once the change is old enough, by the store's own clock. The
    /// modification time of a multipart object is the start of its upload; decision 0020 has the consequences.
    pub(super) fn version(&self, state: ObjectState<'_>) -> Version {
        let now = self.settings.clock.now().as_millis().saturating_add_signed(self.requests.skew_millis());
        let tagged = !unquoted(state.etag).is_empty();
        let settled = tagged
            && state.modified_at().is_some_and(|at| {
                // A time of whole seconds means any time within that second.
                at.plus(VERSION_SETTLES_AFTER + Duration::from_secs(1)) < Timestamp::from_millis(now)
            });
        if settled { Version::settled_at(state.token()) } else { Version::unsettled(state.token()) }
    }
}

/// Whether objects of a storage class must be restored before they can be read.
pub(super) fn is_archive_class(class: &str) -> bool {
    ["GLACIER", "DEEP_ARCHIVE"].contains(&class)
}

/// The state of an object in this archive tier, or in no tier.
pub(super) fn item_state(tier: Option<&str>) -> ItemState {
    tier.map_or(ItemState::Online, |tier| ItemState::Archived(tier.to_owned()))
}

fn checksums(fields: &ResponseFields<'_>, settings: &S3Settings) -> Vec<Checksum> {
    let whole = fields.checksum_type.is_none_or(|kind| *kind == ChecksumType::FullObject);
    let of = |algorithm, text: Option<&str>, bytes| {
        let value = base64::decode(text.filter(|_| whole)?).ok().filter(|value| value.len() == bytes)?;
        Some(Checksum { algorithm, value: value.into() })
    };
    let md5 = if fields.is_encrypted_etag || !settings.md5_tags { None } else { md5(fields.state.etag) };
    // For multipart objects, some servers return the checksum of the parts' checksums, without a type.
    let of_whole = fields.checksum_type.is_some() || !unquoted(fields.state.etag).contains('-');
    let crc64 = of(Algorithm::Crc64Nvme, fields.crc64, 8).filter(|_| of_whole && settings.whole_checksum);
    of(Algorithm::Sha256, fields.sha256, 32).into_iter().chain(md5).chain(crc64).collect()
}

/// The MD5 in an entity tag, if it is one: of an object written in one part, and not encrypted with a customer's key.
pub(super) fn md5(etag: &str) -> Option<Checksum> {
    let value = hex::decode(unquoted(etag)).ok().filter(|value| value.len() == 16)?;
    Some(Checksum { algorithm: Algorithm::Md5, value: value.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entity_tag_is_an_md5_only_where_it_is_one() {
        let tag = "\"900150983cd24fb0d6963f7d28e17f72\"";
        assert_eq!(md5(tag).unwrap().to_string(), "md5:900150983cd24fb0d6963f7d28e17f72");
        for other in ["", "\"\"", "\"900150983cd24fb0d6963f7d28e17f72-2\"", "\"900150983cd24fb0d6963f7d28e17fxx\""] {
            assert!(md5(other).is_none(), "{other}");
        }
    }

    #[test]
    fn the_entity_tag_comes_back_out_of_a_version() {
        let modified = DateTime::from_secs(1_795_249_800);
        for tag in ["900150983cd24fb0d6963f7d28e17f72-2", "a.b.c", ""] {
            let state = ObjectState { etag: &format!("\"{tag}\""), size: 7, modified: Some(&modified) };
            assert_eq!(etag_of(&state.version_as_written()), format!("\"{tag}\""));
        }
        assert_eq!(etag_of(&Version::settled_at("a folder's")), "\"\"");
    }
}
