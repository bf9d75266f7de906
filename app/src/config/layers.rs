//! Which value of a setting is in force, and its origin: the environment, else the file, else the default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use toml::de::{DeTable, DeValue};

use super::settings::{Setting, nearest, settings};
use crate::redact::without_password;

/// The origin of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// It is the default.
    Default,
    /// A file.
    File {
        /// Its path.
        path: PathBuf,
        /// The line, from 1; 0 where it is not known.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, .. } => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// There is no configuration file in any of the usual places.
#[derive(Debug, thiserror::Error)]
#[error(
    "no configuration: there is no mill.toml here and none in ~/.config/mill; `mill init` makes one, `--config FILE` names one; \
     for what belongs to a mirror, add `--mirror SOURCE DESTINATION`"
)]
pub struct NoConfigurationError;

/// The text of each setting and its origin. The texts are not parsed yet.
#[derive(Debug, Clone)]
pub struct SettingLayers {
    values: BTreeMap<&'static str, (String, ConfigOrigin)>,
    /// The file, as an absolute path.
    file: PathBuf,
    /// The folder of the file.
    base: PathBuf,
}

impl SettingLayers {
    /// Whether there is a configuration in one of the usual places.
    pub fn are_found() -> bool {
        find().is_some()
    }

    /// Reads the given file, else `./mill.toml`, else the user's file.
    ///
    /// # Errors
    /// There is none, it cannot be read, or it has an unknown setting.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find().ok_or(NoConfigurationError)?,
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the configuration `{}` cannot be read", path.display()))?;
        Self::of(&text, &path, &|name| std::env::var(name).ok())
    }

    pub(super) fn of(text: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut values: BTreeMap<&'static str, (String, ConfigOrigin)> =
            settings().map(|setting| (setting.key, (setting.default.to_owned(), ConfigOrigin::Default))).collect();
        let file: toml::Table =
            toml::from_str(text).with_context(|| format!("the configuration `{}` is malformed", path.display()))?;
        let lines = key_lines(text);
        for (name, value) in &file {
            let is_section = settings().any(|setting| setting.section() == name);
            if value.is_table() && !is_section {
                let line = lines.get(name).copied().unwrap_or(0);
                bail!("`{}` has an unknown section `[{name}]` in line {line}{}", path.display(), meant_section(name));
            }
        }
        for (key, value) in flatten(&file) {
            let line = lines.get(&key).copied().unwrap_or(0);
            let Some(setting) = settings().find(|setting| setting.key == key) else {
                bail!("`{}` has an unknown setting `{key}` in line {line}{}", path.display(), meant_setting(&key));
            };
            values.insert(setting.key, (value, ConfigOrigin::File { path: path.to_owned(), line }));
        }
        for setting in settings() {
            let name = setting.variable();
            if let Some(value) = environment(&name) {
                values.insert(setting.key, (value, ConfigOrigin::Environment(name)));
            }
        }
        let file = std::path::absolute(path)?;
        let base = file.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { values, file, base })
    }

    /// The file, as an absolute path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder that relative paths are relative to.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The names and texts of a section, in the order of the table.
    pub(super) fn section(&self, section: &str) -> impl Iterator<Item = (&'static str, &str)> {
        of_section(section).filter_map(|setting| Some((setting.name(), self.values.get(setting.key)?.0.as_str())))
    }

    /// The message for a value that cannot be read.
    pub(super) fn wrong(&self, section: &str, name: &str, why: &dyn fmt::Display) -> String {
        let key = format!("{section}.{name}");
        let (value, origin) = match self.values.get(&*key) {
            Some((value, origin)) => (value.as_str(), origin),
            None => ("", &ConfigOrigin::Default),
        };
        let line = match origin {
            ConfigOrigin::File { line, .. } => format!(", line {line}"),
            ConfigOrigin::Default | ConfigOrigin::Environment(_) => String::new(),
        };
        format!("setting `{key}` = \"{value}\" (from {origin}{line}): {why}")
    }

    /// Each value, its origin and its meaning, in the order of the documentation.
    pub fn rows(&self) -> impl Iterator<Item = [String; 4]> + '_ {
        settings().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.key)?;
            let value = if setting.key.ends_with("endpoint") { without_password(value) } else { value.clone() };
            Some([setting.key.to_owned(), value, origin.to_string(), setting.about.to_owned()])
        })
    }
}

/// The names and defaults of a section, in the order of the table.
pub(super) fn section_defaults(section: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    of_section(section).map(|setting| (setting.name(), setting.default))
}

fn of_section(section: &str) -> impl Iterator<Item = &'static Setting> {
    settings().filter(move |setting| setting.section() == section)
}

fn find() -> Option<PathBuf> {
    let here = PathBuf::from("mill.toml");
    if here.is_file() {
        return Some(here);
    }
    let user = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?
        .join("mill/mill.toml");
    user.is_file().then_some(user)
}

/// What a person may have meant by an unknown setting: the most similar one, or those of its section.
fn meant_setting(unknown: &str) -> String {
    let section = unknown.split_once('.').map(|(section, _)| section);
    if let Some(near) = nearest(unknown) {
        let elsewhere = match near.split_once('.') {
            Some((other, _)) if section != Some(other) => format!(" It belongs to the section `[{other}]`"),
            _ => String::new(),
        };
        return format!(", did you mean `{near}`?{elsewhere}");
    }
    let known = settings().filter(|setting| section.is_none_or(|section| setting.section() == section));
    let known: Vec<&str> = known.map(|setting| setting.key).collect();
    format!("; known are: {}", known.join(", "))
}

/// What a person may have meant by an unknown section: the most similar one, or those there are.
fn meant_section(unknown: &str) -> String {
    let mut sections: Vec<&str> = settings().map(Setting::section).collect();
    sections.dedup();
    let near = sections.iter().map(|section| (strsim::normalized_damerau_levenshtein(unknown, section), section));
    match near.filter(|(like, _)| *like > 0.6).max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, section)) => format!(", did you mean `[{section}]`?"),
        None => format!("; known are: [{}]", sections.join("], [")),
    }
}

/// The line of each section and each dotted key of a file.
fn key_lines(text: &str) -> BTreeMap<String, usize> {
    fn add(table: &DeTable<'_>, within: &str, text: &str, lines: &mut BTreeMap<String, usize>) {
        for (name, value) in table {
            let key = format!("{within}{}", name.get_ref());
            if let DeValue::Table(inner) = value.get_ref() {
                add(inner, &format!("{key}."), text, lines);
            }
            let before = text.get(..name.span().start).unwrap_or_default();
            lines.insert(key, 1 + before.matches('\n').count());
        }
    }
    let mut lines = BTreeMap::new();
    if let Ok(table) = DeTable::parse(text) {
        add(table.get_ref(), "", text, &mut lines);
    }
    lines
}

/// A table of tables as dotted keys with texts.
fn flatten(table: &toml::Table) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                out.extend(flatten(inner).into_iter().map(|(key, value)| (format!("{name}.{key}"), value)));
            }
            toml::Value::String(text) => out.push((name.clone(), text.clone())),
            toml::Value::Array(items) => {
                let texts: Vec<String> =
                    items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned)).collect();
                out.push((name.clone(), texts.join(",")));
            }
            other => out.push((name.clone(), other.to_string())),
        }
    }
    out
}
