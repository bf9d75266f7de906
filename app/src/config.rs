//! The configuration: defaults, then `mill.toml`, then the environment, then arguments; each value typed, and with its origin.
//!
//! Reading order: [`settings`] (the one table of all settings), [`layers`] (which value counts), the sections ([`EngineConfig`],
//! [`PoliciesConfig`], [`ProducerConfig`], [`WorkmanConfig`]) over `values` (how a value is read from its text),
//! [`mod@reference`] (the template and the page that the table generates).

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
    /// What queues and tables stand on.
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
    /// Reads the file named, else `./mill.toml`, else the user's.
    ///
    /// # Errors
    /// There is none, it cannot be read, or a setting is unknown or wrong; all wrong ones are named.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        Self::of(&SettingLayers::load(named)?)
    }

    /// The typed values of these layers. Relative paths begin at the folder of the file.
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
            bail!(wrong.join("; "));
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

    /// Where relative paths begin.
    pub fn base(&self) -> &Path {
        &self.base
    }
}

/// A section, if all its values can be read; else `wrong` is told each that cannot.
fn section<T: DeserializeOwned>(name: &str, layers: &SettingLayers, wrong: &mut Vec<String>) -> Option<T> {
    let values: Vec<(&str, &str)> = layers.section(name).collect();
    let read = |values: &[(&str, &str)]| T::deserialize(MapDeserializer::<_, ValueError>::new(values.iter().copied()));
    if let Ok(section) = read(&values) {
        return Some(section);
    }
    // Each value by itself among defaults, which can be read: so all that are wrong are found.
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
