//! The engines: their names, their settings, and the crate that opens each. A new engine needs changes here and nowhere
//! else in this room.

#![cfg_attr(not(feature = "aws"), allow(clippy::unused_async, unused_variables))] // the other build awaits and uses them

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use anyhow::Result;
use mill_ports::Engine;
use serde::Deserialize;

#[cfg(feature = "aws")]
use crate::aws;
use crate::config::Config;
use crate::config::settings::Setting;
use crate::config::values;
use crate::host;
use crate::local_state;
use crate::store_registry::InstallationIdentity;
use crate::wait_limit::WaitLimit;

/// Calls the fleet's crate. A build without it returns an error that says so.
#[cfg(feature = "aws")]
macro_rules! with_aws {
    ($call:expr) => {
        $call
    };
}

#[cfg(not(feature = "aws"))]
macro_rules! with_aws {
    ($call:expr) => {
        anyhow::bail!("this mill was built without the feature `aws`: it has neither the fleet engine nor stores in S3")
    };
}

pub(crate) use with_aws;

/// The engines, by their names in `engine.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineType {
    /// SQLite, on this host.
    Local,
    /// SQS and DynamoDB, or compatible services.
    Aws,
}

impl EngineType {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Local, Self::Aws];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Aws => "aws",
        }
    }

    /// Its description for the help text.
    pub fn about(self) -> &'static str {
        match self {
            Self::Local => "SQLite, on this host",
            Self::Aws => "SQS and DynamoDB, or what speaks as they do",
        }
    }

    /// The settings of a new configuration for it, besides the defaults.
    pub fn usual_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Local => &[],
            // Each poll of a queue is a request that costs.
            Self::Aws => {
                &[("engine.type", "aws"), ("engine.prefix", "mill"), ("workman.idle-backoff", "1m,2m,4m,8m,8m")]
            }
        }
    }

    /// What to do after its configuration is created, if anything.
    pub fn next_step(self) -> Option<&'static str> {
        match self {
            Self::Local => None,
            Self::Aws => Some("Queues and tables: deploy them, or `mill infra create`; then `mill infra check`."),
        }
    }
}

impl FromStr for EngineType {
    type Err = UnknownEngine;

    fn from_str(text: &str) -> Result<Self, UnknownEngine> {
        Self::ALL.into_iter().find(|engine| engine.as_str() == text).ok_or(UnknownEngine)
    }
}

/// There is no engine of this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownEngine;

impl fmt::Display for UnknownEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = EngineType::ALL.map(|engine| format!("`{}`", engine.as_str()));
        write!(f, "the engines are {}", names.join(" and "))
    }
}

impl std::error::Error for UnknownEngine {}

/// The engine of queues and tables.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct EngineConfig {
    /// Which engine it is.
    #[serde(rename = "type", deserialize_with = "values::parsed")]
    pub engine_type: EngineType,
    /// The folder of Mill's own state.
    pub data: PathBuf,
    /// The prefix of the names of queues and tables.
    pub prefix: String,
    /// The region; `None` for that of the environment.
    #[serde(deserialize_with = "values::given")]
    pub region: Option<String>,
    /// The services' address; `None` for Amazon's own.
    #[serde(deserialize_with = "values::given")]
    pub endpoint: Option<String>,
    /// A profile of the AWS configuration.
    #[serde(deserialize_with = "values::given")]
    pub profile: Option<String>,
    /// The ARN of a role to assume.
    #[serde(deserialize_with = "values::given")]
    pub role: Option<String>,
}

/// The settings of the section `engine`.
pub(crate) const ENGINE_SETTINGS: &[Setting] = &[
    Setting {
        key: "engine.type",
        default: "local",
        about: "the engine: local (SQLite), or aws (SQS and DynamoDB)",
        example: ("aws", "many hosts that work on the same queues"),
        cost: "aws: each request to SQS and DynamoDB is paid for",
    },
    Setting {
        key: "engine.data",
        default: "data",
        about: "folder of Mill's own state",
        example: ("/var/lib/mill", "a service"),
        cost: "another folder begins anew unless the state is moved there; a relative path begins at the folder of `mill.toml`",
    },
    Setting {
        key: "engine.prefix",
        default: "mill",
        about: "aws: what the names of queues and tables begin with",
        example: ("archive", "two installations in one account"),
        cost: "another prefix is another installation, with queues and tables of its own",
    },
    Setting {
        key: "engine.region",
        default: "",
        about: "aws: the region; empty for that of the environment",
        example: ("eu-central-1", "hosts whose environment names none, or another"),
        cost: "nothing; requests to a distant region take longer",
    },
    Setting {
        key: "engine.endpoint",
        default: "",
        about: "aws: the services' address; empty for Amazon's own",
        example: ("http://10.0.0.7:4566", "services that speak as Amazon's do"),
        cost: "nothing; it may hold no credentials",
    },
    Setting {
        key: "engine.profile",
        default: "",
        about: "aws: a profile of the AWS configuration",
        example: ("archive", "a person with several accounts"),
        cost: "nothing; each host must have the profile",
    },
    Setting {
        key: "engine.role",
        default: "",
        about: "aws: the ARN of a role to take on",
        example: ("arn:aws:iam::111122223333:role/mill", "queues and tables in another account"),
        cost: "a request to STS from time to time",
    },
];

/// Opens the engine of a configuration, for a process that `works` or one that only reads.
///
/// # Errors
/// It cannot be used.
pub async fn open_engine(config: &Config, works: bool, wait_limit: &WaitLimit) -> Result<Arc<dyn Engine>> {
    Ok(match config.engine.engine_type {
        EngineType::Local => Arc::new(local_state::open(config, wait_limit).await?),
        EngineType::Aws => with_aws!(Arc::new(aws::open_engine(config, works).await?)),
    })
}

/// The identity of an installation: where its configuration and its state are, or the names of its fleet.
pub(crate) fn identity(config: &Config) -> InstallationIdentity {
    let engine = &config.engine;
    match engine.engine_type {
        EngineType::Local => {
            let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
            let (host, base, data) = (host::name(), real(config.base()), real(&engine.data));
            InstallationIdentity {
                names: vec![format!("config|{host}|{}", base.display()), format!("data|{host}|{}", data.display())],
                shown: format!("the configuration in `{}`", base.display()),
            }
        }
        EngineType::Aws => {
            let given = |setting: &Option<String>| setting.clone().unwrap_or_default();
            let (prefix, region, endpoint) = (&engine.prefix, given(&engine.region), given(&engine.endpoint));
            InstallationIdentity {
                names: vec![format!("fleet|{prefix}|{region}|{endpoint}")],
                shown: format!("fleet `{prefix}`"),
            }
        }
    }
}

/// Creates what the engine needs and does not exist. Returns a message about it.
///
/// # Errors
/// Something could not be created.
pub async fn create_deployment(config: &Config) -> Result<String> {
    with_aws!(aws::create(config).await)
}

/// How the deployment differs from the code's assumptions: the resource, the aspect, the assumed value, the actual
/// value.
///
/// # Errors
/// A part of it could not be read.
pub async fn check_deployment(config: &Config) -> Result<Vec<[String; 4]>> {
    with_aws!(aws::check(config).await)
}
