//! A store in S3, or in what speaks as S3 does.

use std::path::PathBuf;

use mill_model::{ServiceAddress, SpaceId};
use serde_json::Value;

use super::TypedSpec;
use crate::json_schema::quoted;

mod members;
mod reading;

pub(super) use self::members::{CREDENTIALS, MEMBERS};

/// Its name in the member `type`.
pub(super) const NAME: &str = "s3";

/// A store that speaks S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Spec {
    /// Where its spaces are.
    pub buckets: Buckets,
    /// The service's address; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// The region; `None` for the environment's.
    pub region: Option<String>,
    /// Whether the bucket stands in the path rather than in the host name.
    pub path_style: bool,
    /// Where the credentials are; `None` for those of the environment or the machine's role.
    pub credentials: Option<Credentials>,
    /// A profile of the user's AWS configuration; excludes `credentials`.
    pub profile: Option<String>,
    /// A role to take on with them.
    pub role: Option<RoleSpec>,
    /// How its server differs from Amazon's.
    pub dialect: Dialect,
}

impl S3Spec {
    /// Where the service answers, in one spelling; `None` for Amazon's own, or where the environment says.
    fn service(&self) -> Option<ServiceAddress> {
        // What is no address was refused when it was read.
        self.endpoint.as_deref().and_then(|endpoint| ServiceAddress::parse(endpoint).ok())
    }

    /// Whether the two hold, or could hold, the same objects, by what is written alone.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.service() == other.service() && self.buckets.overlaps(&other.buckets)
    }
}

impl TypedSpec for S3Spec {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn content_place(&self) -> String {
        format!("{:?}", self.buckets)
    }

    fn place(&self) -> String {
        match &self.buckets {
            Buckets::One(bucket) => format!("bucket {}", quoted(bucket)),
            Buckets::Prefix(prefix) => format!("buckets {}…", quoted(prefix)),
        }
    }

    fn printed(&self) -> Vec<(&'static str, Value)> {
        let (bucket, prefix) = match &self.buckets {
            Buckets::One(bucket) => (Some(bucket), None),
            Buckets::Prefix(prefix) => (None, Some(prefix)),
        };
        let text = |text: Option<&String>| text.map(|text| Value::from(text.as_str()));
        let unusual = |is: bool, usual: bool| (is != usual).then_some(Value::Bool(is));
        let (dialect, usual) = (self.dialect, Dialect::usual(self.endpoint.is_none()));
        let all = [
            ("bucket", text(bucket)),
            ("bucketPrefix", text(prefix)),
            ("endpoint", text(self.endpoint.as_ref())),
            ("region", text(self.region.as_ref())),
            ("pathStyle", unusual(self.path_style, false)),
            ("credentials", self.credentials.as_ref().map(Credentials::printed)),
            ("profile", text(self.profile.as_ref())),
            ("roleArn", text(self.role.as_ref().map(|role| &role.arn))),
            ("externalId", text(self.role.as_ref().and_then(|role| role.external_id.as_ref()))),
            ("conditionalWrites", unusual(dialect.conditional_writes, usual.conditional_writes)),
            ("wholeChecksums", unusual(dialect.whole_checksums, usual.whole_checksums)),
            ("sha256", unusual(dialect.sha256, usual.sha256)),
            ("md5Tags", unusual(dialect.md5_tags, usual.md5_tags)),
            ("serverSideCopies", unusual(dialect.server_side_copies, usual.server_side_copies)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

/// What servers that speak S3 differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a server
pub struct Dialect {
    /// Whether it decides `If-Match` and `If-None-Match` on writes itself; where not, they are checked before each write.
    pub conditional_writes: bool,
    /// Whether it knows the checksum of the whole of an item that is written in parts, rather than of the parts alone.
    pub whole_checksums: bool,
    /// Whether it is to keep the SHA-256 of what is written, rather than a CRC-64.
    pub sha256: bool,
    /// Whether an entity tag of 32 hexadecimal digits is the MD5 of the bytes.
    pub md5_tags: bool,
    /// Whether it is to bring large items from another of its buckets by itself, and judges what it brought by the checksum
    /// of the whole that it keeps; where not, a workman reads every byte.
    pub server_side_copies: bool,
}

impl Dialect {
    /// That of Amazon's own, or of a server at an address of its own. Nothing tells whether such a one judges what it copies.
    pub fn usual(of_amazon: bool) -> Self {
        Self {
            conditional_writes: true,
            whole_checksums: true,
            sha256: false,
            md5_tags: true,
            server_side_copies: of_amazon,
        }
    }
}

/// A role to take on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// Its ARN.
    pub arn: String,
    /// The id that its owner gave to whoever takes it on, if any.
    pub external_id: Option<String>,
}

/// How spaces become buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buckets {
    /// One bucket holds all spaces.
    One(String),
    /// Each space is a bucket: this prefix and the space's id.
    Prefix(String),
}

impl Buckets {
    /// Whether a bucket is, or could be, among those of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(a), Self::One(b)) => a == b,
            (Self::Prefix(a), Self::Prefix(b)) => a.starts_with(b) || b.starts_with(a),
            (Self::One(bucket), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::One(bucket)) => {
                bucket.strip_prefix(prefix.as_str()).is_some_and(|space| SpaceId::new(space).is_ok())
            }
        }
    }
}

/// Where the credentials of a store are to be found. Never the credentials themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Where the access key's id is.
    pub access_key_id: SecretReference,
    /// Where the secret key is.
    pub secret_access_key: SecretReference,
    /// Where the session token is, if there is one.
    pub session_token: Option<SecretReference>,
}

impl Credentials {
    fn printed(&self) -> Value {
        let all = [
            ("accessKeyId", Some(&self.access_key_id)),
            ("secretAccessKey", Some(&self.secret_access_key)),
            ("sessionToken", self.session_token.as_ref()),
        ];
        let named = |(name, reference): (&str, Option<&SecretReference>)| match reference? {
            SecretReference::Env(variable) => Some((format!("{name}Env"), Value::from(variable.as_str()))),
            SecretReference::File(path) => Some((format!("{name}File"), path.to_string_lossy().into())),
        };
        Value::Object(all.into_iter().filter_map(named).collect())
    }
}

/// Where one secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// In this environment variable.
    Env(String),
    /// In this file, as given: a relative one is the caller's to resolve.
    File(PathBuf),
}

#[cfg(test)]
mod tests;
