//! Reads a store of type `s3`.

use super::{Buckets, CREDENTIALS, Credentials, Dialect, RoleSpec, S3Spec, SecretReference};
use crate::members::names;
use crate::object_reader::ObjectReader;

impl S3Spec {
    pub(crate) fn read(entry: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let bucket = entry.optional_text("bucket", "the name of a bucket");
        let prefix = entry.optional_text("bucketPrefix", "what the names of the buckets begin with");
        let endpoint = entry.optional_address("endpoint", "the address of the service, such as \"https://…\"");
        let region = entry.optional_text("region", "the name of a region");
        let path_style = entry.optional_boolean("pathStyle", false);
        let dialect = Dialect::read(entry);
        let wanted = "an object that names where the credentials are, such as `secretAccessKeyEnv`";
        let credentials = entry.optional_object(("credentials", wanted), Credentials::read);
        let profile = entry.optional_text("profile", "the name of a profile of the AWS configuration");
        if matches!(profile, Some(Some(_))) && entry.has("credentials") {
            entry.error("credentials", "`profile` and `credentials` exclude each other; remove one");
        }
        let role = RoleSpec::read(entry);
        let buckets = match (bucket?, prefix?) {
            (Some(bucket), None) => Buckets::One(bucket),
            (None, Some(prefix)) => Buckets::Prefix(prefix),
            (Some(_), Some(_)) => {
                entry.error_of_object("`bucket` and `bucketPrefix` exclude each other; remove one");
                return None;
            }
            (None, None) => {
                let message = "add `bucket` (one bucket for all spaces) or `bucketPrefix` (a bucket for each space)";
                entry.error_of_missing(message);
                return None;
            }
        };
        Some(Self {
            buckets,
            endpoint: endpoint?,
            region: region?,
            path_style: path_style?,
            credentials: credentials?,
            profile: profile?,
            role: role?,
            dialect: dialect?,
        })
    }
}

impl Dialect {
    fn read(entry: &mut ObjectReader<'_, '_>) -> Option<Self> {
        let usual = Self::usual(!entry.has("endpoint"));
        let conditional_writes = entry.optional_boolean("conditionalWrites", usual.conditional_writes);
        let whole_checksums = entry.optional_boolean("wholeChecksums", usual.whole_checksums);
        let sha256 = entry.optional_boolean("sha256", usual.sha256);
        let md5_tags = entry.optional_boolean("md5Tags", usual.md5_tags);
        let server_side_copies = entry.optional_boolean("serverSideCopies", usual.server_side_copies);
        Some(Self {
            conditional_writes: conditional_writes?,
            whole_checksums: whole_checksums?,
            sha256: sha256?,
            md5_tags: md5_tags?,
            server_side_copies: server_side_copies?,
        })
    }
}

impl RoleSpec {
    #[allow(clippy::option_option)] // The outer option: whether it could be read; the inner: whether it is given.
    fn read(entry: &mut ObjectReader<'_, '_>) -> Option<Option<Self>> {
        let arn = entry.optional_text("roleArn", "the ARN of a role to take on")?;
        let external_id = entry.optional_text("externalId", "the id that the role's owner gave")?;
        if arn.is_none() && external_id.is_some() {
            entry.error("externalId", "it belongs to a `roleArn`, which is missing");
            return None;
        }
        Some(arn.map(|arn| Self { arn, external_id }))
    }
}

impl Credentials {
    fn read(object: &mut ObjectReader<'_, '_>) -> Option<Self> {
        object.only_known_members(&names(&[CREDENTIALS]));
        let id = SecretReference::read(object, ["accessKeyIdEnv", "accessKeyIdFile"]);
        let secret = SecretReference::read(object, ["secretAccessKeyEnv", "secretAccessKeyFile"]);
        let token = SecretReference::read(object, ["sessionTokenEnv", "sessionTokenFile"]);
        for (found, name) in [(&id, "accessKeyId"), (&secret, "secretAccessKey")] {
            if matches!(found, Some(None)) {
                object.error_of_missing(format!("`{name}Env` or `{name}File` is missing; add one of them"));
            }
        }
        Some(Self { access_key_id: id??, secret_access_key: secret??, session_token: token? })
    }
}

impl SecretReference {
    /// One of two members that say where a secret is. No message repeats their values: a value might be the secret
    /// itself.
    #[allow(clippy::option_option)] // The outer option: whether it could be read; the inner: whether it is given.
    pub(crate) fn read(object: &mut ObjectReader<'_, '_>, [env, file]: [&'static str; 2]) -> Option<Option<Self>> {
        match (object.has(env), object.has(file)) {
            (true, false) => Some(object.optional_variable(env)?.map(Self::Env)),
            (true, true) => {
                object.error(file, format!("`{env}` and `{file}` exclude each other; remove one"));
                None
            }
            (false, _) => Some(object.optional_path(file, "the path of a file")?.map(Self::File)),
        }
    }
}
