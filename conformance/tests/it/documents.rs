//! Each `room::module::item` in a document about today's code exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Documents of today. Decision records and the change log describe their time.
const DOCUMENTS: &[&str] = &["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", "docs"];

/// Whether the path leads from a crate's root to a module, or to a word of the last module on it.
fn is_there(sources: &Path, path: &[&str]) -> bool {
    let (mut folder, mut file) = (sources.to_owned(), sources.join("lib.rs"));
    for (nth, name) in path.iter().enumerate() {
        let deeper = folder.join(name);
        let module = [deeper.with_extension("rs"), deeper.join("mod.rs")].into_iter().find(|file| file.is_file());
        let Some(module) = module else {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let has = |word: &&str| text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|found| found == *word);
            return path[nth..].iter().all(has);
        };
        (folder, file) = (deeper, module);
    }
    true
}

fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut found = Vec::new();
    for name in DOCUMENTS {
        let path = root.join(name);
        if path.is_dir() {
            let inside = fs::read_dir(&path).expect("a folder of documents").flatten().map(|entry| entry.path());
            found.extend(inside.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn every_module_that_a_document_names_is_there() {
    let rooms: BTreeMap<String, PathBuf> = super::rooms::folders()
        .into_iter()
        .map(|folder| (folder.file_name().unwrap_or_default().to_string_lossy().into_owned(), folder.join("src")))
        .collect();
    let mut looked_at = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        for quoted in text.split('`').skip(1).step_by(2) {
            let path: Vec<&str> = quoted.trim_end_matches("()").split("::").collect();
            let crate_name = path[0].strip_prefix("mill_").unwrap_or(path[0]);
            let Some(sources) = rooms.get(crate_name).filter(|_| path.len() > 1) else { continue };
            assert!(is_there(sources, &path[1..]), "{}: there is no `{quoted}`", document.display());
            looked_at += 1;
        }
    }
    assert!(looked_at > 5, "only {looked_at} names were found: the search is broken");
}
