//! A part of a bucket, as a person writes it.

use std::fmt;

use mill_policy::ServerOption;

use crate::redact::without_password;

/// One end of a one-off mirror that is in S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct S3Location {
    /// Which end it is, as in the names of its options: `--source-region`.
    pub(crate) end: String,
    /// The bucket.
    pub(crate) bucket: String,
    /// Empty, or ends in a slash.
    pub(crate) prefix: String,
    /// The address of its service as it was given, if it was.
    pub(crate) endpoint: Option<String>,
    /// The service in one spelling, wherever its address comes from; `None` for Amazon's own.
    pub(crate) service: Option<String>,
    /// Its region.
    pub(crate) region: Option<String>,
    /// A profile of the AWS configuration.
    pub(crate) profile: Option<String>,
    /// How its server differs from others.
    pub(crate) options: Vec<ServerOption>,
}

impl S3Location {
    /// Parses `s3://BUCKET/PREFIX`; `None` for anything else, which is a folder.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let (bucket, prefix) = bucket_and_prefix(text.strip_prefix("s3://")?);
        Some(Self {
            end: String::new(),
            bucket,
            prefix,
            endpoint: None,
            service: None,
            region: None,
            profile: None,
            options: Vec::new(),
        })
    }
}

impl S3Location {
    /// What it is, however its service's address is written and wherever it is given.
    pub(crate) fn identity(&self) -> String {
        let at = self.service.as_ref().map_or_else(String::new, |service| format!(" at {service}"));
        format!("s3://{}/{}{at}", self.bucket, self.prefix)
    }

    /// The same as Mill named it before 2026-11-30: with the address as it was typed.
    pub(crate) fn typed_identity(&self) -> String {
        let at = self.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        format!("s3://{}/{}{at}", self.bucket, self.prefix)
    }
}

impl fmt::Display for S3Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.prefix)?;
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| write!(f, " at {}", without_password(endpoint)))
    }
}

/// A bucket, and the prefix of its keys: empty, or ending in a slash.
pub(crate) fn bucket_and_prefix(text: &str) -> (String, String) {
    let (bucket, prefix) = text.split_once('/').unwrap_or((text, ""));
    let slash = if prefix.is_empty() || prefix.ends_with('/') { "" } else { "/" };
    (bucket.to_owned(), format!("{prefix}{slash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_s3_is_a_bucket_and_a_prefix() {
        let of = |text| S3Location::of(text).map(|remote| (remote.bucket, remote.prefix));
        assert_eq!(of("s3://b"), Some(("b".into(), String::new())));
        assert_eq!(of("s3://b/"), Some(("b".into(), String::new())));
        assert_eq!(of("s3://b/x/y"), Some(("b".into(), "x/y/".into())));
        assert_eq!(of("s3://b/x/"), Some(("b".into(), "x/".into())));
        assert_eq!(of("/srv/s3"), None);
        assert_eq!(of("s3:"), None);
    }
}
