//! The members of a store of type `s3`.

use crate::members::PolicyMember;

/// The members of the store.
pub(crate) const MEMBERS: &[PolicyMember] = &[
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

/// The members of `credentials`.
pub(crate) const CREDENTIALS: &[PolicyMember] = &[
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
