//! What an object's headers say of an item.

use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use aws_sdk_s3::operation::head_object::HeadObjectOutput;
use aws_sdk_s3::types::{ArchiveStatus, ChecksumType, ServerSideEncryption, StorageClass};
use aws_smithy_types::{DateTime, base64};
use mill_model::{Algorithm, Checksum, ItemFacts, ItemState, Timestamp, Version};

use super::properties::ObjectHeaders;
use super::{S3Settings, StoreInner};

/// How old a change must be before an equal version proves that nothing changed: its time is of whole seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// An object that is there.
#[derive(Debug)]
pub(super) struct FoundObject {
    pub(super) facts: ItemFacts,
    pub(super) etag: String,
    pub(super) storage_class: Option<StorageClass>,
}

/// What its state is made of.
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
        format!("{}.{:x}.{:x}", bare(self.etag), self.size, self.seconds())
    }

    pub(super) fn modified_at(self) -> Option<Timestamp> {
        let seconds = u64::try_from(self.modified?.secs()).ok()?;
        Some(Timestamp::from_millis(seconds.saturating_mul(1000)))
    }

    /// The version of something that Mill has just written. A further change within this very second could bear the
    /// same mark only with the same bytes, by somebody who writes into Mill's space: it is taken as proof.
    pub(super) fn version_as_written(self) -> Version {
        Version::settled_at(self.token())
    }
}

/// An entity tag without its quotes.
pub(super) fn bare(etag: &str) -> &str {
    etag.trim_start_matches("W/").trim_matches('"')
}

/// The entity tag in a version, in quotes, for a condition.
pub(super) fn tag_of(version: &Version) -> String {
    let mut parts = version.token().rsplitn(3, '.');
    let tag = parts.nth(2).unwrap_or_default();
    format!("\"{tag}\"")
}

/// What the two calls that tell of an object both tell.
struct ResponseFields<'a> {
    state: ObjectState<'a>,
    borne: ObjectHeaders,
    /// Whether there is metadata that headers cannot bear, and the answer leaves out.
    left_out: bool,
    sha256: Option<&'a str>,
    crc64: Option<&'a str>,
    checksum_type: Option<&'a ChecksumType>,
    /// Whether the entity tag is that of encrypted bytes.
    tag_of_cipher: bool,
    storage_class: Option<&'a StorageClass>,
    /// The archive tier in which an object lies whose class does not tell.
    archive_status: Option<&'a str>,
    restore: Option<&'a str>,
}

pub(super) const NO_LENGTH: &str = "the answer tells no length";

impl ResponseFields<'_> {
    /// Insists that an answer tells what each does that tells of an object. A page of something else does not.
    fn of_an_object(&self, delete_marker: Option<bool>) -> Result<(), &'static str> {
        match () {
            () if delete_marker == Some(true) => Err("the answer says that it is there, and that it was deleted"),
            () if bare(self.state.etag).is_empty() => Err("the answer tells no entity tag"),
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
        ];
        ResponseFields {
            state: ObjectState {
                etag: answer.e_tag().unwrap_or_default(),
                size: $size,
                modified: answer.last_modified(),
            },
            borne: ObjectHeaders {
                headers: headers.into_iter().filter_map(|(name, value)| Some((name, value?.to_owned()))).collect(),
                metadata: answer.metadata().cloned().unwrap_or_default(),
            },
            left_out: answer.missing_meta().is_some_and(|count| count != 0),
            sha256: answer.checksum_sha256(),
            crc64: answer.checksum_crc64_nvme(),
            checksum_type: answer.checksum_type(),
            tag_of_cipher: answer.sse_customer_algorithm().is_some()
                || matches!(
                    answer.server_side_encryption(),
                    Some(ServerSideEncryption::AwsKms | ServerSideEncryption::AwsKmsDsse)
                ),
            storage_class: answer.storage_class(),
            archive_status: None,
            restore: answer.restore(),
        }
    }};
}

impl StoreInner {
    /// # Errors
    /// What the answer lacks of what each has that tells of an object, or that there is none.
    pub(super) fn found_by_head(&self, answer: &HeadObjectOutput) -> Result<FoundObject, &'static str> {
        let size = answer.content_length().and_then(|size| u64::try_from(size).ok()).ok_or(NO_LENGTH)?;
        let told = ResponseFields {
            archive_status: answer.archive_status().map(ArchiveStatus::as_str),
            ..response_fields!(answer, size)
        };
        told.of_an_object(answer.delete_marker())?;
        Ok(self.found(told))
    }

    /// `size` is that of the whole object, of which the answer may bring a part.
    ///
    /// # Errors
    /// As of [`found_by_head`](Self::found_by_head).
    pub(super) fn found_by_get(&self, answer: &GetObjectOutput, size: u64) -> Result<FoundObject, &'static str> {
        let told = response_fields!(answer, size);
        told.of_an_object(answer.delete_marker())?;
        Ok(self.found(told))
    }

    fn found(&self, told: ResponseFields<'_>) -> FoundObject {
        let state = told.state;
        let restored = told.restore.is_some_and(|restore| restore.contains("ongoing-request=\"false\""));
        let tier = told.archive_status.or(told.storage_class.map(StorageClass::as_str).filter(|class| sleeps(class)));
        FoundObject {
            etag: state.etag.to_owned(),
            storage_class: told.storage_class.cloned(),
            facts: ItemFacts {
                size: state.size,
                modified: state.modified_at(),
                version: self.version(state),
                checksums: checksums(&told, &self.settings),
                // What is left out is there: those told must not pass for all.
                properties: (!told.left_out).then(|| told.borne.properties()),
                state: state_in(tier.filter(|_| !restored)),
            },
        }
    }

    /// The version of something that was found: settled once its change is old enough, by the store's own clock. Of an object
    /// written in parts that is the time at which its upload was begun; decision 0020 says what follows.
    pub(super) fn version(&self, state: ObjectState<'_>) -> Version {
        let now = self.settings.clock.now().as_millis().saturating_add_signed(self.requests.skew_millis());
        let tagged = !bare(state.etag).is_empty();
        let settled = tagged
            && state.modified_at().is_some_and(|at| {
                // A time of whole seconds stands for all of its second.
                at.plus(SETTLED_AFTER + Duration::from_secs(1)) < Timestamp::from_millis(now)
            });
        if settled { Version::settled_at(state.token()) } else { Version::unsettled(state.token()) }
    }
}

/// Whether objects of a storage class must be brought back before they can be read.
pub(super) fn sleeps(class: &str) -> bool {
    ["GLACIER", "DEEP_ARCHIVE"].contains(&class)
}

/// The state of an object in this archive tier, or in none.
pub(super) fn state_in(tier: Option<&str>) -> ItemState {
    tier.map_or(ItemState::Online, |tier| ItemState::Archived(tier.to_owned()))
}

fn checksums(told: &ResponseFields<'_>, settings: &S3Settings) -> Vec<Checksum> {
    let whole = told.checksum_type.is_none_or(|kind| *kind == ChecksumType::FullObject);
    let of = |algorithm, text: Option<&str>, bytes| {
        let value = base64::decode(text.filter(|_| whole)?).ok().filter(|value| value.len() == bytes)?;
        Some(Checksum { algorithm, value: value.into() })
    };
    let md5 = if told.tag_of_cipher || !settings.md5_tags { None } else { md5(told.state.etag) };
    // Of parts, some servers tell the checksum of the parts' checksums, and no type.
    let of_whole = told.checksum_type.is_some() || !bare(told.state.etag).contains('-');
    let crc64 = of(Algorithm::Crc64Nvme, told.crc64, 8).filter(|_| of_whole && settings.whole_checksum);
    of(Algorithm::Sha256, told.sha256, 32).into_iter().chain(md5).chain(crc64).collect()
}

/// The MD5 that an entity tag is, where it is one: written in one part, and not encrypted under a customer's key.
pub(super) fn md5(etag: &str) -> Option<Checksum> {
    let tag = bare(etag);
    if tag.len() != 32 || !tag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(&tag[at * 2..at * 2 + 2], 16).ok();
    let value: Option<Vec<u8>> = (0..16).map(byte).collect();
    Some(Checksum { algorithm: Algorithm::Md5, value: value?.into() })
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
            assert_eq!(tag_of(&state.version_as_written()), format!("\"{tag}\""));
        }
        assert_eq!(tag_of(&Version::settled_at("a folder's")), "\"\"");
    }
}
