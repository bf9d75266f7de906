//! The configuration: defaults, then `mill.toml`, then the environment, then arguments; each value with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::redact::without_password;

/// One setting: its key in the file, its default, what it means.
struct Setting {
    key: &'static str,
    default: &'static str,
    about: &'static str,
}

const SETTINGS: &[Setting] = &[
    Setting { key: "engine.type", default: "local", about: "the engine: local (SQLite), or aws (SQS and DynamoDB)" },
    Setting { key: "engine.data", default: "data", about: "folder of Mill's own state" },
    Setting { key: "engine.prefix", default: "mill", about: "aws: what the names of queues and tables begin with" },
    Setting { key: "engine.region", default: "", about: "aws: the region; empty for that of the environment" },
    Setting { key: "engine.endpoint", default: "", about: "aws: the services' address; empty for Amazon's own" },
    Setting { key: "engine.profile", default: "", about: "aws: a profile of the AWS configuration" },
    Setting { key: "engine.role", default: "", about: "aws: the ARN of a role to take on" },
    Setting { key: "policies.folder", default: "policies", about: "folder of policy files" },
    Setting {
        key: "policies.bucket",
        default: "",
        about: "bucket of policy files instead, or BUCKET/PREFIX; reached as the engine is",
    },
    Setting { key: "policies.refresh", default: "5m", about: "how old a policy in use may be" },
    Setting {
        key: "producer.frequency",
        default: "1d",
        about: "from the start of an account's loop to that of its next",
    },
    Setting {
        key: "producer.queue-max",
        default: "auto",
        about: "tasks queued at most; auto for as many as keep all workmen busy until the producer looks again",
    },
    Setting { key: "producer.nibble", default: "1000", about: "items of a space queued in one turn" },
    Setting { key: "workman.workers", default: "64", about: "items in hand at once; 0 for no limit" },
    Setting {
        key: "workman.queues",
        default: "duplication-high,duplication-low",
        about: "queues served, highest priority first",
    },
    Setting { key: "workman.visibility", default: "60s", about: "how long a task in hand stays hidden from others" },
    Setting { key: "workman.failures-max", default: "3", about: "failed executions before a task is given up" },
    Setting { key: "workman.reserved-low", default: "0", about: "per cent of workers kept for the lowest queue" },
    Setting { key: "workman.reserved-high", default: "5", about: "per cent of workers kept for the higher queues" },
    Setting {
        key: "workman.idle-backoff",
        default: "100ms,200ms,500ms,1s",
        about: "pauses of the lower queues while nothing is found (where requests cost: 1m,2m,4m,8m,8m)",
    },
    Setting { key: "workman.grace", default: "30s", about: "how long a gentle stop waits for items in hand" },
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOrigin {
    /// It is the default.
    Default,
    /// This file.
    File(PathBuf),
    /// The environment variable of this name.
    Environment(String),
}

impl fmt::Display for ConfigOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    values: BTreeMap<&'static str, (String, ConfigOrigin)>,
    /// The file, as an absolute path.
    file: PathBuf,
    /// Folder that relative paths are relative to: that of the file.
    base: PathBuf,
}

impl Config {
    /// Reads the file named, else `./mill.toml`, else the user's.
    pub fn load(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find().context(
                "no configuration: there is no mill.toml here and none in ~/.config/mill; `mill init` makes one, \
                 `--config FILE` names one",
            )?,
        };
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("the configuration `{}` cannot be read", path.display()))?;
        Self::of(&text, &path, &|name| std::env::var(name).ok())
    }

    fn of(text: &str, path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let mut values: BTreeMap<&'static str, (String, ConfigOrigin)> =
            SETTINGS.iter().map(|setting| (setting.key, (setting.default.to_owned(), ConfigOrigin::Default))).collect();
        let file: toml::Table =
            toml::from_str(text).with_context(|| format!("the configuration `{}` is malformed", path.display()))?;
        for (key, value) in flatten(&file) {
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                let known: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
                bail!("`{}` has an unknown setting `{key}`; known are: {}", path.display(), known.join(", "));
            };
            values.insert(setting.key, (value, ConfigOrigin::File(path.to_owned())));
        }
        for setting in SETTINGS {
            let name = variable(setting.key);
            if let Some(value) = environment(&name) {
                values.insert(setting.key, (value, ConfigOrigin::Environment(name)));
            }
        }
        let file = std::path::absolute(path)?;
        let base = file.parent().unwrap_or(Path::new("/")).to_owned();
        Ok(Self { values, file, base })
    }

    /// A value as text.
    pub fn text(&self, key: &'static str) -> &str {
        self.values.get(key).map_or("", |(value, _)| value)
    }

    fn wrong(&self, key: &'static str, why: &dyn fmt::Display) -> anyhow::Error {
        let origin = self.values.get(key).map_or(&ConfigOrigin::Default, |(_, origin)| origin);
        anyhow::anyhow!("setting `{key}` = \"{}\" (from {origin}): {why}", self.text(key))
    }

    /// A value of a type that reads itself from text.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&self, key: &'static str) -> Result<T> {
        self.text(key).parse().map_err(|why| self.wrong(key, &why))
    }

    /// A duration such as `90s`, `5m`, `1d`.
    pub fn duration(&self, key: &'static str) -> Result<Duration> {
        humantime::parse_duration(self.text(key)).map_err(|why| self.wrong(key, &why))
    }

    /// Durations with commas.
    pub fn durations(&self, key: &'static str) -> Result<Vec<Duration>> {
        let parts = self.text(key).split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| humantime::parse_duration(part).map_err(|why| self.wrong(key, &why))).collect()
    }

    /// A path, relative to the file.
    pub fn path(&self, key: &'static str) -> PathBuf {
        self.base.join(self.text(key))
    }

    /// A list with commas.
    pub fn list<T: FromStr<Err: fmt::Display>>(&self, key: &'static str) -> Result<Vec<T>> {
        self.text(key)
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(|part| part.parse().map_err(|why| self.wrong(key, &why)))
            .collect()
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Where relative paths begin.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Each value, its origin and its meaning, in the order of the documentation.
    pub fn rows(&self) -> impl Iterator<Item = [String; 4]> + '_ {
        SETTINGS.iter().filter_map(|setting| {
            let (value, origin) = self.values.get(setting.key)?;
            let value = if setting.key.ends_with("endpoint") { without_password(value) } else { value.clone() };
            Some([setting.key.to_owned(), value, origin.to_string(), setting.about.to_owned()])
        })
    }
}

/// The environment variable of a setting: `MILL_WORKMAN_WORKERS`.
fn variable(key: &str) -> String {
    format!("MILL_{}", key.replace(['.', '-'], "_").to_uppercase())
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

/// The file that `mill init` writes: every setting with its default, commented out, but for those that are set.
pub fn template(set: &[(&str, &str)]) -> String {
    let mut out = String::from(
        "# Configuration of Mill. Every setting is shown with its default; take off the `#` to change one.\n\
         # `mill config show` tells each value and where it comes from.\n",
    );
    let mut section = "";
    for setting in SETTINGS {
        let (head, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
        if head != section {
            out.extend(["\n[", head, "]\n"]);
            section = head;
        }
        let set = set.iter().find(|(key, _)| *key == setting.key).map(|(_, value)| *value);
        let text = set.unwrap_or(setting.default);
        let value = match text.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => format!("\"{text}\""),
        };
        let mark = if set.is_some() { "" } else { "# " };
        out.extend([mark, name, " = ", &value, "    # ", setting.about, "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Config::of(text, Path::new("/etc/mill/mill.toml"), &|name| environment.get(name).cloned())
    }

    #[test]
    fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
        let config = load("[workman]\nworkers = 7\ngrace = \"5s\"", &[("MILL_WORKMAN_WORKERS", "9")]).unwrap();
        assert_eq!(config.parsed::<u32>("workman.workers").unwrap(), 9);
        assert_eq!(config.duration("workman.grace").unwrap(), Duration::from_secs(5));
        assert_eq!(config.text("producer.nibble"), "1000");
        let rows: Vec<[String; 4]> = config.rows().collect();
        let workers = rows.iter().find(|row| row[0] == "workman.workers").unwrap();
        assert_eq!(workers[2], "environment variable MILL_WORKMAN_WORKERS");
    }

    #[test]
    fn an_unknown_setting_is_named_with_those_there_are() {
        let error = load("[workman]\nworker = 7", &[]).unwrap_err().to_string();
        assert!(error.contains("workman.worker`") && error.contains("workman.workers"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_origin() {
        let config = load("[workman]\nworkers = \"many\"", &[]).unwrap();
        let error = config.parsed::<u32>("workman.workers").unwrap_err().to_string();
        assert!(error.contains("many") && error.contains("/etc/mill/mill.toml"), "{error}");
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        assert_eq!(load("", &[]).unwrap().path("engine.data"), Path::new("/etc/mill/data"));
    }

    #[test]
    fn the_template_is_a_configuration_of_defaults() {
        let lines: Vec<String> = template(&[]).lines().map(|line| line.trim_start_matches("# ").to_owned()).collect();
        let uncommented = lines.join("\n");
        let from_sections = uncommented.split_once("\n[").map(|(_, rest)| format!("[{rest}")).unwrap();
        let config = load(&from_sections, &[]).unwrap();
        assert_eq!(config.text("engine.type"), "local");
    }
}
