//! The configuration: defaults, then `mill.toml`, then the environment, then arguments. Each value is typed and has an
//! origin.
//!
//! Reading order: [`settings`] (the table of all settings), [`layers`] (which value is in force), the sections
//! ([`EngineConfig`], [`PoliciesConfig`], [`ProducerConfig`], [`WorkmanConfig`]) over `values` (parses texts),
//! [`mod@reference`] (the template and the page that are generated from the table).

pub mod layers;
pub mod reference;
mod sections;
pub mod settings;
pub(crate) mod values;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;
use serde::de::value::{Error as ValueError, MapDeserializer};

use self::layers::{SettingLayers, section_defaults};
pub use self::sections::{PoliciesConfig, ProducerConfig, WorkmanConfig};
pub use self::values::QueueMax;
pub use crate::engine_choice::{EngineConfig, EngineType};

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The engine of queues and tables.
    pub engine: EngineConfig,
    /// Where the policy files are.
    pub policies: PoliciesConfig,
    /// How a producer works.
    pub producer: ProducerConfig,
    /// How a workman works.
    pub workman: WorkmanConfig,
    file: PathBuf,
    base: PathBuf,
}

impl Config {
    /// Reads the given file, else `./mill.toml`, else the user's file.
    ///
    /// # Errors
    /// There is none, it cannot be read, or a setting is unknown or wrong; all wrong ones are named.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        Self::of(&SettingLayers::load(named)?)
    }

    /// Parses the values of these layers. Relative paths are relative to the file's folder.
    ///
    /// # Errors
    /// A value is wrong; all wrong ones are named.
    pub fn of(layers: &SettingLayers) -> Result<Self> {
        let mut wrong = Vec::new();
        let engine = section::<EngineConfig>("engine", layers, &mut wrong);
        let policies = section::<PoliciesConfig>("policies", layers, &mut wrong);
        let producer = section("producer", layers, &mut wrong);
        let workman = section("workman", layers, &mut wrong);
        let (Some(mut engine), Some(mut policies), Some(producer), Some(workman)) =
            (engine, policies, producer, workman)
        else {
            bail!(match wrong.as_slice() {
                [one] => one.clone(),
                all => format!("{} settings are wrong:\n  {}", all.len(), all.join("\n  ")),
            });
        };
        let base = layers.base().to_owned();
        engine.data = base.join(engine.data);
        policies.folder = base.join(policies.folder);
        Ok(Self { engine, policies, producer, workman, file: layers.file().to_owned(), base })
    }

    /// The file, as an absolute path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that relative paths are relative to.
    pub fn base(&self) -> &Path {
        &self.base
    }
}

impl ProducerConfig {
    /// The defaults of the table of settings.
    ///
    /// # Errors
    /// None: a test reads them.
    pub(crate) fn defaults() -> Result<Self> {
        defaults("producer")
    }
}

impl WorkmanConfig {
    /// The defaults of the table of settings.
    ///
    /// # Errors
    /// None: a test reads them.
    pub(crate) fn defaults() -> Result<Self> {
        defaults("workman")
    }
}

fn defaults<T: DeserializeOwned>(section: &str) -> Result<T> {
    Ok(T::deserialize(MapDeserializer::<_, ValueError>::new(section_defaults(section)))?)
}

/// A section, if all its values can be read; else `wrong` is told each that cannot.
fn section<T: DeserializeOwned>(name: &str, layers: &SettingLayers, wrong: &mut Vec<String>) -> Option<T> {
    let values: Vec<(&str, &str)> = layers.section(name).collect();
    let read = |values: &[(&str, &str)]| T::deserialize(MapDeserializer::<_, ValueError>::new(values.iter().copied()));
    if let Ok(section) = read(&values) {
        return Some(section);
    }
    // Each value is tried alone, with defaults for the others, so that all wrong values are found.
    for (at, (setting, _)) in values.iter().enumerate() {
        let mut alone: Vec<(&str, &str)> = section_defaults(name).collect();
        alone[at] = values[at];
        if let Err(why) = read(&alone) {
            wrong.push(layers.wrong(name, setting, &why));
        }
    }
    None
}

#[cfg(test)]
mod tests;
