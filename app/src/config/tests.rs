use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::config::layers::SettingLayers;
use crate::config::reference::{settings_page, template};
use crate::config::settings::settings;

fn layers(text: &str, environment: &[(&str, &str)]) -> Result<SettingLayers> {
    let environment: BTreeMap<String, String> =
        environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    SettingLayers::of(text, Path::new("/etc/mill/mill.toml"), &|name| environment.get(name).cloned())
}

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    Config::of(&layers(text, environment)?)
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_default() {
    let (text, environment) = ("[workman]\nworkers = 7\ngrace = \"5s\"", [("MILL_WORKMAN_WORKERS", "9")]);
    let config = load(text, &environment).unwrap();
    assert_eq!(config.workman.workers, 9);
    assert_eq!(config.workman.grace, Duration::from_secs(5));
    assert_eq!(config.producer.nibble.get(), 1_000);
    let layers = layers(text, &environment).unwrap();
    let rows: Vec<[String; 4]> = layers.rows().collect();
    let workers = rows.iter().find(|row| row[0] == "workman.workers").unwrap();
    assert_eq!(workers[2], "environment variable MILL_WORKMAN_WORKERS");
}

#[test]
fn an_unknown_setting_is_named_with_the_nearest_or_those_of_its_section() {
    for (text, unknown, line, meant) in [
        ("[workman]\nworker = 7", "workman.worker", 2, Some("workman.workers")),
        ("workers = 7", "workers", 1, Some("workman.workers")),
        ("\n# é\n[producer]\nqueue_max = 7", "producer.queue_max", 4, Some("producer.queue-max")),
        ("engine.colour = 7", "engine.colour", 1, None),
    ] {
        let error = load(text, &[]).unwrap_err().to_string();
        assert!(error.contains(&format!("`{unknown}` in line {line}")), "{error}");
        match meant {
            Some(meant) => assert!(error.contains(&format!("did you mean `{meant}`?")), "{error}"),
            None => assert!(error.contains("known are: engine.type, ") && !error.contains("producer."), "{error}"),
        }
        let is_elsewhere = error.contains("It belongs to the section `[workman]`");
        assert_eq!(is_elsewhere, unknown == "workers", "{error}");
    }
}

#[test]
fn all_wrong_values_are_named_with_their_origins() {
    let text = "[workman]\nworkers = \"many\"\nidle-backoff = \"1s,soon\"\n[engine]\ntype = \"cloud\"";
    let error = load(text, &[("MILL_PRODUCER_NIBBLE", "0")]).unwrap_err().to_string();
    for named in [
        "setting `workman.workers` = \"many\" (from /etc/mill/mill.toml, line 2): it must be a whole number",
        "setting `workman.idle-backoff` = \"1s,soon\" (from /etc/mill/mill.toml, line 3): ",
        "setting `engine.type` = \"cloud\" (from /etc/mill/mill.toml, line 5): the engines are `local` and `aws`",
        "setting `producer.nibble` = \"0\" (from environment variable MILL_PRODUCER_NIBBLE): it must be 1 or more",
    ] {
        assert!(error.contains(named), "{named}: {error}");
    }
    assert_eq!(error.matches("setting `").count(), 4, "{error}");
}

#[test]
fn an_unknown_section_is_named_even_if_it_is_empty() {
    let error = |text| load(text, &[]).unwrap_err().to_string();
    assert!(error("[workmen]").contains("unknown section `[workmen]` in line 1, did you mean `[workman]`?"));
    assert!(
        error("[colours]\nred = 1").contains("unknown section `[colours]` in line 1; known are: [engine], [policies]")
    );
}

#[test]
fn a_percentage_is_not_more_than_a_hundred_and_a_duration_has_a_unit() {
    let text = "[workman]\nreserved-low = 101\nreserved-high = 100\ngrace = 5";
    let error = load(text, &[]).unwrap_err().to_string();
    assert!(error.contains("`workman.reserved-low` = \"101\""), "{error}");
    assert!(error.contains("a whole number from 0 to 100"), "{error}");
    assert!(error.contains("it must be a duration with its unit, such as `500ms`"), "{error}");
    assert_eq!(error.matches("setting `").count(), 2, "{error}");
}

#[test]
fn every_value_that_can_be_written_in_the_file_is_read() {
    let text = "[workman]\nqueues = [\"audit\", \"duplication-low\"]\nidle-backoff = \"\"\nreserved-low = 7\n\
                [producer]\nqueue-max = 12\n[policies]\nbucket = \"b/p\"\n[engine]\nrole = \"\"";
    let config = load(text, &[]).unwrap();
    assert_eq!(
        config.workman.queues.iter().map(|queue| queue.as_str()).collect::<Vec<_>>(),
        ["audit", "duplication-low"]
    );
    assert_eq!((config.workman.idle_backoff, config.workman.reserved_low), (Vec::new(), 7));
    assert_eq!(config.producer.queue_max, QueueMax::Tasks(12));
    assert_eq!((config.policies.bucket.as_deref(), config.engine.role), (Some("b/p"), None));
}

#[test]
fn paths_are_relative_to_the_file() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.engine.data, Path::new("/etc/mill/data"));
    assert_eq!(config.policies.folder, Path::new("/etc/mill/policies"));
}

#[test]
fn the_template_is_a_configuration_of_defaults() {
    let lines: Vec<String> = template(&[]).lines().map(|line| line.trim_start_matches("# ").to_owned()).collect();
    let uncommented = lines.join("\n");
    let from_sections = uncommented.split_once("\n[").map(|(_, rest)| format!("[{rest}")).unwrap();
    let (written, default) = (load(&from_sections, &[]).unwrap(), load("", &[]).unwrap());
    assert_eq!(format!("{written:?}"), format!("{default:?}"));
    assert_eq!(written.engine.engine_type, EngineType::Local);
}

/// A section refuses a row that it has no field for, and misses one that the table lacks.
#[test]
fn the_sections_have_the_settings_of_the_table_and_each_example_can_be_read() {
    load("", &[]).unwrap();
    for setting in settings() {
        let (example, _) = setting.example;
        let config = load("", &[(&setting.variable(), example)]).unwrap();
        assert_ne!(format!("{config:?}"), format!("{:?}", load("", &[]).unwrap()), "`{}` is read nowhere", setting.key);
    }
}

/// With `MILL_WRITE_DOCS=1` it writes the page instead.
#[test]
fn the_page_of_settings_is_what_their_table_generates() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
    if std::env::var_os("MILL_WRITE_DOCS").is_some() {
        std::fs::write(&page, settings_page()).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(written == settings_page(), "docs/settings.md differs: run this test with MILL_WRITE_DOCS=1");
}

#[test]
fn the_defaults_of_a_section_are_those_of_an_empty_file() {
    let config = load("", &[]).unwrap();
    assert_eq!(WorkmanConfig::defaults().unwrap(), config.workman);
    assert_eq!(ProducerConfig::defaults().unwrap(), config.producer);
}
