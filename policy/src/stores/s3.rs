//! Stores in S3: what a stores file says of one, how that is read and printed.

mod read;

use std::collections::BTreeMap;
use std::path::PathBuf;

use mill_model::{ServiceAddress, SpaceId};
use serde::Serialize;

use super::StoreType;
use crate::members::PolicyMember;

/// How such a store is written and read.
pub(super) const TYPE: StoreType =
    StoreType { name: "s3", members: S3, read: |reader, members, path| reader.s3(members, path) };

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

/// Where one secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretReference {
    /// In this environment variable.
    Env(String),
    /// In this file, as given: a relative one is the caller's to resolve.
    File(PathBuf),
}

/// Of a store in S3.
const S3: &[PolicyMember] = &[
    PolicyMember {
        name: "bucket",
        default: "this or `bucketPrefix` must be given",
        about: "one bucket for all spaces, each beneath its id and a slash",
        example: "\"archive\"",
        cost: "Mill never makes or removes this bucket",
    },
    PolicyMember {
        name: "bucketPrefix",
        default: "this or `bucket` must be given",
        about: "a bucket for each space, named by this prefix and the space's id",
        example: "\"archive-\"",
        cost: "accounts of a service may hold few buckets",
    },
    PolicyMember {
        name: "endpoint",
        default: "Amazon's own, or that of the environment",
        about: "the service's address; it may hold no credentials",
        example: "\"https://s3.example.org\"",
        cost: "whether two addresses lead to one service is found out by an object that is put to the destination",
    },
    PolicyMember {
        name: "region",
        default: "that of the environment",
        about: "the region",
        example: "\"eu-central-1\"",
        cost: "-",
    },
    PolicyMember {
        name: "pathStyle",
        default: "`false`",
        about: "whether the bucket stands in the path of the URL rather than in the host name",
        example: "true",
        cost: "-",
    },
    PolicyMember {
        name: "credentials",
        default: "those of the environment, or of the machine's role",
        about: "where the access keys are: never the keys themselves",
        example: "{ \"accessKeyIdEnv\": \"ARCHIVE_KEY_ID\", \"secretAccessKeyFile\": \"/run/secrets/archive\" }",
        cost: "they are read again every twenty minutes",
    },
    PolicyMember {
        name: "profile",
        default: "none; excludes `credentials`",
        about: "a profile of the AWS configuration",
        example: "\"archive\"",
        cost: "each host must have it",
    },
    PolicyMember {
        name: "roleArn",
        default: "none",
        about: "a role to take on with these credentials",
        example: "\"arn:aws:iam::111122223333:role/archive\"",
        cost: "a request to STS from time to time",
    },
    PolicyMember {
        name: "externalId",
        default: "none; belongs to a `roleArn`",
        about: "the id that the role's owner gave",
        example: "\"mill-7\"",
        cost: "-",
    },
    PolicyMember {
        name: "conditionalWrites",
        default: "`true`",
        about: "whether the server decides `If-Match` and `If-None-Match` on writes itself",
        example: "false",
        cost: "`false`: a look before each write, and a moment in which another's write may be overwritten",
    },
    PolicyMember {
        name: "wholeChecksums",
        default: "`true`",
        about: "whether the server knows the checksum of the whole of an item that is written in parts",
        example: "false",
        cost: "`false`: only the parts are proven by the server",
    },
    PolicyMember {
        name: "sha256",
        default: "`false`",
        about: "whether the server is to keep the SHA-256 of what is written, rather than a CRC-64",
        example: "true",
        cost: "`true`: more work for the processor",
    },
    PolicyMember {
        name: "md5Tags",
        default: "`true`",
        about: "whether an entity tag of 32 hexadecimal digits is the MD5 of the bytes",
        example: "false",
        cost: "`false`: tags prove nothing, so more items are read to be compared",
    },
    PolicyMember {
        name: "serverSideCopies",
        default: "`true` for Amazon's own, else `false`",
        about: "whether the server is to bring large items from another of its buckets by itself",
        example: "true",
        cost: "`false`: a workman reads and writes every byte; `true`: the server must judge what it brought",
    },
];

/// Of `credentials`.
pub const CREDENTIALS: &[PolicyMember] = &[
    PolicyMember {
        name: "accessKeyIdEnv",
        default: "this or `accessKeyIdFile` must be given",
        about: "the environment variable that holds the access key's id",
        example: "\"ARCHIVE_KEY_ID\"",
        cost: "-",
    },
    PolicyMember {
        name: "accessKeyIdFile",
        default: "this or `accessKeyIdEnv` must be given",
        about: "the file that holds it",
        example: "\"/run/secrets/archive-id\"",
        cost: "-",
    },
    PolicyMember {
        name: "secretAccessKeyEnv",
        default: "this or `secretAccessKeyFile` must be given",
        about: "the environment variable that holds the secret key",
        example: "\"ARCHIVE_KEY\"",
        cost: "-",
    },
    PolicyMember {
        name: "secretAccessKeyFile",
        default: "this or `secretAccessKeyEnv` must be given",
        about: "the file that holds it",
        example: "\"/run/secrets/archive\"",
        cost: "-",
    },
    PolicyMember {
        name: "sessionTokenEnv",
        default: "none",
        about: "the environment variable that holds the session token of keys that expire",
        example: "\"ARCHIVE_TOKEN\"",
        cost: "-",
    },
    PolicyMember {
        name: "sessionTokenFile",
        default: "none",
        about: "the file that holds it",
        example: "\"/run/secrets/archive-token\"",
        cost: "-",
    },
];

/// Such a store, as it is written.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct S3Out<'p> {
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bucket_prefix: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<&'p str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    path_style: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    credentials: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    role_arn: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_id: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conditional_writes: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_checksums: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_tags: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_side_copies: Option<bool>,
}

impl S3Spec {
    /// What it says, as it is written.
    pub(super) fn written(&self) -> S3Out<'_> {
        let mut out = S3Out::default();
        match &self.buckets {
            Buckets::One(bucket) => out.bucket = Some(bucket),
            Buckets::Prefix(prefix) => out.bucket_prefix = Some(prefix),
        }
        out.endpoint = self.endpoint.as_deref();
        out.region = self.region.as_deref();
        out.path_style = self.path_style;
        let usual = Dialect::usual(self.endpoint.is_none());
        let unusual = |is: bool, usual: bool| (is != usual).then_some(is);
        out.conditional_writes = unusual(self.dialect.conditional_writes, usual.conditional_writes);
        out.whole_checksums = unusual(self.dialect.whole_checksums, usual.whole_checksums);
        out.sha256 = unusual(self.dialect.sha256, usual.sha256);
        out.md5_tags = unusual(self.dialect.md5_tags, usual.md5_tags);
        out.server_side_copies = unusual(self.dialect.server_side_copies, usual.server_side_copies);
        out.profile = self.profile.as_deref();
        out.role_arn = self.role.as_ref().map(|role| role.arn.as_str());
        out.external_id = self.role.as_ref().and_then(|role| role.external_id.as_deref());
        out.credentials = self.credentials.as_ref().map(|credentials| {
            let all = [
                ("accessKeyId", Some(&credentials.access_key_id)),
                ("secretAccessKey", Some(&credentials.secret_access_key)),
                ("sessionToken", credentials.session_token.as_ref()),
            ];
            let named = |(name, reference): (&str, Option<&SecretReference>)| match reference? {
                SecretReference::Env(variable) => Some((format!("{name}Env"), variable.clone())),
                SecretReference::File(path) => Some((format!("{name}File"), path.to_string_lossy().into_owned())),
            };
            all.into_iter().filter_map(named).collect()
        });
        out
    }
}
