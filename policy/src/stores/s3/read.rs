//! Reads a store in S3 from a stores file.

use super::{Buckets, CREDENTIALS, Credentials, Dialect, RoleSpec, S3Spec, SecretReference};
use crate::diagnostic::MemberPath;
use crate::json::JsonNode;
use crate::json_schema::Members;
use crate::members::names;
use crate::stores::StoreKind;
use crate::stores_file::{NO_SECRETS, StoresFileReader};

impl StoresFileReader<'_, '_> {
    pub(super) fn s3(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> Option<StoreKind> {
        let bucket = self.optional_text(members, path, "bucket", "the name of a bucket");
        let prefix = self.optional_text(members, path, "bucketPrefix", "what the names of the buckets begin with");
        let endpoint =
            self.optional_text(members, path, "endpoint", "the address of the service, such as \"https://…\"");
        let region = self.optional_text(members, path, "region", "the name of a region");
        let path_style = self.optional_boolean(members, path, "pathStyle", false);
        let dialect = self.dialect(members, path, members.get("endpoint").is_none());
        let credentials = match members.get("credentials") {
            Some(node) => self.credentials(node, &path.member("credentials")).map(Some),
            None => Some(None),
        };
        let profile = self.optional_text(members, path, "profile", "the name of a profile of the AWS configuration");
        if let (Some(Some(_)), Some(node)) = (&profile, members.get("credentials")) {
            let message = "`profile` and `credentials` exclude each other; remove one";
            self.faults.error(node.at, &path.member("credentials"), message);
        }
        let role = self.role(members, path);
        let endpoint = endpoint.and_then(|given| self.endpoint(members, path, given));
        let buckets = match (bucket?, prefix?) {
            (Some(bucket), None) => Some(Buckets::One(bucket)),
            (None, Some(prefix)) => Some(Buckets::Prefix(prefix)),
            (Some(_), Some(_)) => {
                self.faults.error(members.at, path, "`bucket` and `bucketPrefix` exclude each other; remove one");
                None
            }
            (None, None) => {
                if self.whole {
                    let message =
                        "add `bucket` (one bucket for all spaces) or `bucketPrefix` (a bucket for each space)";
                    self.faults.error(members.at, path, message);
                }
                None
            }
        };
        let (buckets, endpoint, region) = (buckets?, endpoint?, region?);
        let (path_style, credentials, profile, role) = (path_style?, credentials?, profile?, role?);
        let dialect = dialect?;
        let spec = S3Spec { buckets, endpoint, region, path_style, credentials, profile, role, dialect };
        Some(StoreKind::S3(Box::new(spec)))
    }

    fn dialect(&mut self, members: Members<'_>, path: &MemberPath<'_>, of_amazon: bool) -> Option<Dialect> {
        let usual = Dialect::usual(of_amazon);
        let conditional_writes = self.optional_boolean(members, path, "conditionalWrites", usual.conditional_writes);
        let whole_checksums = self.optional_boolean(members, path, "wholeChecksums", usual.whole_checksums);
        let sha256 = self.optional_boolean(members, path, "sha256", usual.sha256);
        let md5_tags = self.optional_boolean(members, path, "md5Tags", usual.md5_tags);
        let server_side_copies = self.optional_boolean(members, path, "serverSideCopies", usual.server_side_copies);
        Some(Dialect {
            conditional_writes: conditional_writes?,
            whole_checksums: whole_checksums?,
            sha256: sha256?,
            md5_tags: md5_tags?,
            server_side_copies: server_side_copies?,
        })
    }

    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    fn role(&mut self, members: Members<'_>, path: &MemberPath<'_>) -> Option<Option<RoleSpec>> {
        let arn = self.optional_text(members, path, "roleArn", "the ARN of a role to take on")?;
        let external_id = self.optional_text(members, path, "externalId", "the id that the role's owner gave")?;
        if let (None, Some(_), Some(node)) = (&arn, &external_id, members.get("externalId")) {
            self.faults.error(node.at, &path.member("externalId"), "it belongs to a `roleArn`, which is missing");
            return None;
        }
        Some(arn.map(|arn| RoleSpec { arn, external_id }))
    }

    /// An address names a service, and nobody who may use it.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    fn endpoint(
        &mut self,
        members: Members<'_>,
        path: &MemberPath<'_>,
        given: Option<String>,
    ) -> Option<Option<String>> {
        let (Some(given), Some(node)) = (given, members.get("endpoint")) else { return Some(None) };
        let path = path.member("endpoint");
        let rest = given.strip_prefix("https://").or(given.strip_prefix("http://"));
        match rest {
            Some(rest) if rest.contains(['@', '?', '#']) => self.faults.error(node.at, &path, NO_SECRETS),
            Some(rest) if !rest.is_empty() && !rest.starts_with('/') => return Some(Some(given)),
            _ => self.faults.error(node.at, &path, "this must be an address that begins with https:// or http://"),
        }
        None
    }

    fn credentials(&mut self, node: &JsonNode, path: &MemberPath<'_>) -> Option<Credentials> {
        let wanted = "an object that names where the credentials are, such as `secretAccessKeyEnv`";
        let members = self.faults.object(node, path, wanted)?;
        self.only_known_members(members, path, &names(&[CREDENTIALS]));
        let id = self.reference(members, path, ["accessKeyIdEnv", "accessKeyIdFile"]);
        let secret = self.reference(members, path, ["secretAccessKeyEnv", "secretAccessKeyFile"]);
        let token = self.reference(members, path, ["sessionTokenEnv", "sessionTokenFile"]);
        for (found, name) in [(&id, "accessKeyId"), (&secret, "secretAccessKey")] {
            if self.whole && matches!(found, Some(None)) {
                self.faults.error(members.at, path, format!("`{name}Env` or `{name}File` is missing; add one of them"));
            }
        }
        Some(Credentials { access_key_id: id??, secret_access_key: secret??, session_token: token? })
    }

    /// One of two members that say where a secret is. What they hold is never repeated: it might be the secret itself.
    #[allow(clippy::option_option)] // Outside: whether it could be read; inside: whether it is given.
    fn reference(
        &mut self,
        members: Members<'_>,
        path: &MemberPath<'_>,
        [env, file]: [&str; 2],
    ) -> Option<Option<SecretReference>> {
        match (members.get(env), members.get(file)) {
            (None, None) => Some(None),
            (Some(node), None) => {
                let path = path.member(env);
                let name = self.faults.text(node, &path, "the name of an environment variable")?;
                let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !plain || name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
                    let message = "this is no name of an environment variable (letters, digits and `_`); if it is the \
                        secret itself, remove it, and name here what holds it";
                    self.faults.error(node.at, &path, message);
                    return None;
                }
                Some(Some(SecretReference::Env(name.to_owned())))
            }
            (None, Some(node)) => self
                .file_path(node, &path.member(file), "the path of a file")
                .map(|path| Some(SecretReference::File(path))),
            (Some(_), Some(node)) => {
                let message = format!("`{env}` and `{file}` exclude each other; remove one");
                self.faults.error(node.at, &path.member(file), message);
                None
            }
        }
    }
}
