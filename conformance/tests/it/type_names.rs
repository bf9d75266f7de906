//! No two types have the same name: a reader of any name knows the type, and finds it with one search.
//!
//! Looks at `struct`, `enum`, `trait`, `union` and free-standing `type` of every crate's sources, private ones included. Code of
//! tests alone may name its types as it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names that several types have on purpose, with the reason.
const SHARED: &[(&str, &str)] = &[];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let of_tests = name.starts_with("test") || name.ends_with("_tests.rs");
        if path.is_dir() && !of_tests {
            sources(&path, found);
        } else if name.ends_with(".rs") && !of_tests {
            found.push(path);
        }
    }
}

/// The name of the type that a line defines, if it does.
fn defined(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    let is_indented = rest.len() < line.len();
    if let Some(public) = rest.strip_prefix("pub") {
        let public = public.trim_start();
        rest = public
            .strip_prefix('(')
            .map_or(public, |scope| scope.split_once(')').map_or("", |(_, rest)| rest))
            .trim_start();
    }
    let (keyword, rest) = rest.split_once(' ')?;
    // An indented `type` is the associated type of an impl.
    let defines = match keyword {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !is_indented,
        _ => false,
    };
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (defines && name.starts_with(char::is_uppercase)).then_some(name)
}

#[test]
fn a_line_that_defines_a_type_is_told_from_one_that_does_not() {
    assert_eq!(defined("pub(crate) struct Morsel<'a> {"), Some("Morsel"));
    assert_eq!(defined("    enum Step {"), Some("Step"));
    assert_eq!(defined("pub type Body = u8;"), Some("Body"));
    for line in ["    type Error = ();", "/// struct Morsel", "let x = struct_of();", "        $vis struct $name;"] {
        assert_eq!(defined(line), None, "{line}");
    }
}

#[test]
fn no_two_types_of_the_workspace_have_one_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut places: BTreeMap<String, BTreeSet<PathBuf>> = BTreeMap::new();
    for room in super::rooms::folders() {
        let mut files = Vec::new();
        sources(&room.join("src"), &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("a source file");
            let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            for name in code.lines().filter_map(defined) {
                let place = file.strip_prefix(root).unwrap_or(&file).to_owned();
                places.entry(name.to_owned()).or_default().insert(place);
            }
        }
    }
    assert!(places.len() > 500, "only {} types were found: the search is broken", places.len());
    let is_shared = |name: &str| SHARED.iter().any(|(shared, _)| *shared == name);
    let twice: Vec<_> = places.iter().filter(|(name, files)| files.len() > 1 && !is_shared(name)).collect();
    assert!(twice.is_empty(), "rename one of each, or list it in SHARED with the reason: {twice:#?}");
    let idle: Vec<_> =
        SHARED.iter().filter(|(name, _)| places.get(*name).is_none_or(|files| files.len() < 2)).collect();
    assert!(idle.is_empty(), "these are in SHARED, and are not shared any more: {idle:?}");
}
