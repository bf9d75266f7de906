//! What `infra/deploy` says to the binary, the binary knows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::world::{Ran, World};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/deploy")
}

/// Every name that begins as Mill's variables do.
fn variables(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_uppercase() && character != '_')
        .filter(|word| word.starts_with("MILL_"))
        .collect()
}

#[test]
fn the_images_configuration_is_one_and_every_variable_of_the_template_and_the_units_is_a_setting() {
    let config = deploy().join("mill.toml");
    let mut text = String::new();
    for file in ["mill.yaml", "mill.toml", "README.md", "Dockerfile", "host/mill-workman@.service", "host/mill.cron"] {
        text += &std::fs::read_to_string(deploy().join(file)).unwrap();
    }
    let mut names = variables(&text);
    assert!(names.remove("MILL_CONFIG"), "it names the configuration, and is no setting");
    assert!(names.contains("MILL_ENGINE_PREFIX") && names.contains("MILL_WORKMAN_WORKERS"), "{names:?}");
    let world = World::new();
    let mut command = world.command();
    command.env("MILL_CONFIG", &config).args(["config", "show"]);
    for name in &names {
        command.env(name, "1");
    }
    let shown = Ran::of(command.output().unwrap()).expect(0).out;
    for name in names {
        assert!(shown.contains(&format!("environment variable {name}")), "{name} is no setting:\n{shown}");
    }
    assert!(shown.contains(&config.display().to_string()), "nothing comes from the file:\n{shown}");
}
