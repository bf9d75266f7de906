//! How a service is reached, and as whom.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_config::default_provider::region::DefaultRegionChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::future::ProvideCredentials as ProvideFuture;
use mill_model::{AddressError, ServiceAddress};

use crate::request_stats::{RequestCounter, RequestStats};
use crate::service::{S3Service, endpoint};

/// How often a call is tried in all, with the library's own growing pauses and its budget for retries.
const ATTEMPTS_MAX: u32 = 4;

/// From sending a request to the first byte of its answer. Queues, and whatever bears many bytes, have limits of their own.
pub(crate) const ANSWER_MAX: Duration = Duration::from_mins(2);

/// To the end of the handshake.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long keys are used before they are read again.
const KEYS_READ_EVERY: Duration = Duration::from_mins(20);

/// Where a service is, and as whom it is asked. What is `None` comes from the environment, the profile or the machine.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSettings {
    /// The service's address, such as `http://127.0.0.1:4566`; `None` for that of the environment or the profile, else
    /// Amazon's own. The service that gives out roles is
    /// not there: it is Amazon's, or where `AWS_ENDPOINT_URL_STS` says.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A profile of the user's configuration.
    pub profile: Option<String>,
    /// Where its keys come from.
    pub keys: Option<KeySource>,
    /// A role to take on with them.
    pub role: Option<Role>,
}

/// Access keys.
#[derive(Clone)]
pub struct AccessKeys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The session token, of keys that expire.
    pub token: Option<String>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What gives the keys, asked again every few minutes: where they are kept, they may be renewed.
#[derive(Clone)]
pub struct KeySource {
    /// Where they are kept: sources of one name give the same keys.
    name: String,
    read: Arc<dyn Fn() -> Result<AccessKeys, String> + Send + Sync>,
}

impl KeySource {
    /// Keys that `read` gives, or the reason why not. Two sources of one `name` give the same keys; it is no secret.
    pub fn new(name: String, read: impl Fn() -> Result<AccessKeys, String> + Send + Sync + 'static) -> Self {
        Self { name, read: Arc::new(read) }
    }

    /// Keys that stay the same.
    pub fn fixed(keys: AccessKeys) -> Self {
        Self::new(keys.id.clone(), move || Ok(keys.clone()))
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySource").field("name", &self.name).finish_non_exhaustive()
    }
}

impl ProvideCredentials for KeySource {
    fn provide_credentials<'a>(&'a self) -> ProvideFuture<'a>
    where
        Self: 'a,
    {
        let read = (self.read)().map_err(CredentialsError::provider_error);
        ProvideFuture::ready(read.map(|AccessKeys { id, secret, token }| {
            Credentials::new(id, secret, token, Some(SystemTime::now() + KEYS_READ_EVERY), "mill")
        }))
    }
}

/// A role to take on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The id that its owner gave to Mill, if any.
    pub external_id: Option<String>,
}

/// A service, as one caller knows it: who is the same at both of two places may do at the one what it may at the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessIdentity {
    endpoint: Option<String>,
    region: Option<String>,
    profile: Option<String>,
    keys: Option<String>,
    role: Option<Role>,
}

impl AccessIdentity {
    pub(crate) fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }
}

/// A way to the services, shared by all that use it: its connections, its budget for retries, its count of requests.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) config: SdkConfig,
    pub(crate) service: AccessIdentity,
    /// The service in which the buckets of its stores are.
    pub(crate) s3: S3Service,
    /// The service that holds its tables, by a name that all hosts call it.
    tables: String,
    requests: Arc<RequestStats>,
}

/// An address that no connection is opened to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the address of the service {service} cannot be used: {why}{}", match why {
    AddressError::Credentials => "; give credentials by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by a profile, or by \
                               `credentials` of the store",
    AddressError::Form => "",
})]
pub struct EndpointError {
    /// The service.
    pub service: &'static str,
    /// Why.
    pub why: AddressError,
}

impl Connection {
    /// Prepares a connection. Nothing is asked of a service yet, except for what the environment's credentials need.
    ///
    /// # Errors
    /// The address of a service is none, or bears credentials: it is written to logs and to files of state.
    pub async fn open(access: ConnectionSettings) -> Result<Self, EndpointError> {
        // The library's futures are large.
        Box::pin(Self::prepare(access)).await
    }

    async fn prepare(access: ConnectionSettings) -> Result<Self, EndpointError> {
        // Before the library logs it.
        let usable = |service, endpoint: Option<&str>| match endpoint.map(ServiceAddress::parse) {
            Some(Err(why)) => Err(EndpointError { service, why }),
            _ => Ok(()),
        };
        usable("S3", access.endpoint.as_deref())?;
        let loader = base(&access).await;
        let config = match access.role {
            None => loader.load().await,
            Some(ref role) => {
                // Roles are given out by another service, at an address of its own.
                let asked = ConnectionSettings { endpoint: None, ..access.clone() };
                let asked = with_region(base(&asked).await.load().await, &access);
                let builder = AssumeRoleProvider::builder(role.arn.clone()).session_name("mill").configure(&asked);
                let builder = match &role.external_id {
                    Some(id) => builder.external_id(id),
                    None => builder,
                };
                loader.credentials_provider(builder.build().await).load().await
            }
        };
        let config = with_region(config, &access);
        usable("SQS", endpoint(&config, "SQS").as_deref())?;
        let region = config.region().map(AsRef::as_ref);
        let tables = match endpoint(&config, "DynamoDB").as_deref().map(ServiceAddress::parse) {
            Some(Err(why)) => return Err(EndpointError { service: "DynamoDB", why }),
            Some(Ok(address)) => address.to_string(),
            None => format!("dynamodb:{}", region.unwrap_or_default()),
        };
        let s3 = S3Service::at(endpoint(&config, "S3").as_deref(), region);
        let s3 = s3.map_err(|why| EndpointError { service: "S3", why })?;
        let ConnectionSettings { endpoint, profile, role, keys, .. } = access;
        let region = config.region().map(ToString::to_string);
        let service = AccessIdentity { endpoint, region, profile, keys: keys.map(|keys| keys.name), role };
        Ok(Self { config, service, s3, tables, requests: Arc::default() })
    }

    /// The same, trying each call once: for whoever would rather be told at once than wait.
    #[must_use]
    pub fn without_retries(self) -> Self {
        let config = self.config.into_builder().retry_config(RetryConfig::disabled()).build();
        Self { config, ..self }
    }

    /// The service in which the buckets of its stores are.
    pub fn s3(&self) -> &S3Service {
        &self.s3
    }

    /// The address at which its stores are asked; `None` for Amazon's own.
    pub(crate) fn s3_endpoint(&self) -> Option<String> {
        endpoint(&self.config, "S3")
    }

    /// What was asked over it so far.
    pub fn requests(&self) -> &Arc<RequestStats> {
        &self.requests
    }

    /// The region that was found, if any.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(AsRef::as_ref)
    }

    /// The library's own form of it, for what Mill itself does not do. What is asked so is not counted.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The service that holds its tables, by a name that all hosts call it.
    pub(crate) fn tables(&self) -> &str {
        &self.tables
    }

    pub(crate) fn counting(&self) -> RequestCounter {
        RequestCounter(self.requests.clone())
    }
}

/// A service at an address of its own has a region by name only.
fn with_region(config: SdkConfig, access: &ConnectionSettings) -> SdkConfig {
    match (config.region(), &access.endpoint) {
        (None, Some(_)) => config.into_builder().region(Region::from_static("us-east-1")).build(),
        _ => config,
    }
}

async fn base(access: &ConnectionSettings) -> aws_config::ConfigLoader {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).read_timeout(ANSWER_MAX).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts);
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &access.profile {
        // Left to itself, the library takes keys of the environment before those of a profile, even of one named to it.
        let region = match &access.region {
            Some(region) => Some(Region::new(region.clone())),
            None => DefaultRegionChain::builder().profile_name(profile).build().region().await,
        };
        let reached = ProviderConfig::without_region().with_region(region);
        let its_keys = ProfileFileCredentialsProvider::builder().configure(&reached).profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(its_keys);
    }
    if let Some(keys) = &access.keys {
        loader = loader.credentials_provider(keys.clone());
    }
    loader
}
