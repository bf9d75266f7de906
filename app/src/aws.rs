//! The fleet engine and stores in S3, wired from the configuration and the policy files.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use mill_aws::deployment::{self, DeploymentSpec, ResourceNames};
use mill_aws::{
    AccessKeys, Connection, ConnectionSettings, FleetEngine, FleetSettings, KeySource, MissingAccess, Role, S3Extent,
    S3Service, S3Settings, S3Store, SpaceLayout,
};
use mill_local::{OsClock, OsRng};
use mill_model::{QueueName, SpaceId, StoreAddress};
use mill_policy::{Buckets, Dialect, S3Spec, ServerTraits};
use mill_ports::{Clock, DeletableStore};
use mill_records::tables::{TABLES, table_names};

use crate::UsageError;
use crate::config::{Config, EngineConfig};
use crate::redact::without_password;
use crate::s3_location::{S3Location, bucket_and_prefix};
use crate::secrets::read_secret;
use crate::table_recognition::recognise_tables;

/// Opens the engine of a configuration.
///
/// A process that `works` also writes the installation's id into new tables; others only read, and have no permission
/// for more.
pub(crate) async fn open_engine(config: &Config, works: bool) -> Result<FleetEngine> {
    let settings =
        FleetSettings { access: access(config), names: names(config), clock: Arc::new(OsClock), rng: Arc::new(OsRng) };
    let engine = FleetEngine::open(settings).await.map_err(|why| UsageError(why.to_string()))?;
    let given = |setting: &Option<String>| setting.as_deref().map(|text| format!(" {}", without_password(text)));
    let (region, endpoint) = (given(&config.engine.region), given(&config.engine.endpoint));
    let (region, endpoint) = (region.unwrap_or_default(), endpoint.unwrap_or_default());
    let at = format!("tables {}-…{region}{endpoint}", config.engine.prefix);
    recognise_tables(&engine, &at, config, works).await?;
    Ok(engine)
}

fn names(config: &Config) -> ResourceNames {
    ResourceNames::new(config.engine.prefix.clone(), table_names())
}

/// Opens a connection. An address with credentials is a wrong argument, wherever it comes from.
async fn connect(access: ConnectionSettings) -> Result<Connection> {
    Connection::open(access).await.map_err(|why| UsageError(why.to_string()).into())
}

fn access(config: &Config) -> ConnectionSettings {
    let EngineConfig { endpoint, region, profile, role, .. } = config.engine.clone();
    let role = role.map(|arn| Role { arn, external_id: None });
    ConnectionSettings { endpoint, region, profile, keys: None, role }
}

/// Opens the store of policy files in a bucket: `BUCKET` or `BUCKET/PREFIX`.
pub(crate) async fn policy_store(
    (config, bucket): (&Config, &str),
    address: StoreAddress,
    space: &SpaceId,
) -> Result<Arc<dyn DeletableStore>> {
    let (bucket, prefix) = bucket_and_prefix(bucket);
    let spaces = SpaceLayout::Single { space: space.clone(), bucket, prefix };
    let connection = connect(access(config)).await?;
    let path_style = config.engine.endpoint.is_some() || !is_amazons(&connection);
    let settings = S3Settings { path_style, ..S3Settings::new(address, spaces, Arc::new(OsClock)) };
    Ok(Arc::new(S3Store::new(&connection, settings)))
}

/// Whether the buckets are in Amazon's own service, by the address that is in use.
fn is_amazons(connection: &Connection) -> bool {
    matches!(connection.s3(), S3Service::Amazon { .. })
}

/// Opens a store of the policy files. Relative paths of secret files are relative to `base`.
pub(crate) async fn open_store(
    address: StoreAddress,
    spec: &S3Spec,
    base: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Arc<S3Store>> {
    let connection = connect(access_of(spec, base)).await?;
    let settings = S3Settings::new(address, spaces_of(spec), clock);
    let settings = with_dialect(S3Settings { path_style: spec.path_style, ..settings }, spec.dialect);
    Ok(Arc::new(S3Store::new(&connection, settings)))
}

fn with_dialect(settings: S3Settings, dialect: Dialect) -> S3Settings {
    S3Settings {
        native_conditions: dialect.conditional_writes,
        whole_checksum: dialect.whole_checksums,
        sha256: dialect.sha256,
        md5_tags: dialect.md5_tags,
        server_side_copies: dialect.server_side_copies,
        ..settings
    }
}

/// The pairs of stores that share objects: their indexes in the list, and a message for each.
pub(crate) async fn overlaps(specs: &[&S3Spec]) -> Result<Vec<(usize, usize, String)>> {
    let mut extents = Vec::new();
    for spec in specs {
        // Credentials are not read: no request is sent.
        let connection = connect(access_of(spec, Path::new(""))).await?;
        extents.push(S3Extent::new(connection.s3().clone(), &spaces_of(spec)));
    }
    let mut found = Vec::new();
    for (at, one) in extents.iter().enumerate() {
        let others = extents.iter().enumerate().skip(at + 1);
        found.extend(others.filter_map(|(other, extent)| Some((at, other, one.overlap(extent)?.to_string()))));
    }
    Ok(found)
}

fn spaces_of(spec: &S3Spec) -> SpaceLayout {
    match &spec.buckets {
        Buckets::One(bucket) => SpaceLayout::InBucket(bucket.clone()),
        Buckets::Prefix(prefix) => SpaceLayout::Buckets { prefix: prefix.clone() },
    }
}

fn access_of(spec: &S3Spec, base: &Path) -> ConnectionSettings {
    let keys = spec.credentials.clone().map(|credentials| {
        let base = base.to_owned();
        KeySource::new(format!("{credentials:?}"), move || {
            Ok(AccessKeys {
                id: read_secret(&credentials.access_key_id, &base)?,
                secret: read_secret(&credentials.secret_access_key, &base)?,
                token: credentials.session_token.as_ref().map(|token| read_secret(token, &base)).transpose()?,
            })
        })
    });
    let role = spec.role.as_ref().map(|role| Role { arn: role.arn.clone(), external_id: role.external_id.clone() });
    ConnectionSettings {
        endpoint: spec.endpoint.clone(),
        region: spec.region.clone(),
        profile: spec.profile.clone(),
        keys,
        role,
    }
}

/// Opens one end of a mirror as a store with one space.
pub(crate) async fn open_location(
    location: &S3Location,
    address: StoreAddress,
    space: &SpaceId,
    clock: Arc<dyn Clock>,
) -> Result<Arc<S3Store>> {
    let connection = connect_to(location).await?;
    if let Some(missing) = connection.missing_access().await {
        return Err(UsageError(how_to_give(missing, location)).into());
    }
    // The address may come from the environment or the profile. Whether a server other than Amazon's verifies its copies is
    // unknown, and so is whether its buckets have host names.
    let is_amazons = is_amazons(&connection);
    let path_style = location.endpoint.is_some() || !is_amazons;
    let mut server = ServerTraits { path_style, dialect: Dialect::usual(is_amazons) };
    location.options.iter().for_each(|option| option.apply(&mut server));
    let settings = S3Settings::new(address, spaces_of_location(location, space), clock);
    let settings = with_dialect(S3Settings { path_style: server.path_style, ..settings }, server.dialect);
    Ok(Arc::new(S3Store::new(&connection, settings)))
}

/// What a person does about a missing region or key of one end.
fn how_to_give(missing: MissingAccess, location: &S3Location) -> String {
    let S3Location { end, profile, .. } = location;
    match (missing, profile) {
        (MissingAccess::Region, Some(profile)) => format!(
            "`{location}` needs a region, and the profile `{profile}` is not there or names none: give it by `--{end}-region` \
             or by AWS_REGION, and see `~/.aws/config`"
        ),
        (MissingAccess::Region, None) => {
            format!("`{location}` needs a region: give it by `--{end}-region`, by AWS_REGION or by a profile")
        }
        (MissingAccess::Key, Some(profile)) => format!(
            "`{location}` needs an access key, and the profile `{profile}` is not there or has none: see `~/.aws/config` and \
             `~/.aws/credentials`"
        ),
        (MissingAccess::Key, None) => format!(
            "`{location}` needs an access key: give it by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or by a profile \
             (`--{end}-profile`)"
        ),
    }
}

async fn connect_to(location: &S3Location) -> Result<Connection> {
    if location.bucket.is_empty() {
        bail!("`{location}` names no bucket");
    }
    let S3Location { endpoint, region, profile, .. } = location.clone();
    connect(ConnectionSettings { endpoint, region, profile, keys: None, role: None }).await
}

/// The service of one end of a mirror, in one spelling: an address by an option, by the environment or by a profile is the same
/// address. `None` for Amazon's own.
pub(crate) async fn service_of(location: &S3Location) -> Result<Option<String>> {
    let connection = connect_to(location).await?;
    Ok(match connection.s3() {
        S3Service::Amazon { partition: "aws" } => None,
        service => Some(service.to_string()),
    })
}

fn spaces_of_location(location: &S3Location, space: &SpaceId) -> SpaceLayout {
    SpaceLayout::Single { space: space.clone(), bucket: location.bucket.clone(), prefix: location.prefix.clone() }
}

/// The message if both ends of a mirror share objects, as far as their names show, including the settings of the
/// environment.
pub(crate) async fn overlap_of_locations(one: &S3Location, other: &S3Location) -> Result<Option<String>> {
    let space = SpaceId::new("content")?;
    let extent = async |end: &S3Location| {
        let connection = connect_to(end).await?;
        anyhow::Ok(S3Extent::new(connection.s3().clone(), &spaces_of_location(end, &space)))
    };
    Ok(extent(one).await?.overlap(&extent(other).await?).map(|overlap| overlap.to_string()))
}

/// Creates what the engine needs and does not exist.
pub(crate) async fn create(config: &Config) -> Result<String> {
    let names = names(config);
    let connection = connect(access(config)).await?;
    deployment::provision(&connection, &names, &OsClock)
        .await
        .context("the fleet's queues and tables cannot be made")?;
    Ok(format!("{} queues and {} tables named {}-… are there", QueueName::ALL.len(), TABLES.len(), names.prefix()))
}

/// How the deployment differs from the code's assumptions: the resource, the aspect, the assumed value, the actual
/// value.
pub(crate) async fn check(config: &Config) -> Result<Vec<[String; 4]>> {
    let names = names(config);
    let policy_bucket = config.policies.bucket.as_deref().map(|text| bucket_and_prefix(text).0);
    let connection = connect(access(config)).await?;
    let found = deployment::check(&connection, &DeploymentSpec { names, policy_bucket }).await?;
    Ok(found.into_iter().map(|one| [one.about, one.aspect.to_owned(), one.expected, one.found]).collect())
}
