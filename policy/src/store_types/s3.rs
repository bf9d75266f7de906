//! A store in S3, or in a service with its protocol.

use std::path::PathBuf;

use mill_model::{ServiceAddress, SpaceId};
use serde_json::Value;

use super::TypedSpec;
use crate::json_schema::quoted;

mod members;
mod reading;
mod server_options;

pub(super) use self::members::{CREDENTIALS, MEMBERS};
pub use self::server_options::{ServerOption, ServerOptionError, ServerTraits};

/// Its name in the member `type`.
pub(super) const NAME: &str = "s3";

/// A store with the S3 protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Spec {
    /// Where its spaces are.
    pub buckets: Buckets,
    /// The service's address; `None` for Amazon's own.
    pub endpoint: Option<String>,
    /// The region; `None` for that of the environment.
    pub region: Option<String>,
    /// Whether the bucket is in the path rather than in the host name.
    pub path_style: bool,
    /// Where the credentials are; `None` for those of the environment or the machine's role.
    pub credentials: Option<Credentials>,
    /// A profile of the user's AWS configuration; excludes `credentials`.
    pub profile: Option<String>,
    /// A role to assume with them.
    pub role: Option<RoleSpec>,
    /// How its server differs from Amazon's.
    pub dialect: Dialect,
}

impl S3Spec {
    /// The service's address, normalised; `None` for Amazon's own, or for that of the environment.
    fn service(&self) -> Option<ServiceAddress> {
        // An invalid address was rejected when the file was read.
        self.endpoint.as_deref().and_then(|endpoint| ServiceAddress::parse(endpoint).ok())
    }

    /// Whether the two share objects or could, by the text alone.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.service() == other.service() && self.buckets.overlaps(&other.buckets)
    }
}

impl TypedSpec for S3Spec {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn content_place(&self) -> String {
        let at = self.service().map_or_else(String::new, |service| format!(" at {service}"));
        match &self.buckets {
            Buckets::One(bucket) => format!("s3://{bucket}{at}"),
            Buckets::Prefix(prefix) => format!("s3://{prefix}…{at}"),
        }
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

/// How S3 servers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a server
pub struct Dialect {
    /// Whether the server itself decides `If-Match` and `If-None-Match` on writes. If not, Mill checks them before each
    /// write.
    pub conditional_writes: bool,
    /// Whether it computes the checksum of a whole item that is written in parts, not only those of the parts.
    pub whole_checksums: bool,
    /// Whether it stores the SHA-256 of written items rather than a CRC-64.
    pub sha256: bool,
    /// Whether an entity tag of 32 hexadecimal digits is the MD5 of the bytes.
    pub md5_tags: bool,
    /// Whether it copies large items between its buckets by itself, and verifies each copy by the checksum of the whole
    /// that it stores. If not, a workman reads every byte.
    pub server_side_copies: bool,
}

impl Dialect {
    /// The default for Amazon's own service, or for any other. Whether another server verifies its copies is unknown.
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

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleSpec {
    /// Its ARN.
    pub arn: String,
    /// The external id that its owner requires, if any.
    pub external_id: Option<String>,
}

/// How spaces become buckets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Buckets {
    /// One bucket holds all spaces.
    One(String),
    /// Each space is a bucket, named by this prefix and the space's id.
    Prefix(String),
}

impl Buckets {
    /// Whether a bucket is or could be among those of both.
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

/// Where the credentials of a store are. Never the credentials themselves.
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

/// Where one secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// In this environment variable.
    Env(String),
    /// In this file, as given; the caller resolves a relative path.
    File(PathBuf),
}

#[cfg(test)]
mod tests;
