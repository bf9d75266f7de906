//! How Mill reaches a service, and as whom.

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

use crate::ca_bundle::{CaBundle, CaBundleError};
use crate::request_stats::{RequestCounter, RequestStats};
use crate::service::{S3Service, endpoint};

/// Attempts of a call in all, with the SDK's own backoff and retry budget.
const ATTEMPTS_MAX: u32 = 4;

/// Most time from sending a request to the first byte of its response. Queues and large bodies have limits of their own.
pub(crate) const ANSWER_MAX: Duration = Duration::from_mins(2);

/// Most time until the end of the handshake.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long access keys are used before they are read again.
const KEYS_READ_EVERY: Duration = Duration::from_mins(20);

/// The address of a service, and the credentials for it. A `None` is taken from the environment, the profile or the machine.
#[derive(Debug, Clone, Default)]
pub struct ConnectionSettings {
    /// The service's address, such as `http://127.0.0.1:4566`; `None` for that of the environment or the profile, else
    /// Amazon's own. It does not count for STS, which gives out roles: that is Amazon's, or at `AWS_ENDPOINT_URL_STS`.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// A profile of the user's configuration.
    pub profile: Option<String>,
    /// The source of its access keys.
    pub keys: Option<KeySource>,
    /// A role to assume with them.
    pub role: Option<Role>,
}

/// Access keys.
#[derive(Clone)]
pub struct AccessKeys {
    /// The access key's id.
    pub id: String,
    /// The secret key.
    pub secret: String,
    /// The session token, for keys that expire.
    pub token: Option<String>,
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A source of access keys. It is read again every few minutes, since the keys may have been renewed.
#[derive(Clone)]
pub struct KeySource {
    /// The place of the keys: two sources of one name return the same keys.
    name: String,
    read: Arc<dyn Fn() -> Result<AccessKeys, String> + Send + Sync>,
}

impl KeySource {
    /// A source that `read` implements: it returns the keys, or why there are none. Two sources of one `name` must return
    /// the same keys. The name is not secret.
    pub fn new(name: String, read: impl Fn() -> Result<AccessKeys, String> + Send + Sync + 'static) -> Self {
        Self { name, read: Arc::new(read) }
    }

    /// A source of fixed keys.
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

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// The external id that its owner gave to Mill, if any.
    pub external_id: Option<String>,
}

/// A service together with the caller's identity. Where it is equal for two stores, the caller can copy from one to the
/// other within the service.
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

/// What is missing to sign a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingAccess {
    /// No region is set.
    Region,
    /// There is no access key where one is looked for.
    Key,
}

/// A connection to the services. Its users share its sockets, its retry budget and its request counts.
#[derive(Debug, Clone)]
pub struct Connection {
    pub(crate) config: SdkConfig,
    pub(crate) service: AccessIdentity,
    /// The service that holds the buckets.
    pub(crate) s3: S3Service,
    /// The service that holds the tables, by a name that is the same on all hosts.
    table_service: String,
    /// The certificates that it trusts, if not those of the host.
    pub(crate) ca_bundle: Option<CaBundle>,
    requests: Arc<RequestStats>,
}

/// An address that cannot be used.
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

/// Why no connection can be prepared: a person must change something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    /// The address of a service is invalid, or contains credentials, which would end up in logs and state files.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The certificates that the environment names cannot be used.
    #[error(transparent)]
    CaBundle(#[from] CaBundleError),
}

impl Connection {
    /// Prepares a connection. It sends no request yet, except for those that the environment's credentials need.
    ///
    /// # Errors
    /// [`ConnectionError`].
    pub async fn open(access: ConnectionSettings) -> Result<Self, ConnectionError> {
        // The library's futures are large.
        Box::pin(Self::prepare(access)).await
    }

    async fn prepare(access: ConnectionSettings) -> Result<Self, ConnectionError> {
        // Checked before the SDK logs it.
        let check_address = |service, endpoint: Option<&str>| match endpoint.map(ServiceAddress::parse) {
            Some(Err(why)) => Err(EndpointError { service, why }),
            _ => Ok(()),
        };
        check_address("S3", access.endpoint.as_deref())?;
        let ca_bundle = CaBundle::of_environment()?;
        let loader = config_loader(&access, ca_bundle.as_ref()).await;
        let config = match access.role {
            None => loader.load().await,
            Some(ref role) => {
                // STS gives out roles, at an address of its own.
                let role_settings = ConnectionSettings { endpoint: None, ..access.clone() };
                let role_settings =
                    with_region(config_loader(&role_settings, ca_bundle.as_ref()).await.load().await, &access);
                let builder =
                    AssumeRoleProvider::builder(role.arn.clone()).session_name("mill").configure(&role_settings);
                let builder = match &role.external_id {
                    Some(id) => builder.external_id(id),
                    None => builder,
                };
                loader.credentials_provider(builder.build().await).load().await
            }
        };
        let config = with_region(config, &access);
        check_address("SQS", endpoint(&config, "SQS").as_deref())?;
        let region = config.region().map(AsRef::as_ref);
        let table_service = match endpoint(&config, "DynamoDB").as_deref().map(ServiceAddress::parse) {
            Some(Err(why)) => return Err(EndpointError { service: "DynamoDB", why }.into()),
            Some(Ok(address)) => address.to_string(),
            None => format!("dynamodb:{}", region.unwrap_or_default()),
        };
        let s3 = S3Service::at(endpoint(&config, "S3").as_deref(), region);
        let s3 = s3.map_err(|why| EndpointError { service: "S3", why })?;
        let ConnectionSettings { endpoint, profile, role, keys, .. } = access;
        let region = config.region().map(ToString::to_string);
        let service = AccessIdentity { endpoint, region, profile, keys: keys.map(|keys| keys.name), role };
        Ok(Self { config, service, s3, table_service, ca_bundle, requests: Arc::default() })
    }

    /// What is missing to sign a request, if something is. It asks only where the environment says that keys are. A failure
    /// that may pass by itself is none: the requests will show it.
    pub async fn missing_access(&self) -> Option<MissingAccess> {
        if self.config.region().is_none() {
            return Some(MissingAccess::Region);
        }
        let found = match self.config.credentials_provider() {
            Some(provider) => Box::pin(provider.provide_credentials()).await.err(),
            None => return Some(MissingAccess::Key),
        };
        matches!(found, Some(CredentialsError::CredentialsNotLoaded(_))).then_some(MissingAccess::Key)
    }

    /// The same connection without retries, for callers that prefer an error to a wait.
    #[must_use]
    pub fn without_retries(self) -> Self {
        let config = self.config.into_builder().retry_config(RetryConfig::disabled()).build();
        Self { config, ..self }
    }

    /// The service that holds the buckets.
    pub fn s3(&self) -> &S3Service {
        &self.s3
    }

    /// The address of its S3 service; `None` for Amazon's own.
    pub(crate) fn s3_endpoint(&self) -> Option<String> {
        endpoint(&self.config, "S3")
    }

    /// The counts of its requests so far.
    pub fn requests(&self) -> &Arc<RequestStats> {
        &self.requests
    }

    /// The region, if one is known.
    pub fn region(&self) -> Option<&str> {
        self.config.region().map(AsRef::as_ref)
    }

    /// The SDK's configuration, for calls that Mill itself does not make. Those requests are not counted.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The service that holds the tables, by a name that is the same on all hosts.
    pub(crate) fn table_service(&self) -> &str {
        &self.table_service
    }

    pub(crate) fn request_counter(&self) -> RequestCounter {
        RequestCounter(self.requests.clone())
    }
}

/// Services at other addresses than Amazon's need some region name.
fn with_region(config: SdkConfig, access: &ConnectionSettings) -> SdkConfig {
    let elsewhere = access.endpoint.is_some() || endpoint(&config, "S3").is_some();
    match (config.region(), elsewhere) {
        (None, true) => config.into_builder().region(Region::from_static("us-east-1")).build(),
        _ => config,
    }
}

async fn config_loader(access: &ConnectionSettings, ca_bundle: Option<&CaBundle>) -> aws_config::ConfigLoader {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_MAX).read_timeout(ANSWER_MAX).build();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts);
    let http_client = ca_bundle.map(CaBundle::http_client);
    if let Some(http_client) = &http_client {
        loader = loader.http_client(http_client.clone());
    }
    if let Some(endpoint) = &access.endpoint {
        loader = loader.endpoint_url(endpoint);
    }
    if let Some(region) = &access.region {
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &access.profile {
        // By itself, the SDK prefers keys of the environment to those of a profile, even of an explicit one.
        let region = match &access.region {
            Some(region) => Some(Region::new(region.clone())),
            None => DefaultRegionChain::builder().profile_name(profile).build().region().await,
        };
        let reached = ProviderConfig::without_region().with_region(region);
        let reached = match http_client {
            Some(http_client) => reached.with_http_client(http_client),
            None => reached,
        };
        let profile_keys = ProfileFileCredentialsProvider::builder().configure(&reached).profile_name(profile).build();
        loader = loader.profile_name(profile).credentials_provider(profile_keys);
    }
    if let Some(keys) = &access.keys {
        loader = loader.credentials_provider(keys.clone());
    }
    loader
}
