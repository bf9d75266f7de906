//! The binary knows every setting that `infra/deploy` passes to it, and the image has all that the binary needs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::{Ran, World, walk};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../infra/deploy")
}

fn read(file: &str) -> String {
    fs::read_to_string(deploy().join(file)).unwrap()
}

/// Every name with the prefix of Mill's variables.
fn variables(text: &str) -> BTreeSet<&str> {
    text.split(|character: char| !character.is_ascii_uppercase() && character != '_')
        .filter(|word| word.starts_with("MILL_"))
        .collect()
}

#[test]
fn the_images_configuration_is_one_and_every_variable_of_the_template_and_the_units_is_a_setting() {
    let config = deploy().join("mill.toml");
    let files = walk(&deploy()).into_iter().filter(|path| path.is_file());
    let text: String = files.map(|path| fs::read_to_string(path).unwrap()).collect();
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

/// A default of the template.
fn default_of(parameter: &str) -> String {
    let text = read("mill.yaml");
    let (_, of_it) = text.split_once(&format!("\n  {parameter}:\n")).unwrap();
    let value = of_it.lines().find_map(|line| line.trim().strip_prefix("Default: ")).unwrap();
    value.trim_matches('"').to_owned()
}

/// The producer keeps at least two nibbles in the queue while there is more to do, and checks it again before half is
/// gone.
#[test]
fn workmen_are_added_from_a_depth_on_that_the_producer_reaches() {
    let world = World::new();
    world.mill(&["init", "."]).expect(0);
    let settings = world.mill(&["config", "show"]).expect(0).out;
    let setting = |key: &str| {
        let line = settings.lines().find(|line| line.contains(key)).unwrap();
        line.split_whitespace().find_map(|word| word.trim_matches('"').parse::<u64>().ok())
    };
    let nibble = setting("producer.nibble").unwrap();
    let mark: u64 = default_of("LowQueueHighMark").parse().unwrap();
    assert!(mark < nibble, "{mark} waiting tasks of {nibble} at least");
    assert_eq!((default_of("QueueMax").as_str(), setting("producer.queue-max")), ("auto", None));
    let alarm: u64 = default_of("DepthDuplicationLow").parse().unwrap();
    assert!(alarm > 1_000_000, "what the producer itself fills the queue to alarms nobody");
}

/// There may be no tool here to build the image; a script lays out its files, and this test tries them.
#[test]
fn the_image_has_all_that_the_binary_needs_no_shell_and_no_root() {
    let world = World::new();
    let root = world.path("image");
    let mut laid_out = Command::new(deploy().join("image-root"));
    Ran::of(laid_out.arg(env!("CARGO_BIN_EXE_mill")).arg(&root).output().unwrap()).expect(0);
    let mut command = Command::new("chroot");
    command.args(["--userspec=10001:10001"]).arg(&root).args(["/usr/local/bin/mill", "config", "show"]);
    let path = std::env::var_os("PATH").unwrap();
    command.env_clear().env("PATH", path).env("MILL_CONFIG", "/etc/mill/mill.toml");
    let shown = Ran::of(command.output().unwrap()).expect(0).out;
    assert!(shown.contains("/etc/mill/mill.toml"), "{shown}");
    let programs = walk(&root).into_iter().filter(|path| path.parent().is_some_and(|folder| folder.ends_with("bin")));
    assert_eq!(programs.collect::<Vec<_>>(), [root.join("usr/local/bin/mill")]);
    let certificates = fs::read_to_string(root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(certificates.contains("BEGIN CERTIFICATE"));
    let lines = read("Dockerfile");
    assert!(lines.lines().any(|line| line == "USER 10001:10001"), "{lines}");
}

#[test]
fn the_image_is_built_with_the_toolchain_that_the_tests_use() {
    let toolchain = fs::read_to_string(deploy().join("../../rust-toolchain.toml")).unwrap();
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    let lines = read("Dockerfile");
    assert!(lines.contains(&format!("FROM rust:{version}-slim-bookworm AS build")), "{version}");
    assert!(lines.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")), "{version}");
    let manifest = fs::read_to_string(deploy().join("../../Cargo.toml")).unwrap();
    assert!(lines.contains("--profile dist") && manifest.contains("[profile.dist]"));
}
